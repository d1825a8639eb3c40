//! Builds and runs the peer: the service in Go in `bench/peer`, which stores the same events in the same
//! tables.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

use crate::load::Target;
use crate::server::{ISSUER, SECRET};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peer");
/// Connections of the peer to PostgreSQL, as many as Idem uses for writes at most.
const POOL: usize = 20;

/// A running peer.
pub struct Peer {
    child: Child,
    address: SocketAddr,
}

/// Builds the program in `folder`, and returns its path. `None` if Go is not installed.
pub fn build(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let program = folder.join("peer");
    let cache = std::env::current_exe()?.with_file_name("go-cache");
    let built = Command::new("go")
        .current_dir(SOURCE)
        .args(["build", "-o", &program.to_string_lossy(), "."])
        // Debian installs the sources of libraries there, without modules.
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", cache)
        .stdin(Stdio::null())
        .status();
    let Ok(status) = built else {
        eprintln!(
            "the comparison with the Go service is left out; for it, install golang-go, \
             golang-github-gin-gonic-gin-dev and golang-github-jackc-pgx-v4-dev"
        );
        return Ok(None);
    };
    ensure!(status.success(), "bench/peer was not built");
    Ok(Some(program))
}

impl Peer {
    /// Starts the program on a database and waits until it listens.
    pub fn start(program: &Path, database_url: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .env_clear()
            .env("DATABASE_URL", format!("{database_url}?pool_max_conns={POOL}"))
            .env("SECRET", SECRET)
            .env("ISSUER", ISSUER)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("the output of the peer is not piped")?;
        let mut peer = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let line = BufReader::new(output).lines().next().context("the peer did not start")??;
        peer.address = line.parse()?;
        Ok(peer)
    }

    /// What the load generator needs to know of it.
    pub fn target(&self) -> Target {
        Target { address: self.address, process: self.child.id() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
