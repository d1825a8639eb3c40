//! Tests clients that open too many subscriptions or do not read. They affect no other client.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use service::Clock;
use service::notifier::{Notification, Notifier};
use uuid::Uuid;

use crate::harness::{CHANGES, DatabaseKind, Socket, TestServer, event, keys};

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_subscriptions_twenty_run_and_the_socket_stays_open() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (_, cursor) = client.pull(None, 100).await;
    let mut socket = Socket::open(&client).await;
    for id in 0..1_000 {
        socket.ask(&id.to_string(), CHANGES, json!({ "after": cursor })).await;
    }
    for _ in 20..1_000 {
        let refused = socket.next().await;
        assert_eq!(refused["type"], "error", "{refused}");
        let extensions = &refused["payload"][0]["extensions"];
        assert_eq!(extensions["code"], "LIMIT_EXCEEDED", "{refused}");
        assert_eq!(extensions["limit"], json!({ "name": "subscriptions", "max": 20 }), "{refused}");
        assert_eq!(extensions["problem"]["code"], "LIMIT_EXCEEDED", "{refused}");
    }
    socket.ping().await;
    client.create(&[event(&kind)]).await;
    let mut notified = HashSet::new();
    for _ in 0..20 {
        let message = socket.next().await;
        assert_eq!(message["type"], "next", "{message}");
        notified.insert(message["id"].as_str().unwrap().parse::<u32>().unwrap());
    }
    assert_eq!(notified, (0..20).collect());
    // Another subscription can start as soon as one has been completed.
    socket.send(json!({ "type": "complete", "id": "7" })).await;
    socket.ask("7", CHANGES, json!({ "after": cursor })).await;
    let message = socket.next().await;
    assert_eq!((&message["type"], &message["id"]), (&json!("next"), &json!("7")), "{message}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_does_not_read_delays_no_other_and_misses_nothing() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (_, cursor) = client.pull(None, 100).await;
    let mut stuck = Socket::open(&client).await;
    stuck.follow("1", &cursor).await;
    let mut other = Socket::open(&client).await;
    other.follow("1", &cursor).await;
    // These are 40 MB in all, far more than the buffers of the kernel hold.
    let notes = "€".repeat(6_600);
    let mut made = HashSet::new();
    let mut seen_by_other = 0;
    for _ in 0..20 {
        let events: Vec<Value> = (0..100)
            .map(|_| {
                let mut event = event(&kind);
                event["notes"] = json!(notes);
                event
            })
            .collect();
        assert_eq!(client.create(&events).await["created"], 100);
        made.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        seen_by_other += other.changes(100).await.0.len();
    }
    assert_eq!(seen_by_other, 2_000);
    let (changes, _) = stuck.changes(2_000).await;
    let seen: HashSet<_> =
        changes.iter().map(|change| change["entityId"].as_str().unwrap().to_owned()).collect();
    assert_eq!((changes.len(), seen), (2_000, made));
    stuck.ping().await;
    server.end().await;
}

/// A notifier that loses every notification of a feed.
#[derive(Debug)]
struct LossyNotifier(Arc<dyn Notifier>);

impl Notifier for LossyNotifier {
    fn notify(&self, notification: Notification) {
        if let Notification::Import(_) = notification {
            self.0.notify(notification);
        }
    }

    fn subscribe_to_moved_feeds(&self) -> BoxStream<'static, Uuid> {
        futures::stream::pending().boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notification_delays_a_change_by_seconds_and_loses_none() {
    for database_kind in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
        let server = TestServer::open_as(database_kind, keys().await, Clock::System, &[], |notifier| {
            Arc::new(LossyNotifier(notifier))
        })
        .await;
        let client = server.client("ann");
        let kind = client.event_type("run").await;
        let (_, cursor) = client.pull(None, 100).await;
        let mut socket = Socket::open(&client).await;
        socket.follow("1", &cursor).await;
        let started_at = std::time::Instant::now();
        let made = event(&kind);
        client.create(std::slice::from_ref(&made)).await;
        let (changes, _) = socket.changes(1).await;
        assert_eq!(changes[0]["entityId"], made["id"]);
        assert!(started_at.elapsed() < Duration::from_secs(7), "{:?}", started_at.elapsed());
        server.end().await;
    }
}
