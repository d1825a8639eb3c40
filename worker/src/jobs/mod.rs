//! What a notification leads to.

mod decode;
pub mod run_slice;
mod speculative;
