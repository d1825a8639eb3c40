//! A key that the issuer has removed: its tokens are refused within two minutes, though nothing else asks for the set.

use std::time::{Duration, Instant};

use super::*;

/// What is promised.
const REFUSED_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_removed_key_are_refused_within_two_minutes_and_others_are_not() {
    let (stays, goes) = (Pair::of(Algorithm::ES256), Pair::of(Algorithm::EdDSA));
    let both = set(vec![stays.jwk("stays"), goes.jwk("goes")]);
    let issuer = Issuer::start(&both).await;
    let (_dir, path) = file(&both);
    let path = path.unwrap();
    let from_url = server(Keys::load(&[], Some(issuer.url.clone()), Vec::new(), None).await.unwrap()).await;
    let from_file = server(Keys::load(&[], Some(path.clone()), Vec::new(), None).await.unwrap()).await;
    let (of_stays, of_goes) = (stays.sign("stays", &claims()), goes.sign("goes", &claims()));
    let is_taken = async |server: &TestServer, token: &str| status(server, token).await == 200;
    for server in [&from_url, &from_file] {
        assert!(is_taken(server, &of_stays).await && is_taken(server, &of_goes).await);
    }
    let left = set(vec![stays.jwk("stays")]).to_string();
    std::fs::write(&path, &left).unwrap();
    issuer.answer(200, &left);
    for server in [&from_url, &from_file] {
        eventually_within(REFUSED_WITHIN, || async { !is_taken(server, &of_goes).await }).await;
        assert!(is_taken(server, &of_stays).await, "the other key stays");
    }
    // Even the last one.
    let none = set([]).to_string();
    std::fs::write(&path, &none).unwrap();
    issuer.answer(200, &none);
    for server in [from_url, from_file] {
        eventually_within(REFUSED_WITHIN, || async { !is_taken(&server, &of_stays).await }).await;
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_the_one_it_has_needs_no_second_answer() {
    let rsa = Pair::of(Algorithm::RS256);
    let issuer = Issuer::start(&set([rsa.jwk("first")])).await;
    let time_ms = Arc::new(AtomicI64::new(Clock::System.now_ms()));
    let keys = Keys::load(&[], Some(issuer.url.clone()), Vec::new(), None).await.unwrap();
    let server = TestServer::open_with(Column::Sqlite, keys, Clock::Fixed(Arc::clone(&time_ms))).await;
    time_ms.fetch_add(60_000, Ordering::SeqCst);
    assert_refused(&server, &rsa.sign("unknown", &claims()), "an unknown kid").await;
    assert_eq!(issuer.unchanged(), 1);
    assert_taken(&server, &rsa.sign("first", &claims())).await;
    server.end().await;
}

async fn status(server: &TestServer, token: &str) -> u16 {
    let body = json!({ "query": "{ viewer { userId } }" });
    let request = server.http.post(format!("{}/graphql", server.url)).bearer_auth(token).json(&body);
    request.send().await.unwrap().status().as_u16()
}

async fn eventually_within<F: Future<Output = bool>>(most: Duration, mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < most, "not within {most:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
