//! The notification: tells a worker that an import may be runnable, and readers that a feed has moved.
//!
//! A notification is a hint. It may be lost, doubled or forged; the rows decide what happens. The sweeper notifies
//! again for imports that were forgotten, and readers look by themselves every few seconds.

use std::fmt::Debug;

use futures::stream::BoxStream;
use uuid::Uuid;

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notification {
    /// This import, whoever owns it, may be runnable.
    Import(Uuid),
    /// The feed of this user has moved.
    Feed(Uuid),
}

/// Something that wakes whoever runs imports and whoever reads feeds; made by the composition root.
pub trait Notifier: Debug + Send + Sync {
    /// Rings. Returns at once; never fails, never waits for a queue.
    fn notify(&self, notification: Notification);

    /// The users whose feeds have moved, in any process, from now on.
    fn feeds(&self) -> BoxStream<'static, Uuid>;
}
