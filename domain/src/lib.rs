//! What an event is and what may happen to it.
//!
//! `rules` decides and knows nothing of databases; `store` holds all SQL; `write` puts the two
//! together in one transaction; `commands` are the use cases on top.
// The crate knows neither GraphQL nor HTTP nor a queue.

pub mod bell;
pub mod clock;
pub mod commands;
pub mod detached;
pub mod error;
pub mod limits;
pub mod payload;
pub mod plant;
pub mod rarely;
pub mod rules;
pub mod store;
pub mod write;
