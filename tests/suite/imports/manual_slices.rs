//! Runs the slices of an import in the test itself, with a callback after each chunk.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::limits::ImportLimits;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use serde_json::json;
use service::notifier::{Notification, Notifier};
use service::{Actor, receive_payload};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::jobs::run_slice::{RunnerContext, run_slice};

use crate::harness::{Client, TestServer, new_id};

/// A callback after each chunk. Its argument is the number of the chunk, from 1 on.
pub type AfterChunk = Arc<dyn Fn(usize) -> BoxFuture<'static, ()> + Send + Sync>;

/// A notifier that runs a callback after each chunk, because each chunk that stores something notifies the
/// feed.
#[derive(Clone)]
pub struct ChunkNotifier {
    chunks: Arc<AtomicUsize>,
    after_chunk: AfterChunk,
}

impl fmt::Debug for ChunkNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkNotifier")
    }
}

impl Notifier for ChunkNotifier {
    fn notify(&self, notification: Notification) {
        if matches!(notification, Notification::Feed(_)) {
            let callback = (self.after_chunk)(self.chunks.fetch_add(1, Ordering::SeqCst) + 1);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(callback));
        }
    }

    fn subscribe_to_moved_feeds(&self) -> BoxStream<'static, Uuid> {
        stream::pending().boxed()
    }
}

/// Returns the context with which the test runs slices.
pub fn runner_context(
    server: &TestServer,
    limits: ImportLimits,
    after_chunk: AfterChunk,
) -> RunnerContext<ChunkNotifier> {
    RunnerContext {
        store: server.store.clone(),
        payloads: server.payloads.clone(),
        notifier: ChunkNotifier { chunks: Arc::default(), after_chunk },
        owner: "test".to_owned(),
        limits,
        shutdown: CancellationToken::new(),
    }
}

/// Returns a callback that does nothing.
pub fn no_callback() -> AfterChunk {
    Arc::new(|_| Box::pin(async {}))
}

/// Runs a slice of an import, if the import may run.
pub async fn slice(server: &TestServer, id: &str, after_chunk: AfterChunk) {
    run_slice(&runner_context(server, ImportLimits::default(), after_chunk), id.parse().unwrap()).await;
}

/// Returns the user of a client.
pub async fn actor(client: &Client) -> Actor {
    let viewer = client.ask("{ viewer { userId subject } }", json!({})).await["viewer"].take();
    let text = |field: &str| viewer[field].as_str().unwrap().to_owned();
    Actor { user_id: text("userId").parse().unwrap(), issuer: String::new(), subject: text("subject") }
}

/// Creates a queued import of so many records, and notifies no worker of it. Returns its id.
pub async fn create_queued(server: &TestServer, client: &Client, records: usize) -> String {
    create_queued_with(server, client, samples(0..records)).await
}

/// Creates a queued import with this payload, and notifies no worker of it. Returns its id.
pub async fn create_queued_with(server: &TestServer, client: &Client, payload: Vec<u8>) -> String {
    let id = new_id();
    client.create_import(&id, payload.len(), None).await;
    let notifier = runner_context(server, ImportLimits::default(), no_callback()).notifier;
    let (import_id, actor) = (id.parse().unwrap(), actor(client).await);
    let body = stream::iter([Ok::<_, std::convert::Infallible>(payload.into())]);
    receive_payload(&server.store, &server.payloads, &notifier, &actor, import_id, None, body).await.unwrap();
    id
}

/// Returns NDJSON of records of one type, each with its own external id.
pub fn samples(numbers: std::ops::Range<usize>) -> Vec<u8> {
    let line = |n: usize| {
        let sample = json!({
            "eventType": "sample", "timestamp": "2026-01-01T00:00:00Z", "externalId": format!("s-{n}"),
        });
        format!("{sample}\n")
    };
    numbers.map(line).collect::<String>().into_bytes()
}
