//! Real processes and real signals: an import is exact whatever dies on the way.

pub mod cluster;
mod faults;
mod killed;
mod shutdown;

use std::time::{Duration, Instant};

use cluster::{Cluster, Import};
use service::Clock;

use crate::harness::eventually;

/// More than one slice: behind each fault a notification must get through for the import to end.
const RECORDS: i64 = 40_000;
/// A request that waits for Redis takes longer: a connection has 3 s.
const ANSWER_MAX: Duration = Duration::from_secs(2);

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
    let seen = import.is_under_way(0).await;
    cluster.kill_worker();
    cluster.spawn_worker();
    // The lease of the dead runs out by itself.
    import.moves_on(seen).await;
    import.ends_exact(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_exact_though_its_workers_are_killed_at_any_point() {
    let kills = if is_full() { 50 } else { 5 };
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    let claims = "SELECT lease_epoch FROM import_job";
    let (mut seen, mut claimed) = (0, 0);
    for _ in 0..kills {
        // A chunk of the dead may still be committed behind the last look: only a claim is a new worker's.
        eventually("a worker claims it", || async { cluster.number(claims).await > claimed }).await;
        import.is_under_way(seen).await;
        let somewhere = Duration::from_micros(Clock::System.random().rem_euclid(150_000).unsigned_abs());
        tokio::time::sleep(somewhere).await;
        cluster.kill_worker();
        (seen, claimed) = (import.records().await, cluster.number(claims).await);
        // Nobody waits for the lease of the dead.
        cluster
            .execute("UPDATE import_job SET lease_until = 1, notified_at = NULL WHERE state = 'RUNNING'")
            .await;
        cluster.spawn_worker();
    }
    import.ends_exact(&cluster).await;
    assert!(cluster.number(claims).await > kills);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_exact_though_redis_stalls_and_forgets_and_dies_and_no_process_ends_of_it() {
    let mut cluster = Cluster::start().await;
    for fault in ["stall", "forget", "die"] {
        let import = Import::begin(cluster.client(fault), records()).await;
        import.is_under_way(0).await;
        match fault {
            "stall" => cluster.servers.order("stall-redis"),
            "forget" => drop(cluster.servers.redis_cli(0, &["FLUSHALL"])),
            _ => {
                cluster.servers.order("kill-redis");
                cluster.servers.order("start-redis");
            }
        }
        import.ends_exact(&cluster).await;
        cluster.assert_all_live();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_redis_that_is_down_and_what_was_sent_meanwhile_is_imported() {
    let mut cluster = Cluster::start().await;
    Import::begin(cluster.client("ann"), 10).await.ends_exact(&cluster).await;
    let client = cluster.client("bob");
    cluster.servers.order("kill-redis");
    let begun = Instant::now();
    let import = Import::begin(client.clone(), 10).await;
    client.event_type("walk").await;
    assert!(begun.elapsed() < ANSWER_MAX, "answered after {:?}", begun.elapsed());
    assert_eq!(import.records().await, 0);
    cluster.servers.order("start-redis");
    import.ends_exact(&cluster).await;
    cluster.assert_all_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_exact_though_postgresql_dies_and_comes_back() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    import.is_under_way(0).await;
    cluster.servers.order("stop-postgres");
    cluster.servers.order("start-postgres");
    import.ends_exact(&cluster).await;
    cluster.assert_all_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_end_gives_its_import_back_and_ends_within_ten_seconds() {
    let mut cluster = Cluster::start().await;
    let import = Import::begin(cluster.client("ann"), records()).await;
    import.is_under_way(0).await;
    let (status, took) = cluster.terminate_worker().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    let given_back = "SELECT count(*) FROM import_job WHERE state = 'QUEUED' AND lease_until IS NULL";
    assert_eq!(cluster.number(given_back).await, 1);
    // No lease has to run out.
    let begun = Instant::now();
    let seen = import.is_under_way(0).await;
    cluster.spawn_worker();
    import.moves_on(seen).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited {:?}", begun.elapsed());
    import.ends_exact(&cluster).await;
}
