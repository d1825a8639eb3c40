//! The tables as SeaORM entities, one file for each table. They describe the columns and contain no logic.
//!
//! Instants are epoch milliseconds and `properties` is canonical JSON text, so that values are exact, and
//! compare and sort the same on SQLite and PostgreSQL. Only `store` uses these types.

pub mod account;
pub mod backfill;
pub mod cluster_state;
pub mod event;
pub mod event_type;
pub mod id_alias;
pub mod import_job;
pub mod import_rejection;
pub mod import_usage;
