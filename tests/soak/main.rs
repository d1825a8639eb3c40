//! Everything at once, for a while: own servers with networks between them, all kinds of clients, and faults that begin by
//! progress. Afterwards all is healed, and a checker compares what clients were told with what is stored.
//!
//! `SEED` decides the programs of the clients and the order of the faults, `MINUTES` how long, `DATABASE` which:
//! `sqlite`, `postgres` or both. What is wrong is printed, and the exit code is 1.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, unused_imports, unused_macros, reason = "the suite uses all of it")]
#[path = "../suite/harness/mod.rs"]
mod harness;

mod api;
mod check;
mod cluster;
mod dice;
mod faults;
mod imports;
mod log;
mod readers;
mod writers;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use api::Api;
use cluster::Cluster;
use dice::Dice;
use harness::Column;
use log::Log;

/// Users, each with two devices that write, one that imports, one that pulls and one that is told.
const USERS: usize = 5;
/// How long whatever was sent may take to be acknowledged once all is healed.
const SETTLE_MAX: Duration = Duration::from_secs(240);

#[tokio::main]
async fn main() -> ExitCode {
    let asked = |name: &str| std::env::var(name).ok();
    let seed = asked("SEED").map_or(42, |text| text.parse().unwrap());
    let minutes: f64 = asked("MINUTES").map_or(0.5, |text| text.parse().unwrap());
    let columns = match asked("DATABASE").as_deref() {
        Some("sqlite") => vec![Column::Sqlite],
        Some("postgres") => vec![Column::Postgres],
        _ => vec![Column::Sqlite, Column::Postgres],
    };
    let (all, mut failed) = (columns.len(), 0);
    for column in columns {
        let found = run(column, seed, Duration::from_secs_f64(minutes * 60.0)).await;
        for finding in &found {
            println!("  wrong: {finding}");
        }
        failed += usize::from(!found.is_empty());
        println!("soak {column:?} {seed}: {}", if found.is_empty() { "ok" } else { "FAILED" });
    }
    println!("{} of {all} passed", all - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One soak; all that is wrong.
async fn run(column: Column, seed: u64, time: Duration) -> Vec<String> {
    let log = Arc::new(Log::default());
    let mut cluster = Cluster::start(column, &log).await;
    let (mut writers, mut imports, mut readers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for user in 0..USERS {
        let api = |device: usize| Api::new(&cluster, user, device, seed, &log);
        for device in 0..2 {
            writers.spawn(writers::run(api(device)));
        }
        imports.spawn(imports::run(api(2)));
        readers.spawn(readers::pull(api(3)));
        readers.spawn(readers::follow(api(4)));
    }
    let begun = Instant::now();
    let mut schedule = faults::Schedule::new(column, Dice::new(seed, 0));
    let mut memory = check::Memory::default();
    while begun.elapsed() < time && !log.is_over() {
        memory.look(&cluster);
        schedule.go_on(&mut cluster, &log).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.heal(&log).await;
    log.end_writing();
    let settled = tokio::time::timeout(SETTLE_MAX, async {
        let mut models = Vec::new();
        while let Some(model) = writers.join_next().await {
            models.push(model.expect("a writer does not panic"));
        }
        let mut imported = Vec::new();
        while let Some(import) = imports.join_next().await {
            imported.extend(import.expect("an importer does not panic"));
        }
        log.end_reading();
        let mut folds = Vec::new();
        while let Some(fold) = readers.join_next().await {
            folds.push(fold.expect("a reader does not panic"));
        }
        (models, imported, folds)
    });
    match settled.await {
        Ok((models, imported, folds)) => check::all(&cluster, &log, &models, &imported, &folds).await,
        Err(_) => log.wrong(format!("not all is acknowledged {SETTLE_MAX:?} after all was healed")),
    }
    memory.check(&log);
    if time > Duration::from_secs(600) {
        schedule.check(&log);
    }
    println!("  {} faults: {}", schedule.count(), schedule.told());
    println!("  {}", log.told());
    println!("  {}", memory.told());
    cluster.stop().await;
    log.findings()
}
