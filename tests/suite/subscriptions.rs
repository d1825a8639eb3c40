//! Tests subscriptions by each transport: WebSocket, server-sent events and multipart. Each change arrives
//! once, and only at its user.

mod closing;
mod expired_token;
mod failing;
mod pressure;
mod sockets;
mod streams;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{CHANGES, Socket, StreamedResponse, TestServer, event, new_id, on_both};

on_both!(
    a_change_arrives_by_each_transport_after_another_client_made_it,
    a_reader_that_reconnects_again_and_again_goes_on_from_its_cursor_and_misses_nothing,
    the_events_of_another_user_never_arrive,
    an_invalid_cursor_causes_a_reset_and_ends_the_subscription,
    the_progress_of_an_import_ends_with_the_import,
    a_mutation_over_a_socket_completes_even_if_the_socket_is_dropped,
);

const SSE: &str = "text/event-stream";
const MULTIPART: &str = "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0,application/json";

async fn a_change_arrives_by_each_transport_after_another_client_made_it(server: &TestServer) {
    let (reader, writer) = (server.client("ann"), server.client("ann"));
    let kind = writer.event_type("run").await;
    let (_, cursor) = reader.pull(None, 100).await;
    let after = json!({ "after": cursor });
    let mut socket = Socket::open(&reader).await;
    socket.follow("1", &cursor).await;
    let mut events = StreamedResponse::open(&reader, SSE, CHANGES, after.clone()).await;
    let mut parts = StreamedResponse::open(&reader, MULTIPART, CHANGES, after).await;
    assert_eq!(parts.until("--graphql").await, "");

    let started_at = std::time::Instant::now();
    let made = event(&kind);
    writer.create(std::slice::from_ref(&made)).await;
    let message = socket.next().await;
    assert_eq!((&message["type"], &message["id"]), (&json!("next"), &json!("1")), "{message}");
    let (name, data) = events.event().await;
    assert_eq!(name, "next");
    let part = parts.part().await;
    // Without the notification it would take up to 5 s, which is how often a subscription checks the feed by
    // itself.
    assert!(started_at.elapsed() < Duration::from_secs(4), "{:?}", started_at.elapsed());
    for payload in [&message["payload"], &data, &part["payload"]] {
        let changes = payload["data"]["changes"]["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 1, "{payload}");
        assert_eq!(changes[0]["event"]["id"], made["id"], "{payload}");
    }
}

async fn a_reader_that_reconnects_again_and_again_goes_on_from_its_cursor_and_misses_nothing(
    server: &TestServer,
) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (_, mut cursor) = client.pull(None, 100).await;
    let writer = tokio::spawn({
        let client = client.clone();
        async move {
            let mut made = HashSet::new();
            for _ in 0..40 {
                let events = [event(&kind), event(&kind)];
                client.create(&events).await;
                made.extend(events.map(|event| event["id"].as_str().unwrap().to_owned()));
            }
            made
        }
    });
    let mut received = Vec::new();
    while received.len() < 80 {
        let mut socket = Socket::open(&client).await;
        socket.ask("1", CHANGES, json!({ "after": cursor })).await;
        let (changes, end) = socket.changes(1).await;
        cursor = end;
        received.extend(changes.iter().map(|change| change["entityId"].as_str().unwrap().to_owned()));
        // The socket is dropped without a close frame, as by a phone that loses its network.
    }
    let made = writer.await.unwrap();
    assert_eq!(received.len(), 80, "a change arrived twice");
    assert_eq!(received.into_iter().collect::<HashSet<_>>(), made);
}

async fn the_events_of_another_user_never_arrive(server: &TestServer) {
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (anns, bobs) = (ann.event_type("run").await, bob.event_type("run").await);
    let (_, cursor) = ann.pull(None, 100).await;
    let (_, foreign) = bob.pull(None, 100).await;
    let mut socket = Socket::open(&ann).await;
    socket.follow("1", &cursor).await;
    let events: Vec<Value> = (0..20).map(|_| event(&bobs)).collect();
    bob.create(&events).await;
    // If an event of bob had been sent to ann, it would have arrived before this one.
    let own = event(&anns);
    ann.create(std::slice::from_ref(&own)).await;
    let (changes, _) = socket.changes(1).await;
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0]["entityId"], own["id"]);
    socket.ask("2", CHANGES, json!({ "after": foreign })).await;
    let page = socket.next().await;
    let page = &page["payload"]["data"]["changes"];
    assert_eq!((&page["reset"], &page["changes"]), (&json!("CURSOR_INVALID"), &json!([])), "{page}");
    let import = new_id();
    bob.import_all(&import, b"{}\n".to_vec()).await;
    let progress = "subscription($id: ID!) { importProgress(id: $id) { id state } }";
    assert_eq!(socket.next().await, json!({ "type": "complete", "id": "2" }));
    for id in [import, new_id()] {
        socket.ask("3", progress, json!({ "id": id })).await;
        let refused = socket.next().await;
        assert_eq!(refused["type"], "error", "{refused}");
        assert_eq!(refused["payload"][0]["extensions"]["code"], "BAD_USER_INPUT", "{refused}");
    }
}

async fn an_invalid_cursor_causes_a_reset_and_ends_the_subscription(server: &TestServer) {
    let client = server.client("ann");
    let mut socket = Socket::open(&client).await;
    socket.ask("1", CHANGES, json!({ "after": "nonsense" })).await;
    let message = socket.next().await;
    assert_eq!(message["payload"]["data"]["changes"]["reset"], "CURSOR_INVALID", "{message}");
    assert_eq!(socket.next().await, json!({ "type": "complete", "id": "1" }));
    let mut events = StreamedResponse::open(&client, SSE, CHANGES, json!({ "after": "nonsense" })).await;
    assert_eq!(events.event().await.1["data"]["changes"]["reset"], "CURSOR_INVALID");
    assert_eq!(events.rest().await, "event: complete\ndata:\n\n");
    let mut parts = StreamedResponse::open(&client, MULTIPART, CHANGES, json!({ "after": "nonsense" })).await;
    assert_eq!(parts.until("--graphql").await, "");
    assert_eq!(parts.part().await["payload"]["data"]["changes"]["reset"], "CURSOR_INVALID");
    assert_eq!(parts.rest().await, "--\r\n");
}

async fn the_progress_of_an_import_ends_with_the_import(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    let line = "{\"eventType\":\"run\",\"timestamp\":\"2026-01-02T03:04:05Z\"}\n";
    client.create_import(&id, line.len(), None).await;
    let mut socket = Socket::open(&client).await;
    let progress = "subscription($id: ID!) { importProgress(id: $id) { state counts { inserted } } }";
    socket.ask("1", progress, json!({ "id": id })).await;
    let mut states = vec![socket.next().await["payload"]["data"]["importProgress"]["state"].take()];
    assert_eq!(states, ["AWAITING_UPLOAD"]);
    assert_eq!(client.put(&id, None, line.as_bytes().to_vec()).await.status(), 200);
    loop {
        let message = socket.next().await;
        if message["type"] == "complete" {
            break;
        }
        states.push(message["payload"]["data"]["importProgress"]["state"].clone());
    }
    assert_eq!(states.last(), Some(&json!("COMPLETED")), "{states:?}");
    // A subscription to a finished import gets its state once.
    let mut events = StreamedResponse::open(&client, SSE, progress, json!({ "id": id })).await;
    assert_eq!(events.event().await.1["data"]["importProgress"]["counts"]["inserted"], 1);
    assert_eq!(events.rest().await, "event: complete\ndata:\n\n");
}

async fn a_mutation_over_a_socket_completes_even_if_the_socket_is_dropped(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let query = "mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { created } }";
    for _ in 0..8 {
        let events: Vec<Value> = (0..50).map(|_| event(&kind)).collect();
        let mut socket = Socket::open(&client).await;
        socket.ask("1", query, json!({ "events": events })).await;
        drop(socket);
        crate::harness::eventually("each batch is stored completely or not at all", || async {
            server.number("SELECT count(*) FROM event").await % 50 == 0
        })
        .await;
    }
    let mut socket = Socket::open(&client).await;
    socket.ask("1", query, json!({ "events": [event(&kind)] })).await;
    assert_eq!(socket.next().await["payload"]["data"]["createEvents"]["created"], 1);
    assert_eq!(socket.next().await, json!({ "type": "complete", "id": "1" }));
}
