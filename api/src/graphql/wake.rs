//! Wakes the readers of a feed: one listener to the notifier for the whole process, and for each user who has
//! readers a flag that they wait on. Readers keep a cursor of their own, so a wake-up carries nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use service::notifier::Notifier;
use tokio::sync::watch;
use uuid::Uuid;

/// Users with readers below which nothing is swept.
const SWEEP_FROM: usize = 1_024;

/// The readers of all users in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wakes(Arc<Mutex<HashMap<Uuid, watch::Sender<()>>>>);

impl Wakes {
    /// Passes on what the notifier tells, until there is no notifier. Must be called within a tokio runtime.
    pub(crate) fn new(notifier: &dyn Notifier) -> Self {
        let this = Self::default();
        let (wakes, mut feeds) = (this.clone(), notifier.feeds());
        tokio::spawn(async move {
            while let Some(user_id) = feeds.next().await {
                wakes.wake(user_id);
            }
        });
        this
    }

    /// Notices from now on when the feed of this user moves.
    pub(crate) fn listen(&self, user_id: Uuid) -> watch::Receiver<()> {
        let Ok(mut users) = self.0.lock() else {
            return watch::channel(()).1;
        };
        if users.len() >= SWEEP_FROM && users.len().is_power_of_two() {
            users.retain(|_, readers| readers.receiver_count() > 0);
        }
        users.entry(user_id).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    fn wake(&self, user_id: Uuid) {
        if let Ok(users) = self.0.lock()
            && let Some(readers) = users.get(&user_id)
        {
            readers.send_replace(());
        }
    }
}
