//! Background work: apalis and redis live here and nowhere else.
//!
//! The row of an import is the truth, the queue a notification: losing, doubling or forging a message costs a
//! little time and never data.

pub mod backfill;
mod feeds;
pub mod jobs;
pub mod notifier;
pub mod queue;
pub mod sweeper;
