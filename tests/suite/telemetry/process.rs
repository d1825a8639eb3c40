//! Starts a process whose metrics and log a test reads.

use std::fs::File;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{SECRET, eventually};

pub struct Process {
    pub url: String,
    metrics_url: String,
    child: Child,
    dir: TempDir,
}

impl Process {
    /// Starts the process and waits until its metrics can be read.
    pub async fn start(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let [address, metrics] = [(); 2].map(|()| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        });
        let dir = TempDir::new().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
            .args(args)
            .current_dir(dir.path())
            .env("IDEM_LISTEN", &address)
            .env("IDEM_METRICS_LISTEN", &metrics)
            .env("IDEM_DATA_DIR", dir.path().join("data"))
            .env("IDEM_JWT_SECRET", SECRET)
            .env("IDEM_DRAIN_DELAY", "0s")
            .envs(variables.iter().copied())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let (url, metrics_url) = (format!("http://{address}"), format!("http://{metrics}/metrics"));
        let process = Self { url, metrics_url, child, dir };
        eventually("the metrics can be read", || async { reqwest::get(&process.metrics_url).await.is_ok() })
            .await;
        process
    }

    pub async fn metrics(&self) -> String {
        reqwest::get(&self.metrics_url).await.unwrap().text().await.unwrap()
    }

    /// Sends SIGTERM and waits for the exit. Returns the log and how long the exit took.
    pub async fn end(mut self) -> (String, Duration) {
        let started_at = Instant::now();
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        eventually("the process exits", || {
            let has_exited = self.child.try_wait().unwrap().is_some();
            async move { has_exited }
        })
        .await;
        let took = started_at.elapsed();
        assert!(self.child.wait().unwrap().success());
        (std::fs::read_to_string(self.dir.path().join("log")).unwrap(), took)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
