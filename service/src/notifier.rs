//! Notifies workers that an import may be runnable, and feed readers that a feed has moved.
//!
//! A notification is only a hint. It may be lost, duplicated or forged, because the rows decide what happens.
//! The sweeper notifies again for imports whose notification was lost, and feed readers poll every few
//! seconds.

use std::fmt::Debug;

use futures::stream::BoxStream;
use uuid::Uuid;

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notification {
    /// The import with this id may be runnable. Different users may have imports with the same id.
    Import(Uuid),
    /// The feed of the user with this id has moved: it has new changes.
    Feed(Uuid),
}

/// Sends notifications to workers and feed readers, and delivers those about feeds. The binary makes one and
/// passes it to all use cases.
pub trait Notifier: Debug + Send + Sync {
    /// Sends a notification, which may be lost. Returns at once: it never fails and never waits for a queue.
    fn notify(&self, notification: Notification);

    /// Returns a stream of the ids of users whose feeds move from now on, in this process or another one.
    /// Some may be missing or repeated, so readers also poll.
    fn subscribe_to_moved_feeds(&self) -> BoxStream<'static, Uuid>;
}
