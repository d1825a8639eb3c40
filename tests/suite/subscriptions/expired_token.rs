//! Tests a token that expires during a subscription. The client reconnects with a new token and misses
//! nothing.

use std::time::Duration;

use serde_json::json;
use service::Clock;

use crate::harness::{CHANGES, SECRET, Socket, TestServer, event, eventually, on_both};

on_both!(an_expired_token_closes_the_socket_and_a_new_one_goes_on_from_the_cursor);

/// Returns a token that is accepted for so many more seconds, including the leeway of 30 s.
fn token(left_s: i64) -> String {
    let (ttl, now_ms) = (Duration::from_secs(60), Clock::System.now_ms());
    idem::sign_token(SECRET, "ann", None, None, ttl, now_ms + (left_s - 30 - 60) * 1_000).unwrap()
}

async fn an_expired_token_closes_the_socket_and_a_new_one_goes_on_from_the_cursor(server: &TestServer) {
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
    assert_eq!(socket.close_code().await, 4403);
    eventually("the token is refused", || async {
        let query = json!({ "query": "{ viewer { userId } }" });
        let request = follower.http.post(format!("{}/graphql", server.url)).bearer_auth(&follower.token);
        request.json(&query).send().await.unwrap().status() == 401
    })
    .await;
    // This event is written while no client is subscribed. A client with a new token and the old cursor
    // receives it.
    let missed = event(&kind);
    writer.create(std::slice::from_ref(&missed)).await;
    follower.token = token(60);
    let mut socket = Socket::open(&follower).await;
    socket.ask("2", CHANGES, json!({ "after": cursor })).await;
    let (changes, _) = socket.changes(1).await;
    assert_eq!((changes.len(), &changes[0]["entityId"]), (1, &missed["id"]));
}
