//! What a ring leads to.

mod ahead;
mod decode;
pub mod run_slice;
