//! What else happens to processes, in the order of their day.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::cluster::{Cluster, Import};
use super::records;
use crate::harness::{eventually, new_id};

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_begun_though_the_server_dies_before_it_rings() {
    let mut cluster = Cluster::start().await;
    cluster.servers.order("kill-redis");
    let import = Import::begin(cluster.client("ann"), 1_000).await;
    cluster.kill("serve");
    cluster.servers.order("start-redis");
    cluster.spawn_server().await;
    import.ends_exact(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_sleeps_past_its_lease_can_write_no_more() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    let seen = import.is_under_way(0).await;
    let sleeper = cluster.signal_worker("STOP");
    cluster.spawn_worker();
    cluster
        .execute("UPDATE import_job SET lease_until = 1, notified_at = NULL WHERE state = 'RUNNING'")
        .await;
    // It may sleep in the middle of a transaction, which the database ends for it.
    let held_by_another = "SELECT count(*) FROM import_job WHERE lease_epoch = 2";
    eventually("another has taken it", || async { cluster.number(held_by_another).await == 1 }).await;
    import.is_under_way(seen).await;
    cluster.signal(sleeper, "CONT");
    import.ends_exact(&cluster).await;
    assert_eq!(cluster.number("SELECT lease_epoch FROM import_job").await, 2);
    cluster.assert_all_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_are_told_of_one_import_do_it_once() {
    let mut cluster = Cluster::start().await;
    cluster.spawn_worker();
    let import = Import::begin(cluster.client("ann"), records()).await;
    // Forged notifications, far more than there are workers.
    for _ in 0..50 {
        cluster.execute("UPDATE import_job SET notified_at = NULL").await;
        if import.records().await >= records() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    import.ends_exact(&cluster).await;
    assert_eq!(cluster.number("SELECT lease_epoch FROM import_job").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_import_and_writes_by_hand_are_done_long_before_a_big_import() {
    let cluster = Cluster::start().await;
    let big = Import::begin(cluster.client("ann"), 10 * records()).await;
    big.is_under_way(0).await;
    let small = Import::begin(cluster.client("bob"), 1_000).await;
    let kind = cluster.client("ann").event_type("by hand").await;
    for _ in 0..20 {
        let created = cluster.client("ann").create(&[crate::harness::event(&kind)]).await;
        assert_eq!(created["created"], 1);
    }
    small.ends_exact(&cluster).await;
    assert!(big.records().await < 10 * records(), "the big one ended first");
    big.cancel().await;
}

/// A disk of a few MiB of its own, in a mount namespace that only the processes of a cluster see.
const SMALL_DISK: &str = "20m";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_what_fits_later_goes_on() {
    let cluster = Cluster::start_on_a_disk_of(SMALL_DISK).await;
    let client = cluster.client("ann");
    let id = new_id();
    let payload = vec![b'\n'; 30 << 20];
    client.create_import(&id, payload.len(), None).await;
    let refused = client.put(&id, None, payload.clone()).await;
    assert_eq!(refused.status(), 503, "{refused:?}");
    let head = client.head(&id).await;
    let offset: usize = head.headers()["upload-offset"].to_str().unwrap().parse().unwrap();
    assert_eq!(offset, 16 << 20, "what has arrived is kept");
    // Nothing else suffers.
    client.event_type("walk").await;
    client.step("cancelImport", &id).await;
    assert_eq!(client.import(&id).await["state"], json!("CANCELED"));
    // Room is made, and the same goes through.
    let made = Command::new("rm").arg("-rf").arg(cluster.disk("payload")).status().unwrap();
    assert!(made.success());
    Import::begin(client, 1_000).await.ends_exact(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_for_a_redis_that_comes_back_late() {
    let mut cluster = Cluster::start().await;
    cluster.servers.order("kill-redis");
    let import = Import::begin(cluster.client("ann"), 1_000).await;
    let minutes = if super::is_full() { 5 } else { 0 };
    tokio::time::sleep(Duration::from_secs(minutes * 60 + 5)).await;
    cluster.servers.order("start-redis");
    eventually("it has begun", || async { import.records().await > 0 }).await;
    import.ends_exact(&cluster).await;
}
