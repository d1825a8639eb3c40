//! Background work: apalis and redis live here and nowhere else.
//!
//! The row of an import is the truth, the queue a doorbell: losing, doubling or forging a message costs a
//! little time and never data.

pub mod backfill;
pub mod bell;
mod feeds;
pub mod jobs;
pub mod queue;
pub mod sweeper;
