//! Tests the removal of a key from a key set. Its tokens are refused within two minutes, even if no request
//! needs a new key in that time.

use std::time::{Duration, Instant};

use super::*;

/// The time that the documentation promises.
const REFUSED_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_removed_key_are_refused_within_two_minutes_and_others_are_not() {
    let (kept, removed) = (Pair::of(Algorithm::ES256), Pair::of(Algorithm::EdDSA));
    let both = set(vec![kept.jwk("kept"), removed.jwk("removed")]);
    let issuer = Issuer::start(&both).await;
    let (_dir, path) = file(&both);
    let path = path.unwrap();
    let from_url = server(Keys::load(&[], Some(issuer.url.clone()), Vec::new(), None).await.unwrap()).await;
    let from_file = server(Keys::load(&[], Some(path.clone()), Vec::new(), None).await.unwrap()).await;
    let (kept_token, removed_token) = (kept.sign("kept", &claims()), removed.sign("removed", &claims()));
    let is_accepted = async |server: &TestServer, token: &str| status(server, token).await == 200;
    for server in [&from_url, &from_file] {
        assert!(is_accepted(server, &kept_token).await && is_accepted(server, &removed_token).await);
    }
    let left = set(vec![kept.jwk("kept")]).to_string();
    std::fs::write(&path, &left).unwrap();
    issuer.respond_with(200, &left);
    for server in [&from_url, &from_file] {
        eventually_within(REFUSED_WITHIN, || async { !is_accepted(server, &removed_token).await }).await;
        assert!(is_accepted(server, &kept_token).await, "the other key stays");
    }
    // This also holds for the last key of the set.
    let none = set([]).to_string();
    std::fs::write(&path, &none).unwrap();
    issuer.respond_with(200, &none);
    for server in [from_url, from_file] {
        eventually_within(REFUSED_WITHIN, || async { !is_accepted(&server, &kept_token).await }).await;
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_key_set_is_confirmed_by_its_entity_tag() {
    let rsa = Pair::of(Algorithm::RS256);
    let issuer = Issuer::start(&set([rsa.jwk("first")])).await;
    let time_ms = Arc::new(AtomicI64::new(Clock::System.now_ms()));
    let keys = Keys::load(&[], Some(issuer.url.clone()), Vec::new(), None).await.unwrap();
    let server = TestServer::open_with(DatabaseKind::Sqlite, keys, Clock::Fixed(Arc::clone(&time_ms))).await;
    time_ms.fetch_add(60_000, Ordering::SeqCst);
    assert_refused(&server, &rsa.sign("unknown", &claims()), "an unknown kid").await;
    assert_eq!(issuer.not_modified(), 1);
    assert_valid(&server, &rsa.sign("first", &claims())).await;
    server.end().await;
}

async fn status(server: &TestServer, token: &str) -> u16 {
    let body = json!({ "query": "{ viewer { userId } }" });
    let request = server.http.post(format!("{}/graphql", server.url)).bearer_auth(token).json(&body);
    request.send().await.unwrap().status().as_u16()
}

async fn eventually_within<F: Future<Output = bool>>(most: Duration, mut holds: impl FnMut() -> F) {
    let started_at = Instant::now();
    while !holds().await {
        assert!(started_at.elapsed() < most, "not within {most:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
