//! Background work: runs imports, delivers notifications, and does regular maintenance.
//!
//! This is the only crate that uses apalis and Redis. The row of an import is the source of truth, and a
//! message in the queue is only a hint. A message that is lost, duplicated or forged costs a little time and
//! never data.

pub mod backfill;
mod feeds;
pub mod jobs;
pub mod notifier;
pub mod queue;
pub mod sweeper;
