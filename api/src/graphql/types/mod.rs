//! The output types of the schema. Each is made from a row of the domain and is never the row itself.

pub mod connection;
pub mod event;
pub mod import;
pub mod problem;
pub mod rate_limit;
pub mod result;
pub mod stats;
pub mod sync;
