//! Devices that write offline, over a network that loses, doubles, delays and reorders, against the real
//! schema; beside them an oracle that reads the contract plainly. A schedule is drawn from a seed and is
//! replayed by it: `TESTS_SIM_SEED` is the first, `TESTS_SIM_SEEDS` how many.

mod device;
mod dice;
mod model;
mod network;
mod person;
mod reading;
mod regressions;
mod server;
mod world;

use std::env;
use std::sync::Arc;

use futures::{StreamExt, stream};

use crate::harness::{Column, assert_feeds_are_whole};
use server::SimulatedServer;
use world::{Seen, Trace, World};

/// What the schedules of a run must have come across, or they prove less than they seem to.
const INTERESTING: [&str; 38] = [
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
    "a request is doubled",
    "a request comes late",
    "an answer is lost",
    "an answer comes late",
    "a flush is sent again",
    "a conflict is merged and sent again",
    "a page came between a flush and its answer",
    "a rejected item waits",
    "a device restarts",
    "a backup is restored",
];

/// Schedules that run at once: each is its own user.
const AT_ONCE: usize = 4;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs one schedule; what it saw, or why it failed and how it came to that.
async fn run(house: Arc<SimulatedServer>, seed: u64) -> Result<Seen, String> {
    let trace = Trace::default();
    let schedule = {
        let trace = Arc::clone(&trace);
        tokio::spawn(async move {
            let mut world = World::new(house.server(&format!("seed-{seed}")).await, seed, trace);
            world.run().await.map(|()| world.seen)
        })
    };
    schedule.await.unwrap_or_else(|panic| Err(panic.to_string())).map_err(|why| {
        let trace = trace.lock().unwrap_or_else(std::sync::PoisonError::into_inner).join("\n");
        format!("{trace}\n\nTESTS_SIM_SEED={seed} TESTS_SIM_SEEDS=1 fails: {why}")
    })
}

async fn devices_agree(column: Column, few: u64, many: u64) {
    let chosen = number("TESTS_SIM_SEEDS");
    let usual = if env::var("TESTS_FULL").is_ok() { many } else { few };
    let first = number("TESTS_SIM_SEED").unwrap_or(1);
    let house = Arc::new(SimulatedServer::open(column).await);
    let seeds = first..first + chosen.unwrap_or(usual);
    let mut runs = stream::iter(seeds).map(|seed| run(Arc::clone(&house), seed)).buffer_unordered(AT_ONCE);
    let mut seen = Seen::new();
    while let Some(outcome) = runs.next().await {
        let saw = outcome.unwrap_or_else(|failure| panic!("{failure}"));
        for (what, times) in saw {
            *seen.entry(what).or_default() += times;
        }
    }
    drop(runs);
    assert_feeds_are_whole(&house.sql).await;
    if chosen.is_none() {
        let missed: Vec<_> = INTERESTING.iter().filter(|what| !seen.contains_key(**what)).collect();
        assert!(missed.is_empty(), "no schedule came across {missed:?}: {seen:#?}");
    }
    Arc::into_inner(house).expect("all schedules are over").close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_agree_on_sqlite_whatever_the_network_does() {
    devices_agree(Column::Sqlite, 150, 2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_agree_on_postgres_whatever_the_network_does() {
    devices_agree(Column::Postgres, 40, 500).await;
}
