//! Handles a notification: runs a slice of an import.

mod decode;
mod digest;
mod observe;
pub mod run_slice;
mod speculative;
