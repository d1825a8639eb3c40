//! All behaviour tests: one binary, one private PostgreSQL and Redis for all of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod cli;
mod clients;
mod database;
mod events;
mod graphql;
mod harness;
mod http;
mod imports;
mod object_store;
mod processes;
mod queue;
mod simulator;
mod source_tree;
mod subscriptions;
mod sync;
mod telemetry;

#[cfg(feature = "fault-injection")]
mod injected_faults;
