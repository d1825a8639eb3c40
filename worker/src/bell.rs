//! The bell that the commands ring, and the one task that carries its rings to the queue.
//!
//! Owns the way from [`Bell::ring`] into the queue: bounded, in one task, never waited for. It
//! must not know what a ring leads to. Whatever is lost here is counted, and rung again by the
//! sweeper.

use std::time::Duration;

use futures::stream::BoxStream;
use service::bell::{Bell, Ring};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::feeds::Feeds;
use crate::queue::memory;
use crate::queue::redis::Lane;

/// Rings between [`Bell::ring`] and the queue.
const RINGS_IN_HAND_MAX: usize = 1_024;
/// The time that one ring may take to get into the queue.
const PUSH_TIME_MAX: Duration = Duration::from_millis(250);
/// Pause before a ring that failed is tried again, within its time.
const PUSH_AGAIN_AFTER: Duration = Duration::from_millis(80);
/// Rings in a row without an answer, after which the connection is taken for half open: 2 s, so
/// that a short stall keeps its connection.
const TIMEOUTS_MAX: u32 = 8;

/// Puts rings into the queue, behind the back of whoever rings.
#[derive(Debug, Clone)]
pub struct QueueBell {
    rings: mpsc::Sender<Uuid>,
    feeds: Feeds,
}

impl Bell for QueueBell {
    fn ring(&self, ring: Ring) {
        match ring {
            Ring::Feed(user_id) => self.feeds.moved(user_id),
            Ring::Import(import_id) if self.rings.try_send(import_id).is_err() => {
                lost(import_id, "too many rings in hand");
            }
            Ring::Import(_) => {}
        }
    }

    fn feeds(&self) -> BoxStream<'static, Uuid> {
        self.feeds.listen()
    }
}

impl QueueBell {
    /// A bell for the queue inside this process. Must be called within a tokio runtime.
    pub(crate) fn memory(queue: memory::Sender) -> Self {
        let (rings, mut waiting) = mpsc::channel(RINGS_IN_HAND_MAX);
        tokio::spawn(async move {
            while let Some(import_id) = waiting.recv().await {
                if queue.try_send(import_id).is_err() {
                    lost(import_id, "too many rings wait, or nobody listens");
                }
            }
        });
        Self { rings, feeds: Feeds::here() }
    }

    /// A bell for the queue in Redis. Must be called within a tokio runtime.
    pub(crate) fn redis(lane: Lane, feeds: Feeds) -> Self {
        let (rings, waiting) = mpsc::channel(RINGS_IN_HAND_MAX);
        tokio::spawn(carry(lane, waiting));
        Self { rings, feeds }
    }
}

/// The ringer: ends with the last bell.
async fn carry(mut lane: Lane, mut waiting: mpsc::Receiver<Uuid>) {
    let mut timeouts = 0;
    while let Some(import_id) = waiting.recv().await {
        match tokio::time::timeout(PUSH_TIME_MAX, push(&mut lane, import_id)).await {
            Ok(()) => timeouts = 0,
            Err(_) => {
                lost(import_id, "the queue did not take it in time");
                timeouts += 1;
            }
        }
        if timeouts >= TIMEOUTS_MAX {
            lane.hang_up();
            timeouts = 0;
        }
    }
}

/// Tries until it is in, or refused; the caller sets the time.
async fn push(lane: &mut Lane, import_id: Uuid) {
    loop {
        match lane.push(import_id).await {
            Ok(true) => return,
            Ok(false) => return lost(import_id, "too many rings wait"),
            Err(error) => tracing::debug!(import.id = %import_id, %error, "a ring failed"),
        }
        tokio::time::sleep(PUSH_AGAIN_AFTER).await;
    }
}

fn lost(import_id: Uuid, reason: &'static str) {
    metrics::counter!("idem_rings_lost_total").increment(1);
    tracing::debug!(import.id = %import_id, reason, "a ring was lost");
}
