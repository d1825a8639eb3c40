//! A soak test: many clients use private servers for a while, and faults are injected after so many
//! acknowledged writes. At the end all faults are repaired, and a check compares the responses that clients
//! got with what is stored.
//!
//! `SEED` determines what the clients do and the order of the faults. `MINUTES` is the duration. `DATABASE`
//! is `sqlite` or `postgres`; without it both are tested. Findings are printed, and the exit code is 1 if
//! there are any.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, unused_imports, unused_macros, reason = "the suite uses all of it")]
#[path = "../suite/harness/mod.rs"]
mod harness;

mod api;
mod check;
mod cluster;
mod faults;
mod imports;
mod log;
mod readers;
mod rng;
mod writers;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use api::Api;
use cluster::Cluster;
use harness::DatabaseKind;
use log::Log;
use rng::Rng;

/// The number of users. Each has two devices that write, one that imports, one that pulls and one that
/// subscribes.
const USERS: usize = 5;
/// How long the last requests may take to be acknowledged once all faults are repaired.
const SETTLE_MAX: Duration = Duration::from_secs(240);

#[tokio::main]
async fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let seed = variable("SEED").map_or(42, |text| text.parse().unwrap());
    let minutes: f64 = variable("MINUTES").map_or(0.5, |text| text.parse().unwrap());
    let database_kinds = match variable("DATABASE").as_deref() {
        Some("sqlite") => vec![DatabaseKind::Sqlite],
        Some("postgres") => vec![DatabaseKind::Postgres],
        _ => vec![DatabaseKind::Sqlite, DatabaseKind::Postgres],
    };
    let (all, mut failed) = (database_kinds.len(), 0);
    for database_kind in database_kinds {
        let findings = run(database_kind, seed, Duration::from_secs_f64(minutes * 60.0)).await;
        for finding in &findings {
            println!("  wrong: {finding}");
        }
        failed += usize::from(!findings.is_empty());
        println!("soak {database_kind:?} {seed}: {}", if findings.is_empty() { "ok" } else { "FAILED" });
    }
    println!("{} of {all} passed", all - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the soak test on one database. Returns its findings.
async fn run(database_kind: DatabaseKind, seed: u64, time: Duration) -> Vec<String> {
    let log = Arc::new(Log::default());
    let mut cluster = Cluster::start(database_kind, &log).await;
    let (mut writers, mut imports, mut readers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for user in 0..USERS {
        let api = |device: usize| Api::new(&cluster, user, device, seed, &log);
        for device in 0..2 {
            writers.spawn(writers::run(api(device)));
        }
        imports.spawn(imports::run(api(2)));
        readers.spawn(readers::pull(api(3)));
        readers.spawn(readers::subscribe(api(4)));
    }
    let started_at = Instant::now();
    let mut schedule = faults::Schedule::new(database_kind, Rng::new(seed, 0));
    let mut memory = check::Memory::default();
    while started_at.elapsed() < time && !log.is_over() {
        memory.sample(&cluster);
        schedule.inject_due(&mut cluster, &log).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.repair(&log).await;
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
        let mut replicas = Vec::new();
        while let Some(replica) = readers.join_next().await {
            replicas.push(replica.expect("a reader does not panic"));
        }
        (models, imported, replicas)
    });
    match settled.await {
        Ok((models, imported, replicas)) => check::all(&cluster, &log, &models, &imported, &replicas).await,
        Err(_) => {
            log.wrong(format!(
                "some requests are not acknowledged {SETTLE_MAX:?} after all faults were repaired"
            ));
        }
    }
    memory.check(&log);
    if time > Duration::from_secs(600) {
        schedule.check(&log);
    }
    println!("  {} faults: {}", schedule.count(), schedule.summary());
    println!("  {}", log.summary());
    println!("  {}", memory.summary());
    cluster.stop().await;
    log.findings()
}
