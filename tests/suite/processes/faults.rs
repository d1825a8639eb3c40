//! Tests more faults of processes and their servers: lost notifications, suspended workers, full disks, and a
//! late Redis.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::cluster::{Cluster, Import};
use super::records;
use crate::harness::{eventually, new_id};

#[tokio::test(flavor = "multi_thread")]
async fn an_import_starts_even_if_the_server_dies_before_it_notifies_a_worker() {
    let mut cluster = Cluster::start().await;
    cluster.servers.run_command("kill-redis");
    let import = Import::begin(cluster.client("ann"), 1_000).await;
    cluster.kill("serve");
    cluster.servers.run_command("start-redis");
    cluster.spawn_server().await;
    import.assert_ends_exact(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_suspended_past_its_lease_can_write_no_more() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    let seen = import.wait_until_under_way(0).await;
    let suspended = cluster.signal_worker("STOP");
    cluster.spawn_worker();
    cluster
        .execute("UPDATE import_job SET lease_until = 1, notified_at = NULL WHERE state = 'RUNNING'")
        .await;
    // The worker may be suspended inside a transaction, which the database ends after a timeout.
    let held_by_another = "SELECT count(*) FROM import_job WHERE lease_epoch = 2";
    eventually("another worker has claimed it", || async { cluster.number(held_by_another).await == 1 })
        .await;
    import.wait_until_under_way(seen).await;
    cluster.signal(suspended, "CONT");
    import.assert_ends_exact(&cluster).await;
    assert_eq!(cluster.number("SELECT lease_epoch FROM import_job").await, 2);
    cluster.assert_all_run();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_are_notified_of_one_import_process_it_once() {
    let mut cluster = Cluster::start().await;
    cluster.spawn_worker();
    let import = Import::begin(cluster.client("ann"), records()).await;
    // The sweeper notifies the workers again and again, far more often than there are workers.
    for _ in 0..50 {
        cluster.execute("UPDATE import_job SET notified_at = NULL").await;
        if import.records().await >= records() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    import.assert_ends_exact(&cluster).await;
    assert_eq!(cluster.number("SELECT lease_epoch FROM import_job").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_import_and_single_writes_are_done_long_before_a_big_import() {
    let cluster = Cluster::start().await;
    let big = Import::begin(cluster.client("ann"), 10 * records()).await;
    big.wait_until_under_way(0).await;
    let small = Import::begin(cluster.client("bob"), 1_000).await;
    let kind = cluster.client("ann").event_type("single").await;
    for _ in 0..20 {
        let created = cluster.client("ann").create(&[crate::harness::event(&kind)]).await;
        assert_eq!(created["created"], 1);
    }
    small.assert_ends_exact(&cluster).await;
    assert!(big.records().await < 10 * records(), "the big import ended first");
    big.cancel().await;
}

/// The size of the disk for payloads.
const SMALL_DISK: &str = "20m";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_an_upload_and_a_later_one_that_fits_is_imported() {
    let cluster = Cluster::start_on_a_disk_of(SMALL_DISK).await;
    let client = cluster.client("ann");
    let id = new_id();
    let payload = vec![b'\n'; 30 << 20];
    client.create_import(&id, payload.len(), None).await;
    let refused = client.put(&id, None, payload.clone()).await;
    assert_eq!(refused.status(), 503, "{refused:?}");
    let head = client.head(&id).await;
    let offset: usize = head.headers()["upload-offset"].to_str().unwrap().parse().unwrap();
    assert_eq!(offset, 16 << 20, "the stored part is kept");
    // Other requests still work.
    client.event_type("walk").await;
    client.control_import("cancelImport", &id).await;
    assert_eq!(client.import(&id).await["state"], json!("CANCELED"));
    // After the payloads are removed, another upload works.
    let removed = Command::new("rm").arg("-rf").arg(cluster.disk("payload")).status().unwrap();
    assert!(removed.success());
    Import::begin(client, 1_000).await.assert_ends_exact(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_for_a_redis_that_comes_back_late() {
    let mut cluster = Cluster::start().await;
    cluster.servers.run_command("kill-redis");
    let import = Import::begin(cluster.client("ann"), 1_000).await;
    let minutes = if super::is_full() { 5 } else { 0 };
    tokio::time::sleep(Duration::from_secs(minutes * 60 + 5)).await;
    cluster.servers.run_command("start-redis");
    eventually("the import has started", || async { import.records().await > 0 }).await;
    import.assert_ends_exact(&cluster).await;
}
