//! Simulates devices that write offline, and a network that loses, duplicates, delays and reorders messages.
//! The server is the real schema, and an oracle states the expected responses from the contract.
//!
//! A seed determines a simulation and can replay it: `TESTS_SIM_SEED` is the first seed, and
//! `TESTS_SIM_SEEDS` is how many simulations run.

mod actions;
mod device;
mod model;
mod network;
mod reading;
mod regressions;
pub mod rng;
mod server;
mod simulation;

use std::env;
use std::sync::Arc;

use futures::{StreamExt, stream};

use crate::harness::{DatabaseKind, assert_feeds_are_whole};
use server::SimulatedServer;
use simulation::{Coverage, Simulation, Trace};

/// The cases that the simulations of a run must cover. A case that never occurs is not tested.
const REQUIRED_CASES: [&str; 38] = [
    "CREATED",
    "DUPLICATE",
    "UPDATED",
    "UNCHANGED",
    "DELETED",
    "CONFLICT",
    "REJECTED",
    "EXTERNAL_ID",
    "NAME",
    "VALIDATION_FAILED",
    "REQUIRED",
    "OUT_OF_RANGE",
    "END_BEFORE_START",
    "ID_IN_FUTURE",
    "ID_IN_USE",
    "NOT_FOUND",
    "NAME_TAKEN",
    "EVENT_TYPE_NOT_FOUND",
    "EVENT_TYPE_IN_USE",
    "VERSION_CONFLICT",
    "DEPENDENCY_REJECTED",
    "CURSOR_INVALID",
    "EPOCH_CHANGED",
    "createEvent",
    "createEvents",
    "a duplicate differs",
    "an event is restored",
    "a request is lost",
    "a request is duplicated",
    "a request arrives late",
    "a response is lost",
    "a response arrives late",
    "a flush is sent again",
    "a conflict is merged and sent again",
    "a page came between a flush and its response",
    "a rejected item waits",
    "a device restarts",
    "a backup is restored",
];

/// The number of simulations that run at once. Each has its own user.
const CONCURRENCY: usize = 4;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs one simulation. Returns the cases that it covered, or its trace and the reason why it failed.
async fn run(server: Arc<SimulatedServer>, seed: u64) -> Result<Coverage, String> {
    let trace = Trace::default();
    let task = {
        let trace = Arc::clone(&trace);
        tokio::spawn(async move {
            let user_server = server.server(&format!("seed-{seed}")).await;
            let mut simulation = Simulation::new(user_server, seed, trace);
            simulation.run().await.map(|()| simulation.coverage)
        })
    };
    task.await.unwrap_or_else(|panic| Err(panic.to_string())).map_err(|reason| {
        let trace = trace.lock().unwrap_or_else(std::sync::PoisonError::into_inner).join("\n");
        format!("{trace}\n\nTESTS_SIM_SEED={seed} TESTS_SIM_SEEDS=1 fails: {reason}")
    })
}

/// Runs `few` simulations, or `many` if `TESTS_FULL` is set. Fails if one of them fails or a required case is
/// missing.
async fn devices_agree(database_kind: DatabaseKind, few: u64, many: u64) {
    let chosen = number("TESTS_SIM_SEEDS");
    let usual = if env::var("TESTS_FULL").is_ok() { many } else { few };
    let first = number("TESTS_SIM_SEED").unwrap_or(1);
    let server = Arc::new(SimulatedServer::open(database_kind).await);
    let seeds = first..first + chosen.unwrap_or(usual);
    let mut runs =
        stream::iter(seeds).map(|seed| run(Arc::clone(&server), seed)).buffer_unordered(CONCURRENCY);
    let mut coverage = Coverage::new();
    while let Some(result) = runs.next().await {
        let covered = result.unwrap_or_else(|failure| panic!("{failure}"));
        for (case, count) in covered {
            *coverage.entry(case).or_default() += count;
        }
    }
    drop(runs);
    assert_feeds_are_whole(&server.sql).await;
    if chosen.is_none() {
        let missing: Vec<_> = REQUIRED_CASES.iter().filter(|case| !coverage.contains_key(**case)).collect();
        assert!(missing.is_empty(), "no simulation covers {missing:?}: {coverage:#?}");
    }
    Arc::into_inner(server).expect("all simulations have ended").close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_agree_on_sqlite_whatever_the_network_does() {
    devices_agree(DatabaseKind::Sqlite, 150, 2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_agree_on_postgres_whatever_the_network_does() {
    devices_agree(DatabaseKind::Postgres, 40, 500).await;
}
