//! Wakes the readers of a change feed when the feed moves.
//!
//! One task per process listens to the notifier. Each user with readers has a watch channel on which the
//! readers wait. Each reader keeps its own cursor, so a wake-up carries no data.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use service::notifier::Notifier;
use tokio::sync::watch;
use uuid::Uuid;

/// Channels without readers are removed when there are this many channels, and at each doubling of that.
const PRUNE_FROM_CHANNELS: usize = 1_024;

/// The watch channels that wake the feed subscriptions of this process, one for each user with readers.
#[derive(Debug, Clone, Default)]
pub(crate) struct WakeUps(Arc<Mutex<HashMap<Uuid, watch::Sender<()>>>>);

impl WakeUps {
    /// Starts a task that wakes the readers of each feed that the notifier reports as moved, until the
    /// notifier is dropped.
    ///
    /// Must be called within a tokio runtime.
    pub(crate) fn new(notifier: &dyn Notifier) -> Self {
        let this = Self::default();
        let (wake_ups, mut feeds) = (this.clone(), notifier.subscribe_to_moved_feeds());
        tokio::spawn(async move {
            while let Some(user_id) = feeds.next().await {
                wake_ups.wake_readers(user_id);
            }
        });
        this
    }

    /// Returns a receiver that is marked as changed each time the feed of this user moves from now on. It
    /// carries no data, and is closed if the lock is poisoned.
    pub(crate) fn subscribe_to_feed(&self, user_id: Uuid) -> watch::Receiver<()> {
        let Ok(mut channels) = self.0.lock() else {
            return watch::channel(()).1;
        };
        if channels.len() >= PRUNE_FROM_CHANNELS && channels.len().is_power_of_two() {
            channels.retain(|_, channel| channel.receiver_count() > 0);
        }
        channels.entry(user_id).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    fn wake_readers(&self, user_id: Uuid) {
        if let Ok(channels) = self.0.lock()
            && let Some(channel) = channels.get(&user_id)
        {
            channel.send_replace(());
        }
    }
}
