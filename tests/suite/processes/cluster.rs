//! Servers of one's own and real processes over them, and an import that is watched while they suffer.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Client, SECRET, Servers, assert_feeds_are_whole, eventually, new_id, number};

/// 2026-01-01 in milliseconds; record `n` lies `n` seconds behind it.
const FIRST_MS: i64 = 1_767_225_600_000;

/// One process that serves, processes that import, and what they work on.
pub struct Cluster {
    pub servers: Servers,
    database: String,
    dir: TempDir,
    processes: Vec<(&'static str, Child)>,
    /// In front of each command.
    wrap: Vec<String>,
    fault: &'static str,
    port: u16,
    url: String,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_as(&[], "none").await
    }

    /// One whose processes make a mistake, in a build that can.
    #[cfg(feature = "fault-injection")]
    pub async fn start_with(fault: &'static str) -> Self {
        Self::start_as(&[], fault).await
    }

    /// One whose payloads lie on a disk of so many bytes, which its processes alone see.
    pub async fn start_on_a_disk_of(size: &str) -> Self {
        let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$IDEM_DATA_DIR\" && exec \"$@\"");
        let wrap = ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
        let mut cluster = Self::start_as(&wrap, "none").await;
        // The worker has a disk of its own: the server does its work.
        cluster.kill("worker");
        cluster.kill("serve");
        cluster.spawn("serve", &["serve", "--listen", &format!("127.0.0.1:{}", cluster.port)]);
        cluster.is_ready().await;
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

    /// A process that serves, and has begun to.
    pub async fn spawn_server(&mut self) {
        self.spawn("serve", &["serve", "--no-worker", "--listen", &format!("127.0.0.1:{}", self.port)]);
        self.is_ready().await;
    }

    async fn is_ready(&self) {
        let ready = format!("{}/readyz", self.url);
        eventually("the server is ready", || async {
            reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200)
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

    /// SIGKILL to the worker.
    pub fn kill_worker(&mut self) {
        self.kill("worker");
    }

    /// SIGKILL to the process of that name.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.take(name);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A signal to the worker; its process id.
    pub fn signal_worker(&self, signal: &str) -> u32 {
        let worker = self.processes.iter().find(|(name, _)| *name == "worker").unwrap();
        self.signal(worker.1.id(), signal);
        worker.1.id()
    }

    /// A signal to a process.
    pub fn signal(&self, process: u32, signal: &str) {
        let told = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status().unwrap();
        assert!(told.success());
    }

    /// Waits for the worker to end by itself, or for something else; that, if it comes first.
    #[cfg(feature = "fault-injection")]
    pub async fn worker_dies_before<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        let mut child = self.take("worker");
        let dies = eventually("the worker dies", || {
            let has_ended = child.try_wait().unwrap().is_some();
            async move { has_ended }
        });
        let something = tokio::select! {
            () = dies => return None,
            something = something => something,
        };
        self.processes.push(("worker", child));
        Some(something)
    }

    /// A place on the disk of the server, as this process reaches it.
    pub fn disk(&self, name: &str) -> std::path::PathBuf {
        let server = self.processes.iter().find(|(name, _)| *name == "serve").unwrap().1.id();
        let folder = self.dir.path().strip_prefix("/").unwrap();
        std::path::Path::new("/proc").join(server.to_string()).join("root").join(folder).join(name)
    }

    /// SIGTERM to the worker; how it ended, and how long that took.
    pub async fn terminate_worker(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.take("worker");
        let told = Instant::now();
        self.signal(child.id(), "TERM");
        eventually("the worker ends", || {
            let has_ended = child.try_wait().unwrap().is_some();
            async move { has_ended }
        })
        .await;
        (child.wait().unwrap(), told.elapsed())
    }

    fn take(&mut self, name: &str) -> Child {
        let at = self.processes.iter().position(|(of, _)| *of == name).unwrap();
        self.processes.remove(at).1
    }

    /// Fails when a process has ended that nobody ended.
    pub fn assert_all_live(&mut self) {
        for (name, child) in &mut self.processes {
            assert!(child.try_wait().unwrap().is_none(), "{name} has ended");
        }
    }

    /// A client of this user.
    pub fn client(&self, subject: &str) -> Client {
        Client::new(&self.url, subject)
    }

    /// One whole number out of the database.
    pub async fn number(&self, text: &str) -> i64 {
        let sql = Database::connect(&self.database).await.unwrap();
        let found = number(&sql, text).await;
        sql.close().await.unwrap();
        found
    }

    /// Runs SQL beside the processes.
    pub async fn execute(&self, text: &str) {
        let sql = Database::connect(&self.database).await.unwrap();
        sql.execute_unprepared(text).await.unwrap();
        sql.close().await.unwrap();
    }

    /// Fails when the feed of anybody is not whole.
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

/// An import of so many records of its own.
pub struct Import {
    pub id: String,
    client: Client,
    count: i64,
}

impl Import {
    /// Sends a payload of `count` records.
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

    /// As it stands; `None` when the server cannot say, since it suffers too.
    async fn look(&self) -> Option<Value> {
        let query = "query($id: ID!) { importJob(id: $id) { state recordsTotal counts { \
            records inserted duplicates differing deleted rejected } } }";
        let mut answer = self.client.send(query, json!({ "id": self.id })).await;
        Some(answer["data"]["importJob"].take()).filter(Value::is_object)
    }

    /// Ends it before its time.
    pub async fn cancel(&self) {
        assert!(self.client.step("cancelImport", &self.id).await["problem"].is_null());
    }

    /// How many records are through; 0 when nobody can say.
    pub async fn records(&self) -> i64 {
        self.look().await.map_or(0, |job| job["counts"]["records"].as_i64().unwrap())
    }

    /// Waits until more records are through than `from`; fails when none is within a minute.
    pub async fn moves_on(&self, from: i64) -> i64 {
        let begun = Instant::now();
        eventually("the import moves", || async { self.records().await > from }).await;
        eprintln!("behind record {from} it moved after {:?}", begun.elapsed());
        self.records().await
    }

    /// Waits until it is under way, so that what comes next happens in the middle of it.
    pub async fn is_under_way(&self, from: i64) -> i64 {
        let records = self.moves_on(from).await;
        assert!(records < self.count, "it was over too soon");
        records
    }

    /// Waits for its end, as long as it moves, and fails when it is not exact: rows are the truth, and
    /// the counts add up.
    pub async fn ends_exact(&self, cluster: &Cluster) {
        let mut seen = self.records().await;
        while seen < self.count {
            seen = self.moves_on(seen).await;
        }
        let has_ended = || async { self.look().await.is_some_and(|job| job["state"] != "RUNNING") };
        eventually("the import ends", has_ended).await;
        let job = self.look().await.unwrap();
        let counts = json!({ "records": self.count, "inserted": self.count, "duplicates": 0,
            "differing": 0, "deleted": 0, "rejected": 0 });
        assert_eq!(
            job,
            json!({ "state": "COMPLETED", "recordsTotal": self.count, "counts": counts }),
            "{job}"
        );
        let rows = format!("FROM event WHERE import_job_id = '{}'", self.id);
        assert_eq!(cluster.number(&format!("SELECT count(*) {rows}")).await, self.count);
        // Each record once: as many names as there are records, each at its own second.
        let right = format!("external_id = 's-' || ((\"timestamp\" - {FIRST_MS}) / 1000)");
        let names = format!("SELECT count(DISTINCT external_id) {rows} AND {right}");
        assert_eq!(cluster.number(&names).await, self.count);
        cluster.assert_feeds_are_whole().await;
    }
}
