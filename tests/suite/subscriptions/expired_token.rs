//! Following: a token that ends is no end of the sync.

use std::time::Duration;

use serde_json::json;
use service::Clock;

use crate::harness::{CHANGES, SECRET, Socket, TestServer, event, eventually, on_both};

on_both!(a_token_that_ends_closes_the_socket_for_now_and_the_sync_goes_on_from_the_cursor);

/// A token that is good for so many seconds more, the leeway of 30 s included.
fn token(left_s: i64) -> String {
    let (ttl, now_ms) = (Duration::from_secs(60), Clock::System.now_ms());
    idem::sign_token(SECRET, "ann", None, None, ttl, now_ms + (left_s - 30 - 60) * 1_000).unwrap()
}

async fn a_token_that_ends_closes_the_socket_for_now_and_the_sync_goes_on_from_the_cursor(
    server: &TestServer,
) {
    let writer = server.client("ann");
    let kind = writer.event_type("run").await;
    let (_, start) = writer.pull(None, 100).await;
    let mut follower = server.client("ann");
    follower.token = token(6);
    let mut socket = Socket::open(&follower).await;
    socket.follow("1", &start).await;
    let seen = event(&kind);
    writer.create(std::slice::from_ref(&seen)).await;
    let (changes, cursor) = socket.changes(1).await;
    assert_eq!(changes[0]["entityId"], seen["id"]);
    assert_eq!(socket.closed().await, 4403);
    eventually("the token is good for nothing", || async {
        let query = json!({ "query": "{ viewer { userId } }" });
        let request = follower.http.post(format!("{}/graphql", server.url)).bearer_auth(&follower.token);
        request.json(&query).send().await.unwrap().status() == 401
    })
    .await;
    // WriteAnswer while nobody follows, and there for whoever comes back with a new token and the old cursor.
    let missed = event(&kind);
    writer.create(std::slice::from_ref(&missed)).await;
    follower.token = token(60);
    let mut socket = Socket::open(&follower).await;
    socket.ask("2", CHANGES, json!({ "after": cursor })).await;
    let (changes, _) = socket.changes(1).await;
    assert_eq!((changes.len(), &changes[0]["entityId"]), (1, &missed["id"]));
}
