//! Starts server and worker processes on a private PostgreSQL and Redis, and checks an import while they have
//! faults.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Client, SECRET, Servers, assert_feeds_are_whole, eventually, new_id, number};

/// 2026-01-01 in milliseconds. The timestamp of record `n` is `n` seconds later.
const FIRST_MS: i64 = 1_767_225_600_000;

/// A server process, worker processes, and the servers that they use.
pub struct Cluster {
    pub servers: Servers,
    database: String,
    dir: TempDir,
    processes: Vec<(&'static str, Child)>,
    /// A command that runs each process.
    wrap: Vec<String>,
    fault: &'static str,
    port: u16,
    url: String,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_as(&[], "none").await
    }

    /// Starts a cluster whose processes have an injected fault. It needs the feature `fault-injection`.
    #[cfg(feature = "fault-injection")]
    pub async fn start_with(fault: &'static str) -> Self {
        Self::start_as(&[], fault).await
    }

    /// Starts a cluster whose payloads are on a disk of this size, in a mount namespace of its own.
    pub async fn start_on_a_disk_of(size: &str) -> Self {
        let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$IDEM_DATA_DIR\" && exec \"$@\"");
        let wrap = ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
        let mut cluster = Self::start_as(&wrap, "none").await;
        // The worker would have another disk, so one server process both serves and imports.
        cluster.kill("worker");
        cluster.kill("serve");
        cluster.spawn("serve", &["serve", "--listen", &format!("127.0.0.1:{}", cluster.port)]);
        cluster.wait_until_ready().await;
        cluster
    }

    async fn start_as(wrap: &[&str], fault: &'static str) -> Self {
        let servers = Servers::start();
        let database = servers.empty_database("cluster").await;
        let dir = TempDir::new().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let wrap = wrap.iter().map(|&word| word.to_owned()).collect();
        let mut cluster = Self { servers, database, dir, processes: Vec::new(), wrap, fault, port, url };
        cluster.spawn_server().await;
        cluster.spawn_worker();
        cluster
    }

    /// Starts a server process and waits until it is ready.
    pub async fn spawn_server(&mut self) {
        self.spawn("serve", &["serve", "--no-worker", "--listen", &format!("127.0.0.1:{}", self.port)]);
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&self) {
        let ready = format!("{}/readyz", self.url);
        eventually("the server is ready", || async {
            reqwest::get(&ready).await.is_ok_and(|response| response.status() == 200)
        })
        .await;
    }

    pub fn spawn_worker(&mut self) {
        self.spawn("worker", &["worker"]);
    }

    fn spawn(&mut self, name: &'static str, args: &[&str]) {
        let binary = env!("CARGO_BIN_EXE_idem-under-test").to_owned();
        let words: Vec<&str> = self
            .wrap
            .iter()
            .map(String::as_str)
            .chain([binary.as_str()])
            .chain(args.iter().copied())
            .collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .current_dir(self.dir.path())
            .env("IDEM_DATABASE_URL", &self.database)
            .env("IDEM_REDIS_URL", &self.servers.redis)
            .env("IDEM_DATA_DIR", self.dir.path())
            .env("IDEM_METRICS_LISTEN", "127.0.0.1:0")
            .env("IDEM_JWT_SECRET", SECRET)
            .env("IDEM_PLANT", self.fault)
            .env("IDEM_LOG", "warn")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.processes.push((name, child));
    }

    /// Sends SIGKILL to the worker and waits for its exit.
    pub fn kill_worker(&mut self) {
        self.kill("worker");
    }

    /// Sends SIGKILL to the process with this name and waits for its exit.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.take(name);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal to the worker. Returns its process id.
    pub fn signal_worker(&self, signal: &str) -> u32 {
        let worker = self.processes.iter().find(|(name, _)| *name == "worker").unwrap();
        self.signal(worker.1.id(), signal);
        worker.1.id()
    }

    /// Sends a signal to a process.
    pub fn signal(&self, process: u32, signal: &str) {
        let status =
            Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for a future. Returns its output, or `None` if the worker exits first.
    #[cfg(feature = "fault-injection")]
    pub async fn unless_worker_exits<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut child = self.take("worker");
        let exit = eventually("the worker exits", || {
            let has_exited = child.try_wait().unwrap().is_some();
            async move { has_exited }
        });
        let output = tokio::select! {
            () = exit => return None,
            output = future => output,
        };
        self.processes.push(("worker", child));
        Some(output)
    }

    /// Returns the path by which this process reaches a file on the disk of the server.
    pub fn disk(&self, name: &str) -> std::path::PathBuf {
        let server = self.processes.iter().find(|(name, _)| *name == "serve").unwrap().1.id();
        let folder = self.dir.path().strip_prefix("/").unwrap();
        std::path::Path::new("/proc").join(server.to_string()).join("root").join(folder).join(name)
    }

    /// Sends SIGTERM to the worker and waits for its exit. Returns its status and how long that took.
    pub async fn terminate_worker(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.take("worker");
        let started_at = Instant::now();
        self.signal(child.id(), "TERM");
        eventually("the worker exits", || {
            let has_exited = child.try_wait().unwrap().is_some();
            async move { has_exited }
        })
        .await;
        (child.wait().unwrap(), started_at.elapsed())
    }

    fn take(&mut self, name: &str) -> Child {
        let index = self.processes.iter().position(|(other, _)| *other == name).unwrap();
        self.processes.remove(index).1
    }

    /// Fails if a process has exited that the test did not end.
    pub fn assert_all_run(&mut self) {
        for (name, child) in &mut self.processes {
            assert!(child.try_wait().unwrap().is_none(), "{name} has exited");
        }
    }

    /// Returns a client of this user.
    pub fn client(&self, subject: &str) -> Client {
        Client::new(&self.url, subject)
    }

    /// Runs a query that returns one integer.
    pub async fn number(&self, text: &str) -> i64 {
        let sql = Database::connect(&self.database).await.unwrap();
        let result = number(&sql, text).await;
        sql.close().await.unwrap();
        result
    }

    /// Runs SQL on a connection that the processes do not use.
    pub async fn execute(&self, text: &str) {
        let sql = Database::connect(&self.database).await.unwrap();
        sql.execute_unprepared(text).await.unwrap();
        sql.close().await.unwrap();
    }

    /// Fails if the feed of a user is inconsistent.
    pub async fn assert_feeds_are_whole(&self) {
        let sql = Database::connect(&self.database).await.unwrap();
        assert_feeds_are_whole(&sql).await;
        sql.close().await.unwrap();
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

/// An import whose records all have different external ids.
pub struct Import {
    pub id: String,
    client: Client,
    count: i64,
}

impl Import {
    /// Creates an import and uploads its payload of `count` records.
    pub async fn begin(client: Client, count: i64) -> Self {
        let mut payload = Vec::new();
        for n in 0..count {
            let (day, second) = (1 + n / 86_400, n % 86_400);
            let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
            let at = format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
            let line = json!({ "eventType": "sample", "timestamp": at, "externalId": format!("s-{n}") });
            payload.extend(format!("{line}\n").into_bytes());
        }
        let id = new_id();
        client.create_import(&id, payload.len(), None).await;
        assert_eq!(client.put(&id, None, payload).await.status(), 200);
        Self { id, client, count }
    }

    /// Loads the import. Returns `None` if the response has errors, because the server has faults too.
    async fn load(&self) -> Option<Value> {
        let query = "query($id: ID!) { importJob(id: $id) { state recordsTotal counts { \
            records inserted duplicates differing deleted rejected } } }";
        let mut response = self.client.send(query, json!({ "id": self.id })).await;
        Some(response["data"]["importJob"].take()).filter(Value::is_object)
    }

    /// Cancels the import.
    pub async fn cancel(&self) {
        assert!(self.client.control_import("cancelImport", &self.id).await["problem"].is_null());
    }

    /// Returns how many records are processed, or 0 if the server cannot say.
    pub async fn records(&self) -> i64 {
        self.load().await.map_or(0, |job| job["counts"]["records"].as_i64().unwrap())
    }

    /// Waits until more than `from` records are processed. Fails if that takes more than a minute. Returns
    /// their number.
    pub async fn wait_for_progress(&self, from: i64) -> i64 {
        let started_at = Instant::now();
        eventually("the import makes progress", || async { self.records().await > from }).await;
        eprintln!("after record {from} the next one was processed within {:?}", started_at.elapsed());
        self.records().await
    }

    /// Waits until more than `from` records are processed, and fails if the import has ended by then.
    pub async fn wait_until_under_way(&self, from: i64) -> i64 {
        let records = self.wait_for_progress(from).await;
        assert!(records < self.count, "the import ended too soon");
        records
    }

    /// Waits until the import has ended, as long as it makes progress. Fails unless each record is stored
    /// once and the counts are right.
    pub async fn assert_ends_exact(&self, cluster: &Cluster) {
        let mut records = self.records().await;
        while records < self.count {
            records = self.wait_for_progress(records).await;
        }
        let has_ended = || async { self.load().await.is_some_and(|job| job["state"] != "RUNNING") };
        eventually("the import ends", has_ended).await;
        let job = self.load().await.unwrap();
        let counts = json!({ "records": self.count, "inserted": self.count, "duplicates": 0,
            "differing": 0, "deleted": 0, "rejected": 0 });
        assert_eq!(
            job,
            json!({ "state": "COMPLETED", "recordsTotal": self.count, "counts": counts }),
            "{job}"
        );
        let rows = format!("FROM event WHERE import_job_id = '{}'", self.id);
        assert_eq!(cluster.number(&format!("SELECT count(*) {rows}")).await, self.count);
        // Each external id is stored once, with the timestamp of its record.
        let matching = format!("external_id = 's-' || ((\"timestamp\" - {FIRST_MS}) / 1000)");
        let external_ids = format!("SELECT count(DISTINCT external_id) {rows} AND {matching}");
        assert_eq!(cluster.number(&external_ids).await, self.count);
        cluster.assert_feeds_are_whole().await;
    }
}
