//! All behaviour tests: one binary, one private PostgreSQL and Redis for all of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cli;
mod clients;
mod database;
mod edits;
mod feed;
mod formats;
mod front;
mod groups;
mod harness;
mod house;
mod imports;
mod lessons;
mod migrations;
mod object_store;
mod persisted;
mod plans;
mod processes;
mod queue;
mod schema;
mod simulator;
mod subscriptions;
mod sync;
mod tail;
mod telemetry;
mod tokens;
mod writes;
mod written;

#[cfg(feature = "fault-injection")]
mod injected_faults;
