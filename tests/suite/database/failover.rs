//! Tests a failover to a PostgreSQL standby. Devices send again what the standby had not received, and no
//! device misses a change.

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

/// A primary, a standby that replicates through a proxy, and an Idem server that connects through another
/// proxy.
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
        servers.run_command(&format!("start-standby {port} {}", replication.address.port()));
        let clients = Network::to(address(&servers.postgres)).await;
        let dir = TempDir::new().unwrap();
        let process = launch.start(&clients.through(&database), dir.path()).await;
        let standby = format!("127.0.0.1:{port}");
        Self { servers, standby, replication, clients, process, database, _dir: dir }
    }

    /// Waits until the standby has replayed everything that is committed.
    async fn catch_up(&self) {
        let sql = Database::connect(&self.database).await.unwrap();
        let in_sync = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()";
        eventually("the standby has caught up", || async { number(&sql, in_sync).await == 1 }).await;
        sql.close().await.unwrap();
    }

    /// Stops the primary, promotes the standby, and leads the server to it.
    fn fail_over(&mut self) {
        self.promote();
        self.clients.redirect_to(&self.standby);
    }

    /// Stops the primary and promotes the standby. The server is not yet led to it.
    fn promote(&mut self) {
        self.servers.run_command("stop-postgres");
        self.servers.run_command("promote-standby");
    }

    fn new_primary(&self) -> String {
        self.database.replace(address(&self.servers.postgres), &self.standby)
    }
}

/// Serves requests by which the Node test cuts the replication and promotes the standby.
async fn serve_control(pair: &mut Pair, listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        let request = String::from_utf8_lossy(&head[..length]).into_owned();
        match request.split(' ').nth(1) {
            Some("/cut") => {
                pair.catch_up().await;
                pair.replication.vanish();
            }
            Some("/promote") => pair.fail_over(),
            other => panic!("{other:?}"),
        }
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(response).await.unwrap();
    }
}

/// Creates events until `stop` is set, and ignores the responses.
async fn generate_load(client: Client, stop: Arc<AtomicBool>) {
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
    let loads =
        ["bob", "eve"].map(|name| tokio::spawn(generate_load(pair.process.client(name), Arc::clone(&stop))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = format!("http://{}", listener.local_addr().unwrap());
    let (url, env) = (pair.process.url.clone(), [("IDEM_CONTROL_URL", control.as_str())]);
    tokio::select! {
        () = serve_control(&mut pair, listener) => unreachable!("it serves until the Node test is over"),
        () = run_node(&url, "failover.mjs", &env) => {}
    }
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    let sql = Database::connect(pair.new_primary()).await.unwrap();
    assert_feeds_are_whole(&sql).await;
    // A failover changes one row for the whole database, and none for each user.
    let changed = "SELECT count(*) FROM cluster_state WHERE generation <> 0 AND timeline = 2";
    assert_eq!(number(&sql, changed).await, 1);
    sql.close().await.unwrap();
}

async fn page(client: &Client, after: &str) -> Value {
    let query = "query($c: Cursor) { changes(after: $c) { cursor reset changes { entityId } } }";
    client.ask(query, json!({ "c": after })).await["changes"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_resets_no_device_if_it_is_configured_as_lossless() {
    for (failover, reset) in [("lossless", Value::Null), ("lossy", json!("EPOCH_CHANGED"))] {
        let mut pair = Pair::start(Launch::default().env("IDEM_FAILOVER", failover)).await;
        let client = pair.process.client("ann");
        client.event_type("run").await;
        let (_, cursor) = client.pull(None, 500).await;
        assert_eq!(page(&client, &cursor).await["reset"], Value::Null);
        pair.catch_up().await;
        pair.fail_over();
        let query = "query($c: Cursor) { changes(after: $c) { reset } }";
        eventually("the server works again", || async {
            client.send(query, json!({ "c": cursor })).await["errors"].is_null()
        })
        .await;
        assert_eq!(page(&client, &cursor).await["reset"], reset, "{failover}");
        // In both cases the feed goes on from here.
        let (_, cursor) = client.pull(None, 500).await;
        client.event_type("walk").await;
        assert_eq!(page(&client, &cursor).await["changes"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_without_a_standby_of_its_own_can_be_read_at_once() {
    let mut pair = Pair::start(Launch::default()).await;
    let client = pair.process.client("ann");
    client.event_type("run").await;
    let (_, cursor) = client.pull(None, 500).await;
    pair.catch_up().await;
    pair.promote();
    let sql = Database::connect(pair.new_primary()).await.unwrap();
    // With this setting writes wait for a standby that is not there yet.
    sql.execute_unprepared("ALTER SYSTEM SET synchronous_standby_names = 'absent'").await.unwrap();
    sql.execute_unprepared("SELECT pg_reload_conf()").await.unwrap();
    pair.clients.redirect_to(&pair.standby.clone());
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
async fn a_crash_loses_nothing_though_synchronous_commit_is_off_by_default() {
    let mut servers = Servers::start();
    let database = servers.empty_database("hasty").await;
    let sql = Database::connect(&database).await.unwrap();
    sql.execute_unprepared("ALTER DATABASE hasty SET synchronous_commit = off").await.unwrap();
    // The longest delay that PostgreSQL allows before it writes asynchronous commits to disk.
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
        servers.run_command("stop-postgres");
        servers.run_command("start-postgres");
        process.wait_until_ready().await;
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
    // The name leads to the standby before the standby is promoted.
    pair.clients.redirect_to(&pair.standby.clone());
    pair.clients.cut();
    eventually("it is not ready", || async { pair.process.status("/readyz").await == 503 }).await;
    let create = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";
    let response = client.send(create, json!({ "e": event(&kind) })).await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
    pair.fail_over();
    pair.process.wait_until_ready().await;
    assert_eq!(client.create(&[event(&kind)]).await["created"], 1);
}
