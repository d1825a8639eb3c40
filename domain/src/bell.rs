//! The doorbell: tells a worker that an import may be runnable.
//!
//! A ring is a hint. It may be lost, doubled or forged; the row decides what happens, and the
//! sweeper rings again for what was forgotten.

use std::fmt::Debug;

use uuid::Uuid;

/// Something that wakes whoever runs imports; made by the composition root.
pub trait Bell: Debug + Send + Sync {
    /// Rings for an import. Returns at once; never fails, never waits for a queue.
    fn ring(&self, import_id: Uuid);
}
