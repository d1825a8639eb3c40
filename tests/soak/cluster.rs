//! Starts the processes of a soak test, their PostgreSQL and Redis, and the proxies between them.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::network::Network;
use crate::harness::{DatabaseKind, SECRET, Servers};
use crate::log::Log;

/// The command that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `idem serve`, which on SQLite imports as well.
    Api,
    /// `idem worker`.
    Worker,
}

/// A process. After its exit another one with the same ports can take its slot.
pub struct Slot {
    pub role: Role,
    child: Child,
    port: u16,
    metrics_port: u16,
    /// The proxy to PostgreSQL.
    pub database: Option<Network>,
}

/// All processes and their servers.
pub struct Cluster {
    pub database_kind: DatabaseKind,
    pub servers: Option<Servers>,
    /// The proxy to Redis.
    pub redis: Option<Network>,
    pub slots: Vec<Slot>,
    pub dir: TempDir,
    /// The URL of the database without a proxy.
    pub database: String,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns `host:port` of a URL.
fn host(url: &str) -> &str {
    let rest = url.split("://").nth(1).unwrap();
    rest.split('@').next_back().unwrap().split('/').next().unwrap()
}

impl Cluster {
    pub async fn start(database_kind: DatabaseKind, log: &Log) -> Self {
        let dir = TempDir::new().unwrap();
        let mut cluster = match database_kind {
            DatabaseKind::Sqlite => {
                let database = format!("sqlite://{}/idem.db", dir.path().display());
                Self { database_kind, servers: None, redis: None, slots: Vec::new(), dir, database }
            }
            DatabaseKind::Postgres => {
                let servers = Servers::start();
                let database = servers.empty_database("soak").await;
                let redis = Some(Network::to(host(&servers.redis)).await);
                Self { database_kind, servers: Some(servers), redis, slots: Vec::new(), dir, database }
            }
        };
        let roles: &[Role] = match database_kind {
            DatabaseKind::Sqlite => &[Role::Api],
            DatabaseKind::Postgres => &[Role::Api, Role::Api, Role::Worker, Role::Worker],
        };
        for role in roles {
            let database = match &cluster.servers {
                Some(servers) => Some(Network::to(host(&servers.postgres)).await),
                None => None,
            };
            let (port, metrics_port) = (free_port(), free_port());
            let child = cluster.spawn(*role, port, metrics_port, database.as_ref(), cluster.slots.len());
            cluster.slots.push(Slot { role: *role, child, port, metrics_port, database });
            // The first process runs the migrations before the next one starts.
            cluster.wait_until_ready(cluster.slots.len() - 1, log).await;
        }
        cluster
    }

    fn spawn(
        &self,
        role: Role,
        port: u16,
        metrics_port: u16,
        network: Option<&Network>,
        slot: usize,
    ) -> Child {
        let log = File::options().create(true).append(true).open(self.log_of(slot)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_idem-under-test"));
        match (role, self.database_kind) {
            (Role::Worker, _) => command.arg("worker"),
            (Role::Api, DatabaseKind::Sqlite) => {
                command.args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            }
            (Role::Api, DatabaseKind::Postgres) => {
                command.args(["serve", "--no-worker", "--listen", &format!("127.0.0.1:{port}")])
            }
        };
        let database = network.map_or(self.database.clone(), |network| network.through(&self.database));
        if let (Some(servers), Some(redis)) = (&self.servers, &self.redis) {
            command.env("IDEM_REDIS_URL", redis.through(&servers.redis));
        } else {
            let library = compile_failing_disk(self.dir.path());
            command.env("LD_PRELOAD", library).env("FAILING_DISK", self.disk_control());
        }
        command
            .current_dir(self.dir.path())
            .env("IDEM_DATABASE_URL", database)
            .env("IDEM_DATA_DIR", self.dir.path())
            .env("IDEM_METRICS_LISTEN", format!("127.0.0.1:{metrics_port}"))
            .env("IDEM_JWT_SECRET", SECRET)
            .env("IDEM_RATE_LIMIT", "0")
            .env("IDEM_DRAIN_DELAY", "0s")
            .env("IDEM_LOG", "warn")
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Returns the path of the log of a process.
    pub fn log_of(&self, slot: usize) -> PathBuf {
        self.dir.path().join(format!("log-{slot}"))
    }

    /// Returns the path of the file that makes the disk fail.
    pub fn disk_control(&self) -> PathBuf {
        self.dir.path().join("disk-control")
    }

    /// Returns the folder of the payloads.
    pub fn payloads(&self) -> PathBuf {
        self.dir.path().join("payloads")
    }

    /// Returns the URLs of all servers.
    pub fn urls(&self) -> Vec<String> {
        let servers = self.slots.iter().filter(|slot| slot.role == Role::Api);
        servers.map(|slot| format!("http://127.0.0.1:{}", slot.port)).collect()
    }

    /// Returns the URLs of the metrics of all processes.
    pub fn metrics(&self) -> Vec<String> {
        self.slots.iter().map(|slot| format!("http://127.0.0.1:{}/metrics", slot.metrics_port)).collect()
    }

    /// Whether the metrics of a process show an import that it runs.
    pub async fn runs_import(&self, slot: usize) -> bool {
        let Ok(response) = reqwest::get(&self.metrics()[slot]).await else { return false };
        let text = response.text().await.unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("idem_imports_in_flight "));
        count.is_some_and(|count| count.trim() != "0")
    }

    /// Waits until a server is ready. A worker needs no wait.
    pub async fn wait_until_ready(&self, slot: usize, log: &Log) {
        let slot = &self.slots[slot];
        if slot.role == Role::Worker {
            return;
        }
        let ready = format!("http://127.0.0.1:{}/readyz", slot.port);
        for _ in 0..600 {
            if reqwest::get(&ready).await.is_ok_and(|response| response.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        log.wrong("a server is not ready within a minute".to_owned());
    }

    pub fn signal(&self, slot: usize, signal: &str) {
        let process = self.slots[slot].child.id().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &process]).status().unwrap();
        assert!(status.success());
    }

    /// Whether a process has exited.
    pub fn has_exited(&mut self, slot: usize) -> bool {
        self.slots[slot].child.try_wait().unwrap().is_some()
    }

    /// Waits until a process exits. Returns its exit code, or `Some(None)` if a signal ended it. Returns
    /// `None` if it still runs after `time_max`.
    pub async fn wait_for_exit(&mut self, slot: usize, time_max: Duration) -> Option<Option<i32>> {
        let started_at = std::time::Instant::now();
        while started_at.elapsed() < time_max {
            if let Some(status) = self.slots[slot].child.try_wait().unwrap() {
                return Some(status.code());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Starts another process in the slot of one that has exited.
    pub fn replace(&mut self, slot: usize) {
        let Slot { role, port, metrics_port, database, .. } = &self.slots[slot];
        let child = self.spawn(*role, *port, *metrics_port, database.as_ref(), slot);
        self.slots[slot].child = child;
    }

    /// Returns the resident memory of a process in KiB, or 0 if it has exited.
    pub fn memory_kib(&self, slot: usize) -> u64 {
        let status = format!("/proc/{}/status", self.slots[slot].child.id());
        let status = std::fs::read_to_string(status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default()
    }

    /// Waits until all processes are ready. A process that has exited by itself is a finding, and is
    /// replaced.
    pub async fn repair(&mut self, log: &Log) {
        for slot in 0..self.slots.len() {
            if self.has_exited(slot) {
                log.wrong(format!("{:?} {slot} has exited by itself", self.slots[slot].role));
                self.replace(slot);
            }
            self.wait_until_ready(slot, log).await;
        }
    }

    pub async fn stop(&mut self) {
        for slot in 0..self.slots.len() {
            let _gone = self.slots[slot].child.kill();
            let _reaped = self.slots[slot].child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            let _gone = slot.child.kill();
            let _reaped = slot.child.wait();
        }
    }
}

/// Compiles the library that makes writes and syncs fail, unless the folder has it. Returns its path.
fn compile_failing_disk(dir: &std::path::Path) -> PathBuf {
    let library = dir.join("failing-disk.so");
    if !library.exists() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/failing-disk.c");
        let status =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(status.unwrap().success(), "a C compiler is needed, as for the build");
    }
    library
}
