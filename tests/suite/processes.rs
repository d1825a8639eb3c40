//! Real processes and real signals: an import is exact whatever dies on the way.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sea_orm::Database;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Client, SECRET, Servers, assert_feeds_are_whole, eventually, new_id, number};

/// A cluster of our own processes over private servers.
struct Cluster {
    servers: Servers,
    database: String,
    dir: TempDir,
    processes: Vec<(String, Child)>,
    url: String,
}

impl Cluster {
    async fn start() -> Self {
        let servers = Servers::start();
        let database = servers.empty_database("cluster").await;
        let dir = TempDir::new().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let mut cluster = Self { servers, database, dir, processes: Vec::new(), url };
        cluster.spawn("serve", &["serve", "--no-worker", "--listen", &format!("127.0.0.1:{port}")]);
        let ready = format!("{}/readyz", cluster.url);
        eventually("the server is ready", || async {
            reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        cluster
    }

    fn spawn(&mut self, name: &str, args: &[&str]) {
        let child = Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
            .args(args)
            .current_dir(self.dir.path())
            .env("IDEM_DATABASE_URL", &self.database)
            .env("IDEM_REDIS_URL", &self.servers.redis)
            .env("IDEM_DATA_DIR", self.dir.path())
            .env("IDEM_METRICS_LISTEN", "127.0.0.1:0")
            .env("IDEM_JWT_SECRET", SECRET)
            .env("IDEM_LOG", "warn")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.processes.push((name.to_owned(), child));
    }

    /// SIGKILL to one of the processes of that name.
    fn kill(&mut self, name: &str) {
        let at = self.processes.iter().position(|(known, _)| known == name).unwrap();
        let (_, mut child) = self.processes.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn redis(&self, command: &str) {
        let url = self.servers.redis.trim_start_matches("redis://");
        let (host, port) = url.split_once(':').unwrap();
        let done = Command::new("redis-cli").args(["-h", host, "-p", port, command]).output().unwrap();
        assert!(done.status.success());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in &mut self.processes {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

async fn records(client: &Client, id: &str) -> i64 {
    client.import(id).await["counts"]["records"].as_i64().unwrap()
}

/// Waits until the import has moved on; fails when it does not within a minute.
async fn moves_on(client: &Client, id: &str, from: i64) -> i64 {
    let begun = Instant::now();
    eventually("the import moves again", || async { records(client, id).await > from }).await;
    eprintln!("moved again after {:?}", begun.elapsed());
    records(client, id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_exact_though_its_worker_is_killed_and_redis_forgets() {
    let full = std::env::var("IDEM_FULL").is_ok();
    let count = if full { 400_000 } else { 60_000 };
    let mut cluster = Cluster::start().await;
    cluster.spawn("worker", &["worker"]);
    let client = Client::new(&cluster.url, "ann");
    let mut payload = Vec::new();
    for n in 0..count {
        let line = json!({ "eventType": "sample", "timestamp": "2026-01-01T00:00:00Z", "externalId": format!("s-{n}") });
        payload.extend(format!("{line}\n").into_bytes());
    }
    let id = new_id();
    client.create_import(&id, payload.len(), None).await;
    assert_eq!(client.put(&id, None, payload.clone()).await.status(), 200);
    let mut seen = moves_on(&client, &id, 0).await;
    for _ in 0..if full { 5 } else { 1 } {
        cluster.kill("worker");
        cluster.spawn("worker", &["worker"]);
        seen = moves_on(&client, &id, seen).await;
        cluster.redis("FLUSHALL");
    }
    tokio::time::timeout(Duration::from_secs(600), client.ended(&id)).await.unwrap();
    let job = client.import(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(count)), "{job}");
    assert_eq!(job["counts"]["records"], json!(count));
    let sql = Database::connect(&cluster.database).await.unwrap();
    assert_eq!(number(&sql, "SELECT count(*) FROM event").await, count);
    assert_feeds_are_whole(&sql).await;
    sql.close().await.unwrap();
}
