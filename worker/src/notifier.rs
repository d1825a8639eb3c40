//! The notifier that the commands notification, and the one task that carries its notifications to the queue.
//!
//! Owns the way from [`Notifier::notify`] into the queue: bounded, in one task, never waited for. It
//! must not know what a notification leads to. Whatever is lost here is counted, and notified again by the
//! sweeper.

use std::time::Duration;

use futures::stream::BoxStream;
use service::notifier::{Notification, Notifier};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::feeds::Feeds;
use crate::queue::memory;
use crate::queue::redis::RedisSender;

/// Rings between [`Notifier::notify`] and the queue.
const NOTIFICATIONS_WAITING_MAX: usize = 1_024;
/// The time that one notification may take to get into the queue.
const PUSH_TIME_MAX: Duration = Duration::from_millis(250);
/// Pause before a notification that failed is tried again, within its time.
const PUSH_AGAIN_AFTER: Duration = Duration::from_millis(80);
/// Rings in a row without an answer, after which the connection is taken for half open: 2 s, so
/// that a short stall keeps its connection.
const TIMEOUTS_MAX: u32 = 8;

/// Puts notifications into the queue, behind the back of whoever notifications.
#[derive(Debug, Clone)]
pub struct QueueNotifier {
    notifications: mpsc::Sender<Uuid>,
    feeds: Feeds,
}

impl Notifier for QueueNotifier {
    fn notify(&self, notification: Notification) {
        match notification {
            Notification::Feed(user_id) => self.feeds.moved(user_id),
            Notification::Import(import_id) if self.notifications.try_send(import_id).is_err() => {
                lost(import_id, "too many notifications in hand");
            }
            Notification::Import(_) => {}
        }
    }

    fn feeds(&self) -> BoxStream<'static, Uuid> {
        self.feeds.listen()
    }
}

impl QueueNotifier {
    /// A notifier for the queue inside this process. Must be called within a tokio runtime.
    pub(crate) fn memory(queue: memory::Sender) -> Self {
        let (notifications, mut waiting) = mpsc::channel(NOTIFICATIONS_WAITING_MAX);
        tokio::spawn(async move {
            while let Some(import_id) = waiting.recv().await {
                if queue.try_send(import_id).is_err() {
                    lost(import_id, "too many notifications wait, or nobody listens");
                }
            }
        });
        Self { notifications, feeds: Feeds::here() }
    }

    /// A notifier for the queue in Redis. Must be called within a tokio runtime.
    pub(crate) fn redis(sender: RedisSender, feeds: Feeds) -> Self {
        let (notifications, waiting) = mpsc::channel(NOTIFICATIONS_WAITING_MAX);
        tokio::spawn(carry(sender, waiting));
        Self { notifications, feeds }
    }
}

/// The sender task: ends with the last notifier.
async fn carry(mut sender: RedisSender, mut waiting: mpsc::Receiver<Uuid>) {
    let mut timeouts = 0;
    while let Some(import_id) = waiting.recv().await {
        match tokio::time::timeout(PUSH_TIME_MAX, push(&mut sender, import_id)).await {
            Ok(()) => timeouts = 0,
            Err(_) => {
                lost(import_id, "the queue did not take it in time");
                timeouts += 1;
            }
        }
        if timeouts >= TIMEOUTS_MAX {
            sender.hang_up();
            timeouts = 0;
        }
    }
}

/// Tries until it is in, or refused; the caller sets the time.
async fn push(sender: &mut RedisSender, import_id: Uuid) {
    loop {
        match sender.push(import_id).await {
            Ok(true) => return,
            Ok(false) => return lost(import_id, "too many notifications wait"),
            Err(error) => tracing::debug!(import.id = %import_id, %error, "a notification failed"),
        }
        tokio::time::sleep(PUSH_AGAIN_AFTER).await;
    }
}

fn lost(import_id: Uuid, reason: &'static str) {
    metrics::counter!("idem_notifications_lost_total").increment(1);
    tracing::debug!(import.id = %import_id, reason, "a notification was lost");
}
