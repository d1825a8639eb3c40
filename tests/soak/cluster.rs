//! The processes of a soak, their servers, and the networks between them.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::network::Network;
use crate::harness::{Column, SECRET, Servers};
use crate::log::Log;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves, and on SQLite imports as well.
    Api,
    /// It imports.
    Worker,
}

/// A process, which may be replaced by another one at the same place.
pub struct Place {
    pub role: Role,
    child: Child,
    port: u16,
    metrics: u16,
    /// Its way to PostgreSQL.
    pub database: Option<Network>,
}

/// All of them.
pub struct Cluster {
    pub column: Column,
    pub servers: Option<Servers>,
    /// Their way to Redis.
    pub redis: Option<Network>,
    pub places: Vec<Place>,
    pub dir: TempDir,
    /// As the checker reaches it.
    pub database: String,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn host(url: &str) -> &str {
    let rest = url.split("://").nth(1).unwrap();
    rest.split('@').next_back().unwrap().split('/').next().unwrap()
}

impl Cluster {
    pub async fn start(column: Column, log: &Log) -> Self {
        let dir = TempDir::new().unwrap();
        let mut cluster = match column {
            Column::Sqlite => {
                let database = format!("sqlite://{}/idem.db", dir.path().display());
                Self { column, servers: None, redis: None, places: Vec::new(), dir, database }
            }
            Column::Postgres => {
                let servers = Servers::start();
                let database = servers.empty_database("soak").await;
                let redis = Some(Network::to(host(&servers.redis)).await);
                Self { column, servers: Some(servers), redis, places: Vec::new(), dir, database }
            }
        };
        let roles: &[Role] = match column {
            Column::Sqlite => &[Role::Api],
            Column::Postgres => &[Role::Api, Role::Api, Role::Worker, Role::Worker],
        };
        for role in roles {
            let database = match &cluster.servers {
                Some(servers) => Some(Network::to(host(&servers.postgres)).await),
                None => None,
            };
            let (port, metrics) = (free_port(), free_port());
            let child = cluster.spawn(*role, port, metrics, database.as_ref(), cluster.places.len());
            cluster.places.push(Place { role: *role, child, port, metrics, database });
            // Its tables are made by the first one.
            cluster.is_ready(cluster.places.len() - 1, log).await;
        }
        cluster
    }

    fn spawn(&self, role: Role, port: u16, metrics: u16, network: Option<&Network>, place: usize) -> Child {
        let log = File::options().create(true).append(true).open(self.log_of(place)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_idem-under-test"));
        match (role, self.column) {
            (Role::Worker, _) => command.arg("worker"),
            (Role::Api, Column::Sqlite) => command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]),
            (Role::Api, Column::Postgres) => {
                command.args(["serve", "--no-worker", "--listen", &format!("127.0.0.1:{port}")])
            }
        };
        let database = network.map_or(self.database.clone(), |network| network.through(&self.database));
        if let (Some(servers), Some(redis)) = (&self.servers, &self.redis) {
            command.env("IDEM_REDIS_URL", redis.through(&servers.redis));
        } else {
            let library = failing_disk(self.dir.path());
            command.env("LD_PRELOAD", library).env("FAILING_DISK", self.disk_order());
        }
        command
            .current_dir(self.dir.path())
            .env("IDEM_DATABASE_URL", database)
            .env("IDEM_DATA_DIR", self.dir.path())
            .env("IDEM_METRICS_LISTEN", format!("127.0.0.1:{metrics}"))
            .env("IDEM_JWT_SECRET", SECRET)
            .env("IDEM_RATE_LIMIT", "0")
            .env("IDEM_DRAIN_DELAY", "0s")
            .env("IDEM_LOG", "warn")
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Where a process writes its log.
    pub fn log_of(&self, place: usize) -> PathBuf {
        self.dir.path().join(format!("log-{place}"))
    }

    /// What tells the disk to fail.
    pub fn disk_order(&self) -> PathBuf {
        self.dir.path().join("disk-order")
    }

    /// Where payloads are kept.
    pub fn payloads(&self) -> PathBuf {
        self.dir.path().join("payloads")
    }

    pub fn urls(&self) -> Vec<String> {
        let servers = self.places.iter().filter(|place| place.role == Role::Api);
        servers.map(|place| format!("http://127.0.0.1:{}", place.port)).collect()
    }

    /// Where the processes tell their metrics.
    pub fn metrics(&self) -> Vec<String> {
        self.places.iter().map(|place| format!("http://127.0.0.1:{}/metrics", place.metrics)).collect()
    }

    /// Whether a process says that it works on an import.
    pub async fn works_on_imports(&self, place: usize) -> bool {
        let Ok(answer) = reqwest::get(&self.metrics()[place]).await else { return false };
        let text = answer.text().await.unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("idem_imports_in_flight "));
        count.is_some_and(|count| count.trim() != "0")
    }

    /// Waits for a server to be ready; a worker needs no wait.
    pub async fn is_ready(&self, place: usize, log: &Log) {
        let place = &self.places[place];
        if place.role == Role::Worker {
            return;
        }
        let ready = format!("http://127.0.0.1:{}/readyz", place.port);
        for _ in 0..600 {
            if reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        log.wrong("a server is not ready within a minute".to_owned());
    }

    pub fn signal(&self, place: usize, signal: &str) {
        let process = self.places[place].child.id().to_string();
        let told = Command::new("kill").args([&format!("-{signal}"), &process]).status().unwrap();
        assert!(told.success());
    }

    /// Whether a process has ended that nobody ended.
    pub fn has_ended(&mut self, place: usize) -> bool {
        self.places[place].child.try_wait().unwrap().is_some()
    }

    /// Waits for the end of a process, for so long at most. Its exit code, if it has one.
    pub async fn ends(&mut self, place: usize, most: Duration) -> Option<Option<i32>> {
        let begun = std::time::Instant::now();
        while begun.elapsed() < most {
            if let Some(status) = self.places[place].child.try_wait().unwrap() {
                return Some(status.code());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Puts another process in the place of one that has ended.
    pub fn replace(&mut self, place: usize) {
        let Place { role, port, metrics, database, .. } = &self.places[place];
        let child = self.spawn(*role, *port, *metrics, database.as_ref(), place);
        self.places[place].child = child;
    }

    /// The memory of a process, in KiB; 0 when it has ended.
    pub fn memory_kib(&self, place: usize) -> u64 {
        let status = format!("/proc/{}/status", self.places[place].child.id());
        let status = std::fs::read_to_string(status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default()
    }

    /// Sees to it that all is well again.
    pub async fn heal(&mut self, log: &Log) {
        for place in 0..self.places.len() {
            if self.has_ended(place) {
                log.wrong(format!("{:?} {place} has ended, and nobody ended it", self.places[place].role));
                self.replace(place);
            }
            self.is_ready(place, log).await;
        }
    }

    pub async fn stop(&mut self) {
        for place in 0..self.places.len() {
            let _gone = self.places[place].child.kill();
            let _reaped = self.places[place].child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for place in &mut self.places {
            let _gone = place.child.kill();
            let _reaped = place.child.wait();
        }
    }
}

/// Compiles the disk that fails on order, once a folder.
fn failing_disk(dir: &std::path::Path) -> PathBuf {
    let library = dir.join("failing-disk.so");
    if !library.exists() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/failing-disk.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.unwrap().success(), "a C compiler is needed, as for the build");
    }
    library
}
