//! What a ring leads to.

mod decode;
pub mod run_slice;
