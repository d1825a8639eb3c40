//! Runs all behaviour tests in one binary, so that they share one private PostgreSQL and one private Redis.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod cli;
mod clients;
mod database;
mod documentation;
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
mod statistics;
mod subscriptions;
mod sync;
mod telemetry;
mod vectors;

#[cfg(feature = "fault-injection")]
mod injected_faults;
