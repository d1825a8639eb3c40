//! The tests of the tests: with a fault injected, the test that guards against it must fail.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, new_id};
use crate::processes::cluster::Cluster;

/// Runs one test of this binary under an injected fault; whether it passed, and what it said.
fn run(test: &str, fault: &str) -> (bool, String) {
    let binary = std::env::current_exe().unwrap();
    let mut command = Command::new(binary);
    command
        .args(["--exact", test])
        .env("IDEM_PLANT", fault)
        .env("TESTS_SIM_SEEDS", "50")
        .env_remove("TESTS_FULL");
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn catches(test: &str, fault: &str) {
    let (passed, said) = run(test, "none");
    assert!(passed && said.contains("1 passed"), "without a mistake it passes: {said}");
    let (passed, said) = run(test, fault);
    assert!(!passed && said.contains("1 failed"), "{fault} is not caught: {said}");
}

#[test]
fn positions_taken_before_their_rows_are_caught_on_sqlite() {
    catches(
        "sync::slow_commit::sqlite::a_reader_misses_nothing_of_a_writer_that_is_slow_to_commit",
        "plant-late-lock",
    );
}

#[test]
fn positions_taken_before_their_rows_are_caught_on_postgres() {
    catches(
        "sync::slow_commit::postgres::a_reader_misses_nothing_of_a_writer_that_is_slow_to_commit",
        "plant-late-lock",
    );
}

#[test]
fn positions_taken_before_their_rows_are_caught_by_readers_that_tail() {
    let name = "every_reader_ends_with_the_table_however_it_reads_and_however_often_it_is_cut";
    for database in ["sqlite", "postgres"] {
        catches(&format!("sync::readers_and_writers::{database}::{name}"), "plant-late-lock");
    }
}

#[test]
fn a_guard_that_looks_at_positions_alone_is_caught() {
    let name = "a_change_between_load_and_store_is_seen_by_one_by_a_group_and_by_a_batch";
    catches(&format!("events::groups::contention::{name}"), "plant-head-alone");
}

/// The test that compares fifty schedules with the oracle.
const SIMULATOR: &str = "simulator::devices_agree_on_sqlite_whatever_the_network_does";

#[test]
fn a_duplicate_that_takes_a_position_is_caught_by_the_simulator() {
    catches(SIMULATOR, "plant-duplicate-bumps");
}

#[test]
fn a_create_that_revives_what_was_deleted_is_caught_by_the_simulator() {
    catches(SIMULATOR, "plant-create-revives");
}

#[test]
fn a_patch_that_clears_what_it_does_not_name_is_caught_by_the_simulator() {
    catches(SIMULATOR, "plant-absent-is-null");
}

#[test]
fn a_write_that_takes_no_lock_is_caught_on_postgres() {
    catches(
        "events::groups::two_processes::processes_that_send_the_same_outboxes_at_once_store_each_event_once",
        "plant-no-lock",
    );
}

/// Three deaths at each size of chunk: 500, 50, 5 and 1.
const DEATHS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_aborts_whoever_stores_it_is_refused_alone() {
    let mut cluster = Cluster::start_with("plant-abort-on-record").await;
    let client = cluster.client("ann");
    let (deaths, counts) = poisoned(&mut cluster, &client, 777).await;
    assert_eq!((deaths, &counts["inserted"]), (DEATHS, &json!(2_999)));
    // Hardly anything else is new: whoever looks ahead dies before its turn, once.
    let (deaths, counts) = poisoned(&mut cluster, &client, 2_777).await;
    assert!((DEATHS..=DEATHS + 1).contains(&deaths), "{deaths}");
    assert_eq!((&counts["inserted"], &counts["duplicates"]), (&json!(1), &json!(2_998)));
    cluster.assert_all_live();
    cluster.assert_feeds_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_on_which_whoever_decides_panics_is_refused_at_once() {
    let mut cluster = Cluster::start_with("plant-panic-on-record").await;
    let client = cluster.client("ann");
    let begun = Instant::now();
    let (deaths, counts) = poisoned(&mut cluster, &client, 777).await;
    assert_eq!((deaths, &counts["inserted"]), (0, &json!(2_999)));
    assert_eq!(cluster.number("SELECT lease_epoch FROM import_job").await, 1, "no lease was lost");
    assert!(begun.elapsed() < Duration::from_secs(25), "it took {:?}", begun.elapsed());
    cluster.assert_all_live();
    cluster.assert_feeds_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_on_which_whoever_reads_panics_is_refused_at_once() {
    let mut cluster = Cluster::start_with("plant-panic-on-read").await;
    let client = cluster.client("ann");
    let (deaths, counts) = poisoned(&mut cluster, &client, 1_234).await;
    assert_eq!((deaths, &counts["inserted"]), (0, &json!(2_999)));
    assert_eq!(cluster.number("SELECT lease_epoch FROM import_job").await, 1, "no lease was lost");
    cluster.assert_all_live();
}

/// What the checker of the soak must find, and the database on which it is looked for: some within seconds, others at the end.
const FOUND_BY_SOAK: [(&str, &str); 8] = [
    ("plant-duplicate-overwrites", "sqlite"),
    ("plant-no-user", "sqlite"),
    ("plant-silent-tombstone", "sqlite"),
    ("plant-no-lock", "postgres"),
    ("plant-late-lock", "postgres"),
    ("plant-early-answer", "postgres"),
    ("plant-late-tally", "postgres"),
    ("plant-no-fence", "postgres"),
];

#[test]
fn the_soak_finds_injected_faults() {
    let in_full = std::env::var("TESTS_FULL").is_ok();
    for (fault, database) in &FOUND_BY_SOAK[..if in_full { FOUND_BY_SOAK.len() } else { 2 }] {
        let output = Command::new(env!("CARGO"))
            .args(["test", "--locked", "-p", "tests", "--features", "fault-injection", "--test", "soak"])
            .envs([("IDEM_PLANT", *fault), ("DATABASE", *database), ("SEED", "7"), ("MINUTES", "10")])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let found = said.lines().find(|line| line.contains("  wrong: "));
        assert!(!output.status.success() && found.is_some(), "{fault} is not found: {said}");
        println!("{fault}: {}", found.unwrap_or_default());
    }
}

/// Imports 3 000 records of which this one is poison: how many workers died of it, and the counts.
async fn poisoned(cluster: &mut Cluster, client: &Client, poison: usize) -> (usize, Value) {
    let line = |n: usize| {
        let name = if n == poison { "poison".to_owned() } else { format!("s-{n}") };
        let sample =
            json!({ "eventType": "sample", "timestamp": "2026-01-01T00:00:00Z", "externalId": name });
        format!("{sample}\n")
    };
    let payload: String = (1..=3_000).map(line).collect();
    let id = new_id();
    client.create_import(&id, payload.len(), None).await;
    client.put(&id, None, payload.into_bytes()).await;
    let mut deaths = 0;
    let mut job = loop {
        if let Some(job) = cluster.worker_dies_before(client.ended(&id)).await {
            break job;
        }
        deaths += 1;
        // Nobody waits for the lease of the dead.
        cluster
            .execute("UPDATE import_job SET lease_until = 1, notified_at = NULL WHERE finished_at IS NULL")
            .await;
        cluster.spawn_worker();
    };
    let told = &job["rejections"]["nodes"];
    assert_eq!((&told[0]["code"], &told[0]["record"]), (&json!("POISON"), &json!(poison)), "{job}");
    assert_eq!((&job["state"], &job["rejections"]["totalCount"]), (&json!("COMPLETED"), &json!(1)), "{job}");
    (deaths, job["counts"].take())
}
