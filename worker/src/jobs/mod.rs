//! What a notification leads to.

mod ahead;
mod decode;
pub mod run_slice;
