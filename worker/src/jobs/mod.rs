//! Handles a notification: runs a slice of an import.

mod decode;
mod observe;
pub mod run_slice;
mod speculative;
