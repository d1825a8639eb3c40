//! Imports that the test itself works on, slice by slice, and may disturb behind each chunk.

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

/// What happens behind a chunk, by its number from 1 on.
pub type Disturb = Arc<dyn Fn(usize) -> BoxFuture<'static, ()> + Send + Sync>;

/// A notifier that hears the feed move behind each chunk, and disturbs.
#[derive(Clone)]
pub struct Disturber {
    chunks: Arc<AtomicUsize>,
    disturb: Disturb,
}

impl fmt::Debug for Disturber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disturber")
    }
}

impl Notifier for Disturber {
    fn notify(&self, notification: Notification) {
        if matches!(notification, Notification::Feed(_)) {
            let done = (self.disturb)(self.chunks.fetch_add(1, Ordering::SeqCst) + 1);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(done));
        }
    }

    fn feeds(&self) -> BoxStream<'static, Uuid> {
        stream::pending().boxed()
    }
}

/// A worker in the hand of the test.
pub fn runner_context(
    server: &TestServer,
    limits: ImportLimits,
    disturb: Disturb,
) -> RunnerContext<Disturber> {
    RunnerContext {
        store: server.store.clone(),
        payloads: server.payloads.clone(),
        notifier: Disturber { chunks: Arc::default(), disturb },
        owner: "by hand".to_owned(),
        limits,
        shutdown: CancellationToken::new(),
    }
}

/// Nothing happens.
pub fn undisturbed() -> Disturb {
    Arc::new(|_| Box::pin(async {}))
}

/// Runs a slice of an import, if it can run.
pub async fn slice(server: &TestServer, id: &str, disturb: Disturb) {
    run_slice(&runner_context(server, ImportLimits::default(), disturb), id.parse().unwrap()).await;
}

/// Who a client speaks for.
pub async fn actor(client: &Client) -> Actor {
    let viewer = client.ask("{ viewer { userId subject } }", json!({})).await["viewer"].take();
    let text = |field: &str| viewer[field].as_str().unwrap().to_owned();
    Actor { user_id: text("userId").parse().unwrap(), issuer: String::new(), subject: text("subject") }
}

/// An import of so many records that is queued and that no worker was told of; its id.
pub async fn parked(server: &TestServer, client: &Client, records: usize) -> String {
    parked_payload(server, client, samples(0..records)).await
}

/// The same with this payload.
pub async fn parked_payload(server: &TestServer, client: &Client, payload: Vec<u8>) -> String {
    let id = new_id();
    client.create_import(&id, payload.len(), None).await;
    let notifier = runner_context(server, ImportLimits::default(), undisturbed()).notifier;
    let (import_id, actor) = (id.parse().unwrap(), actor(client).await);
    let body = stream::iter([Ok::<_, std::convert::Infallible>(payload.into())]);
    receive_payload(&server.store, &server.payloads, &notifier, &actor, import_id, None, body).await.unwrap();
    id
}

/// Records of one type, each with an external id of its own.
pub fn samples(numbers: std::ops::Range<usize>) -> Vec<u8> {
    let line = |n: usize| {
        let sample = json!({
            "eventType": "sample", "timestamp": "2026-01-01T00:00:00Z", "externalId": format!("s-{n}"),
        });
        format!("{sample}\n")
    };
    numbers.map(line).collect::<String>().into_bytes()
}
