//! A private PostgreSQL, its databases, and the CPU time of all its backends.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::process;

/// The script that the tests start their servers with; it ends them when its standard input ends.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers.sh");

/// Settings that the figures depend on, told with them.
const SETTINGS: [&str; 7] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
];

/// The server.
pub struct Postgres {
    url: String,
    postmaster: u32,
    orders: Option<ChildStdin>,
    keeper: Child,
}

impl Postgres {
    /// Starts it on a free port, with data that is thrown away.
    pub fn start() -> anyhow::Result<Self> {
        let mut keeper = Command::new(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("tests/servers.sh does not start")?;
        let orders = keeper.stdin.take();
        let answers = keeper.stdout.take().context("its output is piped")?;
        // Two lines come, and the second one must find somebody who listens.
        let mut lines = BufReader::new(answers).lines();
        let url = lines.next().context("PostgreSQL does not start")??;
        lines.next().context("Redis does not start")??;
        let mut postgres = Self { url, postmaster: 0, orders, keeper };
        let file = postgres.query("postgres", "SELECT pg_read_file('postmaster.pid')")?;
        postgres.postmaster = file.lines().next().context("the file begins with the process")?.parse()?;
        Ok(postgres)
    }

    /// The version and the settings that count. Fails when a commit would not be one.
    pub fn settings(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut told = vec![("server_version".to_owned(), self.query("postgres", "SHOW server_version")?)];
        for name in SETTINGS {
            told.push((name.to_owned(), self.query("postgres", &format!("SHOW {name}"))?));
        }
        let is_on = |name: &str| told.iter().any(|(of, value)| of == name && value == "on");
        ensure!(is_on("fsync") && is_on("synchronous_commit"), "commits are not real: {told:?}");
        Ok(told)
    }

    /// Where a database is.
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.url)
    }

    /// Makes an empty database, in place of an older one.
    pub fn create(&self, database: &str) -> anyhow::Result<()> {
        self.drop(database)?;
        self.query("postgres", &format!("CREATE DATABASE {database}")).map(drop)
    }

    /// Makes a copy of a database that nobody is connected to, in place of an older one.
    pub fn copy(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.drop(to)?;
        let sql = format!("CREATE DATABASE {to} TEMPLATE {from} STRATEGY file_copy");
        self.query("postgres", &sql).map(drop)
    }

    /// Drops a database, where there is one.
    pub fn drop(&self, database: &str) -> anyhow::Result<()> {
        let sql = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        self.query("postgres", &sql).map(drop)
    }

    /// Runs one statement; what it returns, unaligned.
    pub fn query(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        self.psql(database, &["-c", sql])
    }

    /// Runs a file of statements.
    pub fn run(&self, database: &str, file: &Path) -> anyhow::Result<String> {
        self.psql(database, &["-f", &file.to_string_lossy()])
    }

    fn psql(&self, database: &str, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"])
            .args(["--dbname", &self.url(database)])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .context("psql does not start")?;
        if !output.status.success() {
            bail!("psql {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Writes out what is dirty, so that no side pays for the writes of the other.
    pub fn checkpoint(&self) -> anyhow::Result<()> {
        self.query("postgres", "CHECKPOINT").map(drop)
    }

    /// Seconds of CPU of the server: of every backend, of those that have ended, of its own processes.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        process::cpu_of_family(self.postmaster)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ended = self.keeper.wait();
    }
}

/// Writes a script with its `{names}` filled in; where it lies.
pub fn script(folder: &Path, name: &str, text: &str, values: &[(&str, String)]) -> anyhow::Result<PathBuf> {
    let mut text = text.to_owned();
    for (name, value) in values {
        let mut mark = String::new();
        write!(mark, "{{{name}}}")?;
        ensure!(text.contains(&mark), "{mark} stands in the script");
        text = text.replace(&mark, value);
    }
    let file = folder.join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}
