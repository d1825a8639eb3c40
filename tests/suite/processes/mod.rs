//! Tests processes that are killed or terminated, and faults of PostgreSQL and Redis. An import stores each
//! record once in all cases.

pub mod cluster;
mod faults;
mod killed;
mod shutdown;

use std::time::{Duration, Instant};

use cluster::{Cluster, Import};
use service::Clock;

use crate::harness::eventually;

/// More than one slice, so that a notification must arrive after each fault for the import to end.
const RECORDS: i64 = 40_000;
/// A request that waited for Redis would take longer, as a connection attempt has 3 s.
const RESPONSE_MAX: Duration = Duration::from_secs(2);

fn is_full() -> bool {
    std::env::var("TESTS_FULL").is_ok()
}

fn records() -> i64 {
    if is_full() { 400_000 } else { RECORDS }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_exact_though_its_worker_is_killed() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    let seen = import.wait_until_under_way(0).await;
    cluster.kill_worker();
    cluster.spawn_worker();
    // The lease of the killed worker expires.
    import.wait_for_progress(seen).await;
    import.assert_ends_exact(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_exact_though_its_workers_are_killed_at_any_point() {
    let kills = if is_full() { 50 } else { 5 };
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    let claims = "SELECT lease_epoch FROM import_job";
    let (mut seen, mut claimed) = (0, 0);
    for _ in 0..kills {
        // A chunk of the killed worker may still be committed after the last check, so only a new claim shows
        // a new worker.
        eventually("a worker claims it", || async { cluster.number(claims).await > claimed }).await;
        import.wait_until_under_way(seen).await;
        let somewhere = Duration::from_micros(Clock::System.random_i64().rem_euclid(150_000).unsigned_abs());
        tokio::time::sleep(somewhere).await;
        cluster.kill_worker();
        (seen, claimed) = (import.records().await, cluster.number(claims).await);
        // The lease of the killed worker is ended here, so that the test does not wait for it.
        cluster
            .execute("UPDATE import_job SET lease_until = 1, notified_at = NULL WHERE state = 'RUNNING'")
            .await;
        cluster.spawn_worker();
    }
    import.assert_ends_exact(&cluster).await;
    assert!(cluster.number(claims).await > kills);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_exact_and_no_process_exits_though_redis_stalls_is_flushed_or_restarts() {
    let mut cluster = Cluster::start().await;
    for fault in ["stall", "flush", "restart"] {
        let import = Import::begin(cluster.client(fault), records()).await;
        import.wait_until_under_way(0).await;
        match fault {
            "stall" => cluster.servers.run_command("stall-redis"),
            "flush" => drop(cluster.servers.redis_cli(0, &["FLUSHALL"])),
            _ => {
                cluster.servers.run_command("kill-redis");
                cluster.servers.run_command("start-redis");
            }
        }
        import.assert_ends_exact(&cluster).await;
        cluster.assert_all_run();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_for_a_redis_that_is_down_and_its_imports_run_later() {
    let mut cluster = Cluster::start().await;
    Import::begin(cluster.client("ann"), 10).await.assert_ends_exact(&cluster).await;
    let client = cluster.client("bob");
    cluster.servers.run_command("kill-redis");
    let started_at = Instant::now();
    let import = Import::begin(client.clone(), 10).await;
    client.event_type("walk").await;
    assert!(started_at.elapsed() < RESPONSE_MAX, "the responses took {:?}", started_at.elapsed());
    assert_eq!(import.records().await, 0);
    cluster.servers.run_command("start-redis");
    import.assert_ends_exact(&cluster).await;
    cluster.assert_all_run();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_exact_though_postgresql_crashes_and_restarts() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    import.wait_until_under_way(0).await;
    cluster.servers.run_command("stop-postgres");
    cluster.servers.run_command("start-postgres");
    import.assert_ends_exact(&cluster).await;
    cluster.assert_all_run();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_worker_releases_its_import_and_exits_within_ten_seconds() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    import.wait_until_under_way(0).await;
    let (status, took) = cluster.terminate_worker().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    let released = "SELECT count(*) FROM import_job WHERE state = 'QUEUED' AND lease_until IS NULL";
    assert_eq!(cluster.number(released).await, 1);
    // The next worker can start before the lease would have expired.
    let started_at = Instant::now();
    let seen = import.wait_until_under_way(0).await;
    cluster.spawn_worker();
    import.wait_for_progress(seen).await;
    assert!(started_at.elapsed() < Duration::from_secs(20), "it waited {:?}", started_at.elapsed());
    import.assert_ends_exact(&cluster).await;
}
