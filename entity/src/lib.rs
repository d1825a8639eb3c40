//! The tables as SeaORM entities: one file a table, and nothing but the shape.
//!
//! Instants are epoch milliseconds, `properties` is canonical JSON text: exact, equal and ordered
//! alike on SQLite and PostgreSQL. These types never leave `store`.

pub mod account;
pub mod backfill;
pub mod cluster_state;
pub mod event;
pub mod event_type;
pub mod id_alias;
pub mod import_job;
pub mod import_rejection;
pub mod import_usage;
