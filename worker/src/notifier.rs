//! Puts the notifications of the use cases into the queue, in one task.
//!
//! The channel to that task is bounded, and [`Notifier::notify`] never waits for it. A notification that is
//! lost here is counted, and the sweeper sends it again. This module must not know what a notification
//! causes.

use std::time::Duration;

use futures::stream::BoxStream;
use service::notifier::{Notification, Notifier};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::feeds::FeedBroadcast;
use crate::queue::memory;
use crate::queue::redis::RedisSender;

/// How many notifications of imports may wait between [`Notifier::notify`] and the queue. More are lost.
const NOTIFICATIONS_WAITING_MAX: usize = 1_024;
/// How long it may take to put one notification into the queue in Redis, with all attempts.
const PUSH_TIME_MAX: Duration = Duration::from_millis(250);
/// The pause between two attempts to put the same notification into the queue.
const PUSH_RETRY_PAUSE: Duration = Duration::from_millis(80);
/// After this many timeouts in a row the connection is considered half open and is replaced. That takes 2 s,
/// so a short stall does not cost the connection.
const TIMEOUTS_MAX: u32 = 8;

/// Sends notifications in the background: those of imports through the queue to workers, those of feeds to
/// feed readers. Clones share one channel.
#[derive(Debug, Clone)]
pub struct QueueNotifier {
    notifications: mpsc::Sender<Uuid>,
    feeds: FeedBroadcast,
}

impl Notifier for QueueNotifier {
    fn notify(&self, notification: Notification) {
        match notification {
            Notification::Feed(user_id) => self.feeds.notify_readers(user_id),
            Notification::Import(import_id) if self.notifications.try_send(import_id).is_err() => {
                count_lost_notification(import_id, "too many notifications wait to be sent");
            }
            Notification::Import(_) => {}
        }
    }

    fn subscribe_to_moved_feeds(&self) -> BoxStream<'static, Uuid> {
        self.feeds.subscribe_to_moved_feeds()
    }
}

impl QueueNotifier {
    /// Makes a notifier for the queue inside this process, and starts its task. Must be called within a tokio
    /// runtime.
    pub(crate) fn for_memory_queue(queue: memory::Sender) -> Self {
        let (notifications, mut waiting) = mpsc::channel(NOTIFICATIONS_WAITING_MAX);
        tokio::spawn(async move {
            while let Some(import_id) = waiting.recv().await {
                if queue.try_send(import_id).is_err() {
                    count_lost_notification(import_id, "the queue is full or has no worker");
                }
            }
        });
        Self { notifications, feeds: FeedBroadcast::new_for_this_process() }
    }

    /// Makes a notifier for the queue in Redis, and starts its task. Must be called within a tokio runtime.
    pub(crate) fn for_redis_queue(sender: RedisSender, feeds: FeedBroadcast) -> Self {
        let (notifications, waiting) = mpsc::channel(NOTIFICATIONS_WAITING_MAX);
        tokio::spawn(forward_notifications(sender, waiting));
        Self { notifications, feeds }
    }
}

/// The task that puts the notifications of imports into the queue in Redis. Those that it cannot put there in
/// time are counted as lost. It ends when the last notifier is dropped.
async fn forward_notifications(mut sender: RedisSender, mut waiting: mpsc::Receiver<Uuid>) {
    let mut timeouts = 0;
    while let Some(import_id) = waiting.recv().await {
        match tokio::time::timeout(PUSH_TIME_MAX, push_until_accepted_or_full(&mut sender, import_id)).await {
            Ok(()) => timeouts = 0,
            Err(_) => {
                count_lost_notification(import_id, "the queue did not accept it in time");
                timeouts += 1;
            }
        }
        if timeouts >= TIMEOUTS_MAX {
            sender.disconnect();
            timeouts = 0;
        }
    }
}

/// Tries to put a notification into the queue until Redis takes it, or the queue is full; then it is counted
/// as lost. The caller limits the time.
async fn push_until_accepted_or_full(sender: &mut RedisSender, import_id: Uuid) {
    loop {
        match sender.push_message(import_id).await {
            Ok(true) => return,
            Ok(false) => return count_lost_notification(import_id, "the queue is full"),
            Err(error) => {
                tracing::debug!(
                    import.id = %import_id,
                    %error,
                    "an import notification could not be sent and is tried again"
                )
            }
        }
        tokio::time::sleep(PUSH_RETRY_PAUSE).await;
    }
}

fn count_lost_notification(import_id: Uuid, reason: &'static str) {
    metrics::counter!("idem_notifications_lost_total").increment(1);
    tracing::debug!(
        import.id = %import_id,
        reason,
        "a notification did not get into the import queue, the sweeper sends it again"
    );
}
