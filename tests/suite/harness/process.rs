//! Starts a server as a process of its own, for tests that signal, limit or kill it.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::{Client, SECRET, eventually};

/// How to start a process.
#[derive(Debug, Default, Clone)]
pub struct Launch {
    /// A command that runs the server, for example `prlimit --nofile=64`.
    pub wrap: Vec<String>,
    pub env: Vec<(String, String)>,
    pub args: Vec<String>,
}

impl Launch {
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    pub fn wrap(mut self, words: &[&str]) -> Self {
        self.wrap.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// Returns the command that serves on a free port, and its URL.
    pub fn command(&self, database: &str, dir: &Path) -> (Command, String) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let binary = env!("CARGO_BIN_EXE_idem-under-test").to_owned();
        let words: Vec<&String> = self.wrap.iter().chain([&binary]).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .args(&self.args)
            .current_dir(dir)
            .env("IDEM_DATABASE_URL", database)
            .env("IDEM_DATA_DIR", dir)
            .env("IDEM_METRICS_LISTEN", "127.0.0.1:0")
            .env("IDEM_JWT_SECRET", SECRET)
            .env("IDEM_RATE_LIMIT", "0")
            .env("IDEM_LOG", "warn")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        (command, format!("http://127.0.0.1:{port}"))
    }

    /// Starts a server and waits until it is ready.
    pub async fn start(&self, database: &str, dir: &Path) -> Process {
        let process = self.start_unready(database, dir);
        process.wait_until_ready().await;
        process
    }

    /// Starts a server and does not wait for it.
    pub fn start_unready(&self, database: &str, dir: &Path) -> Process {
        let (mut command, url) = self.command(database, dir);
        let log = std::fs::File::create(dir.join("log")).unwrap();
        Process { child: command.stderr(log).spawn().unwrap(), url }
    }
}

/// A running server. It is killed when this is dropped.
pub struct Process {
    child: Child,
    pub url: String,
}

impl Process {
    /// Waits until `/readyz` returns 200.
    pub async fn wait_until_ready(&self) {
        let ready = format!("{}/readyz", self.url);
        eventually("the server is ready", || async {
            reqwest::get(&ready).await.is_ok_and(|response| response.status() == 200)
        })
        .await;
    }

    /// Returns the status of `/readyz` or `/livez`.
    pub async fn status(&self, path: &str) -> u16 {
        reqwest::get(format!("{}{path}", self.url)).await.unwrap().status().as_u16()
    }

    pub fn client(&self, subject: &str) -> Client {
        Client::new(&self.url, subject)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Sends SIGTERM and waits until the process has exited. Returns its status and how long that took.
    pub async fn terminate(self) -> (ExitStatus, Duration) {
        self.signal("TERM");
        self.wait_for_exit().await
    }

    /// Waits until the process has exited. Returns its status and how long that took.
    pub async fn wait_for_exit(mut self) -> (ExitStatus, Duration) {
        let started_at = Instant::now();
        eventually("the server exits", || {
            let has_exited = self.child.try_wait().unwrap().is_some();
            async move { has_exited }
        })
        .await;
        (self.child.wait().unwrap(), started_at.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
