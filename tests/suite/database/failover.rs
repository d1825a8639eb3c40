//! Another database server that takes over: what it lacks comes back from the devices, and nobody misses anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::clients::run_node;
use crate::harness::network::Network;
use crate::harness::process::{Launch, Process};
use crate::harness::{Client, Servers, assert_feeds_are_whole, event, eventually, number};

/// A primary with a standby behind a network of its own, and a server that follows whoever is primary.
struct Pair {
    servers: Servers,
    standby: String,
    replication: Network,
    clients: Network,
    process: Process,
    database: String,
    _dir: TempDir,
}

fn address(url: &str) -> &str {
    url.split('@').nth(1).unwrap().split('/').next().unwrap()
}

impl Pair {
    async fn start(launch: Launch) -> Self {
        let mut servers = Servers::start();
        let database = servers.empty_database("pair").await;
        let replication = Network::to(address(&servers.postgres)).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        servers.order(&format!("start-standby {port} {}", replication.address.port()));
        let clients = Network::to(address(&servers.postgres)).await;
        let dir = TempDir::new().unwrap();
        let process = launch.start(&clients.through(&database), dir.path()).await;
        let standby = format!("127.0.0.1:{port}");
        Self { servers, standby, replication, clients, process, database, _dir: dir }
    }

    /// The standby has all that is committed by now.
    async fn catch_up(&self) {
        let sql = Database::connect(&self.database).await.unwrap();
        let behind = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()";
        eventually("the standby has it", || async { number(&sql, behind).await == 1 }).await;
        sql.close().await.unwrap();
    }

    /// The primary dies, and the standby takes its place.
    fn fail_over(&mut self) {
        self.promote();
        self.clients.lead_to(&self.standby);
    }

    /// The same before the name leads to the new primary.
    fn promote(&mut self) {
        self.servers.order("stop-postgres");
        self.servers.order("promote-standby");
    }

    fn primary_of_now(&self) -> String {
        self.database.replace(address(&self.servers.postgres), &self.standby)
    }
}

/// Does what the devices of a test ask for.
async fn obey(pair: &mut Pair, listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        let asked = String::from_utf8_lossy(&head[..length]).into_owned();
        match asked.split(' ').nth(1) {
            Some("/cut") => {
                pair.catch_up().await;
                pair.replication.vanish();
            }
            Some("/promote") => pair.fail_over(),
            other => panic!("{other:?}"),
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    }
}

/// Creates events until it is told to stop, whatever becomes of them.
async fn load(client: Client, stop: Arc<AtomicBool>) {
    let create = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";
    let kind = client.event_type("run").await;
    while !stop.load(Ordering::Relaxed) {
        client.send(create, json!({ "e": event(&kind) })).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_lost_comes_back_from_the_devices() {
    let mut pair = Pair::start(Launch::default()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let loads = ["bob", "eve"].map(|name| tokio::spawn(load(pair.process.client(name), Arc::clone(&stop))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = format!("http://{}", listener.local_addr().unwrap());
    let (url, env) = (pair.process.url.clone(), [("IDEM_CONTROL_URL", control.as_str())]);
    tokio::select! {
        () = obey(&mut pair, listener) => unreachable!("it obeys until the devices are done"),
        () = run_node(&url, "failover.mjs", &env) => {}
    }
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    let sql = Database::connect(pair.primary_of_now()).await.unwrap();
    assert_feeds_are_whole(&sql).await;
    // One row changes, and not one for each user.
    let told = "SELECT count(*) FROM cluster_state WHERE generation <> 0 AND timeline = 2";
    assert_eq!(number(&sql, told).await, 1);
    sql.close().await.unwrap();
}

async fn page(client: &Client, after: &str) -> Value {
    let query = "query($c: Cursor) { changes(after: $c) { cursor reset changes { entityId } } }";
    client.ask(query, json!({ "c": after })).await["changes"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_nothing_resets_nobody_where_that_is_said() {
    for (failover, reset) in [("lossless", Value::Null), ("lossy", json!("EPOCH_CHANGED"))] {
        let mut pair = Pair::start(Launch::default().env("IDEM_FAILOVER", failover)).await;
        let client = pair.process.client("ann");
        client.event_type("run").await;
        let (_, cursor) = client.pull(None, 500).await;
        assert_eq!(page(&client, &cursor).await["reset"], Value::Null);
        pair.catch_up().await;
        pair.fail_over();
        let query = "query($c: Cursor) { changes(after: $c) { reset } }";
        eventually("it is there again", || async {
            client.send(query, json!({ "c": cursor })).await["errors"].is_null()
        })
        .await;
        assert_eq!(page(&client, &cursor).await["reset"], reset, "{failover}");
        // Whichever it was, from here on the feed goes on.
        let (_, cursor) = client.pull(None, 500).await;
        client.event_type("walk").await;
        assert_eq!(page(&client, &cursor).await["changes"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_without_a_standby_of_its_own_can_be_read_at_once() {
    let mut pair = Pair::start(Launch::default()).await;
    let client = pair.process.client("ann");
    client.event_type("run").await;
    let (_, cursor) = client.pull(None, 500).await;
    pair.catch_up().await;
    pair.promote();
    let sql = Database::connect(pair.primary_of_now()).await.unwrap();
    // Writes wait for a standby that is not there yet.
    sql.execute_unprepared("ALTER SYSTEM SET synchronous_standby_names = 'absent'").await.unwrap();
    sql.execute_unprepared("SELECT pg_reload_conf()").await.unwrap();
    pair.clients.lead_to(&pair.standby.clone());
    let query = "query($c: Cursor) { changes(after: $c) { reset } }";
    eventually("it can be read", || async {
        client.send(query, json!({ "c": cursor })).await["data"]["changes"]["reset"] == "EPOCH_CHANGED"
    })
    .await;
    sql.execute_unprepared("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    sql.execute_unprepared("SELECT pg_reload_conf()").await.unwrap();
    sql.close().await.unwrap();
    let (_, cursor) = client.pull(None, 500).await;
    client.event_type("walk").await;
    assert_eq!(page(&client, &cursor).await["changes"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_though_the_database_does_not_wait_for_its_disk() {
    let mut servers = Servers::start();
    let database = servers.empty_database("hasty").await;
    let sql = Database::connect(&database).await.unwrap();
    sql.execute_unprepared("ALTER DATABASE hasty SET synchronous_commit = off").await.unwrap();
    // The longest that PostgreSQL may wait before it writes what it has not waited for.
    sql.execute_unprepared("ALTER SYSTEM SET wal_writer_delay = '10s'").await.unwrap();
    sql.execute_unprepared("SELECT pg_reload_conf()").await.unwrap();
    sql.close().await.unwrap();
    let dir = TempDir::new().unwrap();
    let process = Launch::default().start(&database, dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    for crash in 1..4 {
        for _ in 0..20 {
            assert_eq!(client.create(&[event(&kind)]).await["created"], 1);
        }
        servers.order("stop-postgres");
        servers.order("start-postgres");
        process.is_ready().await;
        let sql = Database::connect(&database).await.unwrap();
        assert_eq!(number(&sql, "SELECT count(*) FROM event").await, 20 * crash, "after crash {crash}");
        sql.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_not_used_until_it_is_promoted() {
    let mut pair = Pair::start(Launch::default()).await;
    let client = pair.process.client("ann");
    let kind = client.event_type("run").await;
    pair.catch_up().await;
    // The name leads to the standby before that has become the primary.
    pair.clients.lead_to(&pair.standby.clone());
    pair.clients.cut();
    eventually("it is not ready", || async { pair.process.status("/readyz").await == 503 }).await;
    let create = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";
    let answer = client.send(create, json!({ "e": event(&kind) })).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{answer}");
    pair.fail_over();
    pair.process.is_ready().await;
    assert_eq!(client.create(&[event(&kind)]).await["created"], 1);
}
