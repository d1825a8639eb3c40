//! Tests queries, mutations and pings over a WebSocket, and how it refuses operations.

use serde_json::json;

use crate::harness::{CHANGES, DatabaseKind, Socket, TestServer, event};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_document_is_an_error_of_its_operation_and_the_socket_stays_open() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let mut socket = Socket::open(&server.client("ann")).await;
    let deep = format!("{{ nodes(ids: {}{}) {{ id }} }}", "[".repeat(2_000), "]".repeat(2_000));
    let cases = [
        ("{ viewer ", "BAD_USER_INPUT"),
        ("{ nothing }", "BAD_USER_INPUT"),
        ("subscription { nothing }", "BAD_USER_INPUT"),
        (deep.as_str(), "LIMIT_EXCEEDED"),
    ];
    for (query, code) in cases {
        socket.ask("1", query, json!({})).await;
        let refused = socket.next().await;
        assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("1")), "{refused}");
        let extensions = &refused["payload"][0]["extensions"];
        assert_eq!(extensions["code"], code, "{refused}");
        assert_eq!(extensions["problem"]["code"], code, "{refused}");
        assert!(extensions["problem"]["requestId"].is_string(), "{refused}");
    }
    socket.send(json!({ "id": "1", "type": "subscribe", "payload": {} })).await;
    assert_eq!(socket.next().await["type"], "error");
    socket.ask("1", "{ viewer { userId } }", json!({})).await;
    assert!(socket.next().await["payload"]["data"]["viewer"]["userId"].is_string());
    assert_eq!(socket.next().await, json!({ "type": "complete", "id": "1" }));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_can_be_used_again_after_its_complete_and_a_completed_operation_sends_nothing() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (_, cursor) = client.pull(None, 100).await;
    let mut socket = Socket::open(&client).await;
    socket.follow("1", &cursor).await;
    socket.send(json!({ "type": "complete", "id": "1" })).await;
    socket.ping().await;
    client.create(&[event(&kind)]).await;
    socket.ask("1", "{ viewer { userId } }", json!({})).await;
    assert!(socket.next().await["payload"]["data"]["viewer"]["userId"].is_string());
    assert_eq!(socket.next().await, json!({ "type": "complete", "id": "1" }));
    socket.send(json!({ "type": "complete", "id": "never used" })).await;
    socket.ask("1", CHANGES, json!({ "after": cursor })).await;
    assert_eq!(socket.changes(1).await.0.len(), 1);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_answered_with_its_payload_before_the_init_too() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let mut socket = Socket::raw(&server.url).await;
    socket.ping().await;
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.next().await, json!({ "type": "pong" }));
    socket.send(json!({ "type": "pong" })).await;
    socket.ping().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_operations_than_run_at_once_all_get_a_response() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let mut socket = Socket::open(&server.client("ann")).await;
    for id in 0..200 {
        socket.ask(&id.to_string(), "{ viewer { userId } }", json!({})).await;
    }
    let mut completed = 0;
    while completed < 200 {
        let message = socket.next().await;
        assert_ne!(message["type"], "error", "{message}");
        completed += usize::from(message["type"] == "complete");
    }
    server.end().await;
}
