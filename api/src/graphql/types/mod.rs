//! What the API answers with. A GraphQL type is never a row: it is made from one.

pub mod connection;
pub mod event;
pub mod import;
pub mod problem;
pub mod rate_limit;
pub mod result;
pub mod sync;
