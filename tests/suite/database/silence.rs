//! A database whose host vanishes without a word: everybody is answered, and goes on when it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sea_orm::Database;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::network::{ANSWER_MAX, Network};
use crate::harness::process::{Launch, Process};
use crate::harness::{Client, assert_feeds_are_whole, event, eventually, number, servers};

/// Readiness must say no within this time, and service must be back within the other.
const UNREADY_WITHIN: Duration = Duration::from_secs(10);
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// A process that hears nothing for so long had better be started anew.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// What many clients have seen.
#[derive(Default)]
struct Seen {
    acknowledged: AtomicU64,
    unavailable: AtomicU64,
    /// The longest that anybody waited, in milliseconds.
    waited: AtomicU64,
}

/// Sends until it is told to stop. What is not acknowledged is sent again.
async fn go_on(client: Client, query: &'static str, kind: String, seen: Arc<Seen>, stop: Arc<AtomicBool>) {
    let is_batch = query.contains("createEvents");
    while !stop.load(Ordering::Relaxed) {
        let events: Vec<Value> = (0..if is_batch { 3 } else { 1 }).map(|_| event(&kind)).collect();
        let variables = match is_batch {
            true => json!({ "e": events }),
            false => json!({ "e": events[0] }),
        };
        loop {
            let begun = Instant::now();
            let answer = client.send(query, variables.clone()).await;
            let waited = u64::try_from(begun.elapsed().as_millis()).unwrap();
            seen.waited.fetch_max(waited, Ordering::Relaxed);
            if answer["errors"].is_null() {
                seen.acknowledged.fetch_add(events.len() as u64, Ordering::Relaxed);
                break;
            }
            assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{answer}");
            seen.unavailable.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(100)).await;
        }
    }
}

const ONE: &str = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";
const MANY: &str = "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }";

async fn until_status(process: &Process, path: &str, status: u16, within: Duration) {
    let begun = Instant::now();
    while process.status(path).await != status {
        assert!(begun.elapsed() < within, "{path} is not {status} after {:?}", begun.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_answered_though_the_host_of_the_database_vanishes() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let network = Network::to(database.split('@').nth(1).unwrap().split('/').next().unwrap()).await;
    let process = Launch::default().start(&network.through(&database), dir.path()).await;
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let client = process.client(&format!("user {}", number % 6));
        let kind = client.event_type("run").await;
        let query = if number % 3 == 2 { MANY } else { ONE };
        clients.spawn(go_on(client, query, kind, Arc::clone(&seen), Arc::clone(&stop)));
    }
    let acknowledged = || seen.acknowledged.load(Ordering::Relaxed);
    // A network that has become slow is not one that is silent.
    network.slow_down(Duration::from_millis(20));
    let slow_since = Instant::now();
    while slow_since.elapsed() < Duration::from_secs(2) {
        assert_eq!(process.status("/readyz").await, 200);
        sleep(Duration::from_millis(100)).await;
    }
    network.slow_down(Duration::ZERO);
    for is_long in [false, true] {
        let before = acknowledged();
        eventually("all write", || async { acknowledged() > before + 200 }).await;
        network.vanish();
        let vanished = Instant::now();
        until_status(&process, "/readyz", 503, UNREADY_WITHIN).await;
        let page = process.client("user 0").send("{ events { nodes { id } } }", json!({})).await;
        assert_eq!(page["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{page}");
        assert!(vanished.elapsed() < UNREADY_WITHIN + ANSWER_MAX);
        if is_long {
            while vanished.elapsed() < DEAD_AFTER - Duration::from_secs(2) {
                assert_eq!(process.status("/livez").await, 200, "after {:?}", vanished.elapsed());
                sleep(Duration::from_millis(500)).await;
            }
            until_status(&process, "/livez", 503, Duration::from_secs(15)).await;
        }
        network.appear();
        let (back, at_return) = (Instant::now(), acknowledged());
        until_status(&process, "/readyz", 200, BACK_WITHIN).await;
        while acknowledged() == at_return {
            assert!(back.elapsed() < BACK_WITHIN, "nobody writes {:?} after the return", back.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
        until_status(&process, "/livez", 200, BACK_WITHIN).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let longest = Duration::from_millis(seen.waited.load(Ordering::Relaxed));
    assert!(longest < ANSWER_MAX, "somebody waited {longest:?}");
    assert!(seen.unavailable.load(Ordering::Relaxed) > 0, "the host was away for all");
    let sql = Database::connect(&database).await.unwrap();
    let stored = number(&sql, "SELECT count(*) FROM event").await;
    assert_eq!(stored, i64::try_from(acknowledged()).unwrap(), "what is acknowledged is stored, and once");
    assert_feeds_are_whole(&sql).await;
    sql.close().await.unwrap();
}

/// Somebody else's connections that the network has cut cost nobody a page.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_runs_once_more_when_idle_connections_were_cut() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let network = Network::to(database.split('@').nth(1).unwrap().split('/').next().unwrap()).await;
    let process = Launch::default().start(&network.through(&database), dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    client.create(&[event(&kind)]).await;
    let pages = "{ events { nodes { id } } changes { cursor } syncStatus { pending } viewer { userId } }";
    for _ in 0..5 {
        // Several connections at once.
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
