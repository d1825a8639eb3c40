//! Tests the tests: with an injected fault, the test that guards against it must fail.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, new_id};
use crate::processes::cluster::Cluster;

/// Runs one test of this binary with an injected fault. Returns whether it passed, and its output.
fn run(test: &str, fault: &str) -> (bool, String) {
    let binary = std::env::current_exe().unwrap();
    let mut command = Command::new(binary);
    command
        .args(["--exact", test])
        .env("IDEM_PLANT", fault)
        .env("TESTS_SIM_SEEDS", "50")
        .env("TESTS_STATS", "200")
        .env_remove("TESTS_FULL");
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fails unless the test passes without a fault and fails with it.
fn assert_catches(test: &str, fault: &str) {
    let (passed, output) = run(test, "none");
    assert!(passed && output.contains("1 passed"), "the test fails without a fault: {output}");
    let (passed, output) = run(test, fault);
    assert!(!passed && output.contains("1 failed"), "{fault} is not caught: {output}");
}

#[test]
fn positions_taken_before_their_rows_are_caught_on_sqlite() {
    assert_catches(
        "sync::slow_commit::sqlite::a_reader_misses_nothing_of_a_writer_that_is_slow_to_commit",
        "plant-late-lock",
    );
}

#[test]
fn positions_taken_before_their_rows_are_caught_on_postgres() {
    assert_catches(
        "sync::slow_commit::postgres::a_reader_misses_nothing_of_a_writer_that_is_slow_to_commit",
        "plant-late-lock",
    );
}

#[test]
fn positions_taken_before_their_rows_are_caught_by_readers_of_the_feed() {
    let name = "every_reader_ends_with_the_content_of_the_table_however_often_it_is_cut";
    for database in ["sqlite", "postgres"] {
        assert_catches(&format!("sync::readers_and_writers::{database}::{name}"), "plant-late-lock");
    }
}

#[test]
fn a_check_for_changes_that_compares_only_positions_is_caught() {
    let name = "a_change_between_load_and_store_is_seen_by_one_by_a_group_and_by_a_batch";
    assert_catches(&format!("events::groups::contention::{name}"), "plant-head-alone");
    let name = "new_events_are_not_stored_if_the_account_changes_while_they_are_looked_up";
    assert_catches(&format!("events::groups::new_events::{name}"), "plant-head-alone");
}

/// The test that compares the server with the oracle. [`run`] limits it to fifty simulations.
const SIMULATOR: &str = "simulator::devices_agree_on_sqlite_whatever_the_network_does";

#[test]
fn a_duplicate_that_takes_a_position_is_caught_by_the_simulator() {
    assert_catches(SIMULATOR, "plant-duplicate-bumps");
}

#[test]
fn a_create_that_restores_a_deleted_event_is_caught_by_the_simulator() {
    assert_catches(SIMULATOR, "plant-create-revives");
}

#[test]
fn a_patch_that_clears_absent_fields_is_caught_by_the_simulator() {
    assert_catches(SIMULATOR, "plant-absent-is-null");
}

#[test]
fn a_write_that_takes_no_lock_is_caught_on_postgres() {
    assert_catches(
        "events::groups::two_processes::processes_that_send_the_same_outboxes_at_once_store_each_event_once",
        "plant-no-lock",
    );
}

/// Breaks of the rules of statistics, each found by the comparison with their oracle.
const WRONG_STATISTICS: [&str; 9] = [
    "plant-stats-later-time",
    "plant-stats-skipped-date",
    "plant-stats-all-day-in-utc",
    "plant-stats-all-day-lasts",
    "plant-stats-one-unit",
    "plant-stats-weekday-of-bucket",
    "plant-stats-source-of-bucket",
    "plant-stats-other-sources",
    "plant-stats-fill-beyond",
];

#[test]
fn wrong_statistics_are_caught_by_their_oracle() {
    let test = "statistics::questions::answers_on_sqlite_equal_the_oracle";
    let (passed, output) = run(test, "none");
    assert!(passed && output.contains("1 passed"), "the test fails without a fault: {output}");
    for fault in WRONG_STATISTICS {
        let (passed, output) = run(test, fault);
        assert!(!passed && output.contains("1 failed"), "{fault} is not caught: {output}");
    }
}

/// Few zones have ever changed their clocks at another time than a full hour.
#[test]
fn hours_without_the_changes_of_the_clock_are_caught() {
    let name = "a_change_of_the_clock_begins_an_hour";
    assert_catches(&format!("statistics::rules::sqlite::{name}"), "plant-stats-full-hours");
}

/// A record crashes three workers at each size of the chunk: 500, 50, 5 and 1.
const CRASHES: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_aborts_its_worker_is_rejected_alone() {
    let mut cluster = Cluster::start_with("plant-abort-on-record").await;
    let client = cluster.client("ann");
    let (crashes, counts) = import_poison(&mut cluster, &client, 777).await;
    assert_eq!((crashes, &counts["inserted"]), (CRASHES, &json!(2_999)));
    // Almost all records are duplicates now. They are decided ahead of the checkpoint, which may cost one
    // more crash.
    let (crashes, counts) = import_poison(&mut cluster, &client, 2_777).await;
    assert!((CRASHES..=CRASHES + 1).contains(&crashes), "{crashes}");
    assert_eq!((&counts["inserted"], &counts["duplicates"]), (&json!(1), &json!(2_998)));
    cluster.assert_all_run();
    cluster.assert_feeds_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_on_which_the_decision_panics_is_rejected_at_once() {
    let mut cluster = Cluster::start_with("plant-panic-on-record").await;
    let client = cluster.client("ann");
    let started_at = Instant::now();
    let (crashes, counts) = import_poison(&mut cluster, &client, 777).await;
    assert_eq!((crashes, &counts["inserted"]), (0, &json!(2_999)));
    assert_eq!(cluster.number("SELECT lease_epoch FROM import_job").await, 1, "no lease was lost");
    assert!(started_at.elapsed() < Duration::from_secs(25), "it took {:?}", started_at.elapsed());
    cluster.assert_all_run();
    cluster.assert_feeds_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_on_which_the_reader_panics_is_rejected_at_once() {
    let mut cluster = Cluster::start_with("plant-panic-on-read").await;
    let client = cluster.client("ann");
    let (crashes, counts) = import_poison(&mut cluster, &client, 1_234).await;
    assert_eq!((crashes, &counts["inserted"]), (0, &json!(2_999)));
    assert_eq!(cluster.number("SELECT lease_epoch FROM import_job").await, 1, "no lease was lost");
    cluster.assert_all_run();
}

/// The faults that the soak test must find, and the database that it uses. Some are found within seconds, and
/// others by the check at the end.
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
        let stdout = String::from_utf8_lossy(&output.stdout);
        let finding = stdout.lines().find(|line| line.contains("  wrong: "));
        assert!(!output.status.success() && finding.is_some(), "{fault} is not found: {stdout}");
        println!("{fault}: {}", finding.unwrap_or_default());
    }
}

/// Imports 3 000 records. The record with the index `poison` triggers the fault. Returns how many workers crashed, and the
/// counts.
async fn import_poison(cluster: &mut Cluster, client: &Client, poison: usize) -> (usize, Value) {
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
    let mut crashes = 0;
    let mut job = loop {
        if let Some(job) = cluster.unless_worker_exits(client.wait_for_end(&id)).await {
            break job;
        }
        crashes += 1;
        // The lease of the crashed worker is ended here, so that the test does not wait for it.
        cluster
            .execute("UPDATE import_job SET lease_until = 1, notified_at = NULL WHERE finished_at IS NULL")
            .await;
        cluster.spawn_worker();
    };
    let rejections = &job["rejections"]["nodes"];
    assert_eq!(
        (&rejections[0]["code"], &rejections[0]["record"]),
        (&json!("POISON"), &json!(poison)),
        "{job}"
    );
    assert_eq!((&job["state"], &job["rejections"]["totalCount"]), (&json!("COMPLETED"), &json!(1)), "{job}");
    (crashes, job["counts"].take())
}
