//! Tests which tokens are accepted: those of several secrets and of key sets. All refusals have one response.

mod issuer;
mod key_pair;
mod key_removal;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use api::Keys;
use futures::future::{join, join_all};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use service::Clock;
use tempfile::TempDir;

use crate::harness::{DatabaseKind, SECRET, TestServer, eventually, new_id};
use issuer::Issuer;
use key_pair::{ALGORITHMS, PAIRS, Pair, name};

const OTHER_SECRET: &str = "another secret of the tests, 32 bytes";
/// Returns a key set with one key of each algorithm. The name of the algorithm is the `kid`.
fn jwks() -> Value {
    set(PAIRS.iter().map(|pair| pair.jwk(&name(pair.algorithm))))
}

fn set(keys: impl IntoIterator<Item = Value>) -> Value {
    json!({ "keys": keys.into_iter().collect::<Vec<_>>() })
}

fn now() -> i64 {
    Clock::System.now_ms() / 1_000
}

fn claims() -> Value {
    json!({ "sub": "ann", "exp": now() + 3_600 })
}

/// Returns valid claims with some of them changed. Null removes a claim.
fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn sign(secret: &str, claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

async fn server(keys: Keys) -> TestServer {
    TestServer::open_with(DatabaseKind::Sqlite, keys, Clock::System).await
}

async fn server_of_secrets(secrets: &[&str]) -> TestServer {
    let secrets: Vec<_> = secrets.iter().map(|&secret| secret.to_owned()).collect();
    server(Keys::load(&secrets, None, Vec::new(), None).await.unwrap()).await
}

/// Writes a key set to a file. Returns its folder and its path.
fn file(set: &Value) -> (TempDir, Option<String>) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, set.to_string()).unwrap();
    (dir, Some(path.to_str().unwrap().to_owned()))
}

async fn ask(server: &TestServer, token: Option<&str>) -> (u16, String) {
    let request = server.http.post(format!("{}/graphql", server.url)).header("x-request-id", "same");
    let request = request.json(&json!({ "query": "{ viewer { userId } }" }));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let response = request.send().await.unwrap();
    let challenge = response.headers().get("www-authenticate").map(|it| it.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    assert_eq!(challenge.as_deref(), (status == 401).then_some("Bearer realm=\"idem\""));
    (status, response.text().await.unwrap())
}

/// Fails unless the token is accepted. Returns the id of its user.
async fn assert_valid(server: &TestServer, token: &str) -> String {
    let (status, body) = ask(server, Some(token)).await;
    assert_eq!(status, 200, "{body}");
    let response: Value = serde_json::from_str(&body).unwrap();
    response["data"]["viewer"]["userId"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

/// Fails unless the token is refused with the response that a request without a token gets.
async fn assert_refused(server: &TestServer, token: &str, why: &str) {
    let (status, body) = ask(server, Some(token)).await;
    assert_eq!(status, 401, "{why}: {body}");
    assert_eq!(body, ask(server, None).await.1, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_several_secrets_verifies_and_the_first_one_signs() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("secrets"), format!("{OTHER_SECRET}\n{SECRET}\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
        .args(["token", "--subject", "ann"])
        .current_dir(dir.path())
        .env("IDEM_DATA_DIR", dir.path())
        .env("IDEM_JWT_SECRET_FILE", dir.path().join("secrets"))
        .output()
        .unwrap();
    let signed = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let both = server_of_secrets(&[OTHER_SECRET, SECRET]).await;
    let by_first = assert_valid(&both, &signed).await;
    assert_eq!(by_first, assert_valid(&both, &sign(OTHER_SECRET, &claims())).await);
    assert_eq!(by_first, assert_valid(&both, &sign(SECRET, &claims())).await);
    assert_refused(&both, &sign("a third secret of 32 bytes or more", &claims()), "a third secret").await;
    let second = server_of_secrets(&[SECRET]).await;
    assert_refused(&second, &signed, "the second does not sign").await;
    both.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_from_a_file_and_from_a_url_each_verify_their_own_algorithm() {
    let issuer = Issuer::start(&jwks()).await;
    let (_dir, path) = file(&jwks());
    for source in [path, Some(issuer.url.clone())] {
        let server = server(Keys::load(&[], source, Vec::new(), None).await.unwrap()).await;
        let mut users = Vec::new();
        for pair in PAIRS.iter() {
            users.push(assert_valid(&server, &pair.sign(&name(pair.algorithm), &claims())).await);
            let mut forged = pair.sign(&name(pair.algorithm), &claims());
            let last = if forged.pop() == Some('A') { 'Q' } else { 'A' };
            forged.push(last);
            assert_refused(&server, &forged, "another signature").await;
            let forged = Pair::make(pair.algorithm).sign(&name(pair.algorithm), &claims());
            assert_refused(&server, &forged, "another key of that name").await;
        }
        users.dedup();
        assert_eq!(users.len(), 1, "the user does not depend on the key");
        server.end().await;
    }
    assert_eq!(issuer.fetches(), 1, "known keys are not fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn usable_keys_of_a_set_are_used_and_keys_of_other_kinds_are_ignored() {
    let mut keys: Vec<_> = PAIRS.iter().map(|pair| pair.jwk(&name(pair.algorithm))).collect();
    for key in &mut keys {
        key.as_object_mut().unwrap().remove("alg").unwrap();
    }
    let change = |kid: &str, name: &str, value: &str| {
        let mut key = Pair::of(Algorithm::RS256).jwk(kid);
        key[name] = json!(value);
        key
    };
    keys.push(change("encrypts", "use", "enc"));
    keys.push(change("other", "alg", "PS256"));
    keys.push(change("signs", "use", "sig"));
    keys.push(json!({ "kty": "NEW", "kid": "new", "alg": "ML-DSA-44", "pub": "x" }));
    keys.push(json!({ "kty": "oct", "kid": "secret", "alg": "HS256", "k": "c2VjcmV0" }));
    keys.push(json!({ "kty": "EC", "kid": "curve", "crv": "P-384", "x": "AAAA", "y": "AAAA" }));
    let (_dir, path) = file(&set(keys));
    let server = server(Keys::load(&[], path, Vec::new(), None).await.unwrap()).await;
    for pair in PAIRS.iter() {
        assert_valid(&server, &pair.sign(&name(pair.algorithm), &claims())).await;
    }
    let rsa = Pair::of(Algorithm::RS256);
    assert_valid(&server, &rsa.sign("signs", &claims())).await;
    for kid in ["encrypts", "other", "new", "secret", "curve"] {
        assert_refused(&server, &rsa.sign(kid, &claims()), kid).await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_is_fetched_again_at_most_once_a_minute() {
    let rsa = Pair::of(Algorithm::RS256);
    let issuer = Issuer::start(&set([rsa.jwk("first")])).await;
    let time_ms = Arc::new(AtomicI64::new(Clock::System.now_ms()));
    let keys = Keys::load(&[], Some(issuer.url.clone()), Vec::new(), None).await.unwrap();
    let server = TestServer::open_with(DatabaseKind::Sqlite, keys, Clock::Fixed(Arc::clone(&time_ms))).await;
    let first = rsa.sign("first", &claims());
    for _ in 0..3 {
        assert_refused(&server, &rsa.sign("unknown", &claims()), "an unknown kid").await;
        assert_refused(&server, &rsa.sign("unknown too", &claims()), "another unknown kid").await;
        assert_valid(&server, &first).await;
    }
    assert_eq!(issuer.fetches(), 2);
    issuer.respond_with(200, &set([rsa.jwk("second")]).to_string());
    time_ms.fetch_add(59_999, Ordering::SeqCst);
    assert_refused(&server, &rsa.sign("second", &claims()), "new, within the minute").await;
    assert_eq!(issuer.fetches(), 2);
    time_ms.fetch_add(1, Ordering::SeqCst);
    assert_valid(&server, &rsa.sign("second", &claims())).await;
    assert_refused(&server, &first, "its key was withdrawn").await;
    assert_eq!(issuer.fetches(), 3);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_fetched_once_for_all_requests_that_wait_for_it() {
    let rsa = Pair::of(Algorithm::RS256);
    let issuer = Issuer::start(&set([rsa.jwk("first")])).await;
    let server = server(Keys::load(&[], Some(issuer.url.clone()), Vec::new(), None).await.unwrap()).await;
    issuer.respond_with(200, &set([rsa.jwk("first"), rsa.jwk("second")]).to_string());
    let token = rsa.sign("second", &claims());
    let held = issuer.hold().await;
    let release = async {
        eventually("the set is fetched", || async { issuer.fetches() == 2 }).await;
        // A token with a known key does not wait for the fetch.
        assert_valid(&server, &rsa.sign("first", &claims())).await;
        drop(held);
    };
    join(release, join_all((0..32).map(|_| assert_valid(&server, &token)))).await;
    assert_eq!(issuer.fetches(), 2);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_that_cannot_be_fetched_again_leaves_the_known_keys_in_use() {
    let rsa = Pair::of(Algorithm::RS256);
    let issuer = Issuer::start(&set([rsa.jwk("first")])).await;
    let time_ms = Arc::new(AtomicI64::new(Clock::System.now_ms()));
    let keys = Keys::load(&[], Some(issuer.url.clone()), Vec::new(), None).await.unwrap();
    let server = TestServer::open_with(DatabaseKind::Sqlite, keys, Clock::Fixed(Arc::clone(&time_ms))).await;
    let long = " ".repeat(2 << 20);
    for (status, body) in [(500, ""), (200, "no set"), (200, &long)] {
        issuer.respond_with(status, body);
        time_ms.fetch_add(60_000, Ordering::SeqCst);
        let before = issuer.fetches();
        assert_refused(&server, &rsa.sign("unknown", &claims()), "an unknown kid").await;
        assert_eq!(issuer.fetches(), before + 1);
        assert_valid(&server, &rsa.sign("first", &claims())).await;
        assert!(Keys::load(&[], Some(issuer.url.clone()), Vec::new(), None).await.is_err(), "no start");
    }
    assert!(Keys::load(&[], Some("/nowhere/jwks.json".to_owned()), Vec::new(), None).await.is_err());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cannot_choose_another_algorithm_than_that_of_its_key() {
    let (_dir, path) = file(&jwks());
    let server = server(Keys::load(&[SECRET.to_owned()], path, Vec::new(), None).await.unwrap()).await;
    assert_valid(&server, &sign(SECRET, &claims())).await;
    for pair in PAIRS.iter() {
        let kid = name(pair.algorithm);
        let jwk = pair.jwk(&kid);
        let (public, text) = (pair.public.clone(), jwk.to_string());
        let part = |name: &str| jwk[name].as_str().unwrap_or_default().to_owned();
        for bytes in [public.trim().to_owned(), public, text, part("n"), part("x")] {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some(kid.clone());
            let key = EncodingKey::from_secret(bytes.as_bytes());
            assert_refused(&server, &encode(&header, &claims(), &key).unwrap(), "the public key as a secret")
                .await;
        }
        for other in ALGORITHMS.into_iter().filter(|other| *other != pair.algorithm) {
            assert_refused(&server, &pair.sign(&name(other), &claims()), "the key of another algorithm")
                .await;
        }
        let unnamed = encode(&Header::new(pair.algorithm), &claims(), &pair.private).unwrap();
        assert_refused(&server, &unnamed, "no kid").await;
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = encode(&Header::new(algorithm), &claims(), &key).unwrap();
        assert_refused(&server, &token, "a longer hash").await;
    }
    let signed = sign(SECRET, &claims());
    let parts: Vec<_> = signed.split('.').collect();
    // {"alg":"none"}, {"alg":"None"}, {}
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIn0", "e30"] {
        for signature in ["", parts[2]] {
            assert_refused(&server, &format!("{header}.{}.{signature}", parts[1]), "no algorithm").await;
        }
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_token_is_refused_like_an_invalid_one_on_every_route() {
    let server = server_of_secrets(&[SECRET]).await;
    let mut critical = Header::new(Algorithm::HS256);
    critical.crit = Some(vec!["exp".to_owned()]);
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let critical = encode(&critical, &claims(), &key).unwrap();
    let long = "x".repeat(8_000);
    let bad = ["", ".", "..", "a.b.c", "a.b.c.d", "eyJhbGciOiJIUzI1NiJ9..", &long, &critical];
    let payload = format!("{}/imports/019a0000-0000-7000-8000-000000000000/payload", server.url);
    let mut bodies = BTreeMap::new();
    for token in bad {
        assert_refused(&server, token, token).await;
        for scheme in ["Bearer ", "bearer ", "Basic ", ""] {
            let request = server.http.put(&payload).header("authorization", format!("{scheme}{token}"));
            let response = request.header("x-request-id", "same").send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"idem\"");
            assert_eq!(response.status(), 401);
            *bodies.entry(response.text().await.unwrap()).or_insert(0) += 1;
        }
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let response: Value = serde_json::from_str(&ask(&server, None).await.1).unwrap();
    let problem = &response["errors"][0]["extensions"]["problem"];
    assert_eq!((&problem["status"], &problem["retryable"]), (&json!(401), &json!(true)), "{response}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exp_and_sub_are_required_and_times_have_thirty_seconds_of_leeway() {
    let server = server_of_secrets(&[SECRET]).await;
    // The margins are for a slow machine: 10 s after an expiry, and 30 s before a token becomes valid.
    let good = [
        json!({}),
        json!({ "exp": now() + 3_600, "nbf": now() - 3_600 }),
        json!({ "exp": now() - 20 }),
        json!({ "nbf": now() + 29 }),
        json!({ "aud": "anybody", "iss": "anybody" }),
        json!({ "sub": "ann@example.com 🏃", "scope": ["a"], "nested": { "exp": 0 } }),
    ];
    for changes in good {
        assert_valid(&server, &sign(SECRET, &claims_with(changes))).await;
    }
    let bad = [
        json!({ "exp": null }),
        json!({ "exp": now() - 31 }),
        json!({ "exp": 0 }),
        json!({ "exp": -1 }),
        json!({ "exp": "4102444800" }),
        json!({ "nbf": now() + 60 }),
        json!({ "nbf": "0" }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "sub": 7 }),
        json!({ "sub": ["ann"] }),
        json!({ "sub": "a\u{0}nn" }),
        json!({ "iss": ["a"] }),
    ];
    for changes in bad {
        assert_refused(&server, &sign(SECRET, &claims_with(changes.clone())), &changes.to_string()).await;
    }
    let end = now() + 10;
    let known = sign(SECRET, &claims_with(json!({ "exp": end - 30 })));
    assert_valid(&server, &known).await;
    eventually("a cached token expires too", || async { ask(&server, Some(&known)).await.0 == 401 }).await;
    assert!(now() > end, "not before its leeway is over");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_and_audience_are_checked_where_they_are_configured() {
    let issuers = vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
    let keys = Keys::load(&[SECRET.to_owned()], None, issuers, Some("idem".to_owned())).await.unwrap();
    let server = server(keys).await;
    let (a, b) = ("https://a.example", "https://b.example");
    let first = assert_valid(&server, &sign(SECRET, &claims_with(json!({ "iss": a, "aud": "idem" })))).await;
    let list = json!({ "iss": b, "aud": ["x", "idem"] });
    let second = assert_valid(&server, &sign(SECRET, &claims_with(list))).await;
    assert_ne!(first, second, "the same subject of another issuer is another user");
    let bad = [
        json!({ "aud": "idem" }),
        json!({ "iss": a }),
        json!({ "iss": "https://c.example", "aud": "idem" }),
        json!({ "iss": "https://a.example/", "aud": "idem" }),
        json!({ "iss": [a], "aud": "idem" }),
        json!({ "iss": a, "aud": "other" }),
        json!({ "iss": a, "aud": [] }),
        json!({ "iss": a, "aud": ["Idem"] }),
        json!({ "iss": a, "aud": 7 }),
    ];
    for changes in bad {
        assert_refused(&server, &sign(SECRET, &claims_with(changes.clone())), &changes.to_string()).await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sub_and_iss_may_each_have_at_most_1024_bytes() {
    // The digits are random, because PostgreSQL limits the size of an index entry after compression.
    let mut text = String::new();
    while text.len() < 1_024 {
        text.push_str(&new_id()[24..]);
    }
    let longest = &text[..1_024];
    for database_kind in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
        let keys = Keys::load(&[SECRET.to_owned()], None, Vec::new(), None).await.unwrap();
        let server = TestServer::open_with(database_kind, keys, Clock::System).await;
        let token = |sub: &str, iss: &str| sign(SECRET, &claims_with(json!({ "sub": sub, "iss": iss })));
        let user = assert_valid(&server, &token(longest, longest)).await;
        assert_eq!(assert_valid(&server, &token(longest, longest)).await, user);
        assert_refused(&server, &token(&format!("{longest}x"), "a"), "a longer sub").await;
        assert_refused(&server, &token("ann", &format!("{longest}x")), "a longer iss").await;
        server.end().await;
    }
}
