//! Starts the program that is measured: the `idem` binary in the same directory, as its users would start it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::http::Connection;
use crate::load::Target;
use crate::process;

/// The key that signs all tokens.
pub const SECRET: &str = "the benchmarks sign their tokens with this";
/// The issuer of all tokens. It is known, so that the rows of the users can be inserted beforehand.
pub const ISSUER: &str = "bench";
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The `idem` binary.
pub struct Program {
    path: PathBuf,
}

/// A running `idem serve`, which also runs imports.
pub struct Server {
    child: Child,
    /// The address of the API.
    pub address: SocketAddr,
    /// The time from its start to the first 200 of `/readyz`.
    pub ready_after: Duration,
}

impl Program {
    /// The binary at this path, or else the one in the directory of this program.
    pub fn find(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = match path {
            Some(path) => path,
            None => std::env::current_exe()?.with_file_name("idem"),
        };
        ensure!(path.is_file(), "{} does not exist: run cargo build --release -p idem", path.display());
        Ok(Self { path })
    }

    /// The path of the binary.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The output of `idem --version`.
    pub fn version(&self) -> anyhow::Result<String> {
        self.output(&["--version"], None)
    }

    /// A token for a user.
    pub fn token(&self, subject: &str) -> anyhow::Result<String> {
        self.output(&["token", "--subject", subject], None)
    }

    /// Creates the tables.
    pub fn migrate(&self, database_url: &str) -> anyhow::Result<()> {
        self.output(&["migrate"], Some(database_url)).map(drop)
    }

    fn output(&self, words: &[&str], database_url: Option<&str>) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        let output = self.command(folder.path(), database_url).args(words).output()?;
        if !output.status.success() {
            bail!("idem {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// A command with no settings but these: neither the caller's environment nor a settings file is read.
    fn command(&self, folder: &Path, database_url: Option<&str>) -> Command {
        let mut command = Command::new(&self.path);
        command
            .current_dir(folder)
            .env_clear()
            .env("IDEM_DATA_DIR", folder)
            .env("IDEM_JWT_SECRET", SECRET)
            .env("IDEM_JWT_ISSUER", ISSUER)
            .env("IDEM_METRICS_LISTEN", "127.0.0.1:0")
            // One user sends as much as the machine can process.
            .env("IDEM_RATE_LIMIT", "0")
            .stdin(Stdio::null());
        if let Some(url) = database_url {
            command.env("IDEM_DATABASE_URL", url);
        }
        command
    }

    /// Starts a server on the database, or on SQLite in `folder` if none is given, and waits until it is
    /// ready.
    pub async fn serve(&self, folder: &Path, database_url: Option<&str>) -> anyhow::Result<Server> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let log = folder.join("serve.log");
        let errors = File::create(&log)?;
        let started = Instant::now();
        let child = self
            .command(folder, database_url)
            .args(["serve", "--listen", &address.to_string()])
            .stdout(errors.try_clone()?)
            .stderr(errors)
            .spawn()?;
        let mut server = Server { child, address, ready_after: Duration::ZERO };
        while !is_ready(address).await {
            if let Some(status) = server.child.try_wait()? {
                bail!("idem serve ended ({status}): {}", std::fs::read_to_string(&log)?);
            }
            ensure!(started.elapsed() < READY_TIMEOUT, "idem serve is not ready after {READY_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.ready_after = started.elapsed();
        Ok(server)
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(address).await else { return false };
    let request = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    connection.exchange(request).await.is_ok_and(|response| response.status == 200)
}

impl Server {
    /// What the load generator needs to know of it.
    pub fn target(&self) -> Target {
        Target { address: self.address, process: self.child.id() }
    }

    /// The CPU time so far, in seconds.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        process::cpu(self.child.id()).context("idem serve has ended")
    }

    /// The resident memory, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        process::resident_bytes(self.child.id()).context("idem serve has ended")
    }

    /// Stops the server with SIGTERM, as a service manager would, and waits until it has ended.
    pub fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "idem serve ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
