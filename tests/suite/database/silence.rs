//! Tests a database whose host vanishes without closing connections. Every request gets a response in time,
//! and service resumes when the host is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sea_orm::Database;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::network::{Network, RESPONSE_MAX};
use crate::harness::process::{Launch, Process};
use crate::harness::{Client, assert_feeds_are_whole, event, eventually, number, servers};

/// `/readyz` must fail within this time after the host has vanished.
const UNREADY_WITHIN: Duration = Duration::from_secs(10);
/// Requests must succeed within this time after the host is back.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// `/livez` fails after the database has been silent for this time, because a restart may help then.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// What all clients have counted.
#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    unavailable: AtomicU64,
    /// The longest response time in milliseconds.
    longest_ms: AtomicU64,
}

/// Creates events until `stop` is set. What is not acknowledged is sent again.
async fn write_until_stopped(
    client: Client,
    query: &'static str,
    kind: String,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
) {
    let is_batch = query.contains("createEvents");
    while !stop.load(Ordering::Relaxed) {
        let events: Vec<Value> = (0..if is_batch { 3 } else { 1 }).map(|_| event(&kind)).collect();
        let variables = match is_batch {
            true => json!({ "e": events }),
            false => json!({ "e": events[0] }),
        };
        loop {
            let started_at = Instant::now();
            let response = client.send(query, variables.clone()).await;
            let waited = u64::try_from(started_at.elapsed().as_millis()).unwrap();
            counts.longest_ms.fetch_max(waited, Ordering::Relaxed);
            if response["errors"].is_null() {
                counts.acknowledged.fetch_add(events.len() as u64, Ordering::Relaxed);
                break;
            }
            assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
            counts.unavailable.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(100)).await;
        }
    }
}

const ONE: &str = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";
const MANY: &str = "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }";

/// Waits until `path` returns this status. Fails if it takes longer than `within`.
async fn wait_for_status(process: &Process, path: &str, status: u16, within: Duration) {
    let started_at = Instant::now();
    while process.status(path).await != status {
        assert!(started_at.elapsed() < within, "{path} is not {status} after {:?}", started_at.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_gets_a_response_though_the_host_of_the_database_vanishes() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let network = Network::to(database.split('@').nth(1).unwrap().split('/').next().unwrap()).await;
    let process = Launch::default().start(&network.through(&database), dir.path()).await;
    let (counts, stop) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let client = process.client(&format!("user {}", number % 6));
        let kind = client.event_type("run").await;
        let query = if number % 3 == 2 { MANY } else { ONE };
        clients.spawn(write_until_stopped(client, query, kind, Arc::clone(&counts), Arc::clone(&stop)));
    }
    let acknowledged = || counts.acknowledged.load(Ordering::Relaxed);
    // A slow network is not taken for a silent one.
    network.slow_down(Duration::from_millis(20));
    let slow_since = Instant::now();
    while slow_since.elapsed() < Duration::from_secs(2) {
        assert_eq!(process.status("/readyz").await, 200);
        sleep(Duration::from_millis(100)).await;
    }
    network.slow_down(Duration::ZERO);
    for is_long in [false, true] {
        let before = acknowledged();
        eventually("the clients write", || async { acknowledged() > before + 200 }).await;
        network.vanish();
        let vanished = Instant::now();
        wait_for_status(&process, "/readyz", 503, UNREADY_WITHIN).await;
        let page = process.client("user 0").send("{ events { nodes { id } } }", json!({})).await;
        assert_eq!(page["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{page}");
        assert!(vanished.elapsed() < UNREADY_WITHIN + RESPONSE_MAX);
        if is_long {
            while vanished.elapsed() < DEAD_AFTER - Duration::from_secs(2) {
                assert_eq!(process.status("/livez").await, 200, "after {:?}", vanished.elapsed());
                sleep(Duration::from_millis(500)).await;
            }
            wait_for_status(&process, "/livez", 503, Duration::from_secs(15)).await;
        }
        network.appear();
        let (back, at_return) = (Instant::now(), acknowledged());
        wait_for_status(&process, "/readyz", 200, BACK_WITHIN).await;
        while acknowledged() == at_return {
            assert!(back.elapsed() < BACK_WITHIN, "no write succeeds {:?} after the return", back.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
        wait_for_status(&process, "/livez", 200, BACK_WITHIN).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let longest = Duration::from_millis(counts.longest_ms.load(Ordering::Relaxed));
    assert!(longest < RESPONSE_MAX, "a request waited {longest:?}");
    assert!(counts.unavailable.load(Ordering::Relaxed) > 0, "no request noticed that the host was away");
    let sql = Database::connect(&database).await.unwrap();
    let stored = number(&sql, "SELECT count(*) FROM event").await;
    assert_eq!(stored, i64::try_from(acknowledged()).unwrap(), "each acknowledged event is stored once");
    assert_feeds_are_whole(&sql).await;
    sql.close().await.unwrap();
}

/// Pooled connections that the network has closed cause no error in a read.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_retried_when_idle_connections_were_cut() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let network = Network::to(database.split('@').nth(1).unwrap().split('/').next().unwrap()).await;
    let process = Launch::default().start(&network.through(&database), dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    client.create(&[event(&kind)]).await;
    let pages = "{ events { nodes { id } } changes { cursor } syncStatus { pending } viewer { userId } }";
    for _ in 0..5 {
        // Twelve requests at once open several connections.
        let all = (0..12).map(|_| client.ask(pages, json!({})));
        futures::future::join_all(all).await;
        network.cut();
        let all = (0..12).map(|_| client.ask(pages, json!({})));
        futures::future::join_all(all).await;
        network.cut();
        let payload = client.send(ONE, json!({ "e": event(&kind) })).await;
        let outcome = &payload["data"]["createEvent"]["result"]["outcome"];
        let code = &payload["errors"][0]["extensions"]["code"];
        assert!(outcome == "CREATED" || code == "UNAVAILABLE", "{payload}");
    }
}
