//! Runs a private PostgreSQL: its databases, its statements and the CPU time of all its backends.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::process;

/// The script that also starts the servers of the tests. It stops them when its standard input ends.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers.sh");

/// Settings that the figures depend on and that are reported with them.
const SETTINGS: [&str; 7] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
];

/// A running server.
pub struct Postgres {
    url: String,
    postmaster: u32,
    stdin: Option<ChildStdin>,
    script: Child,
}

impl Postgres {
    /// Starts a server on a free port, with data that is deleted at the end.
    pub fn start() -> anyhow::Result<Self> {
        let mut script = Command::new(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start tests/servers.sh")?;
        let stdin = script.stdin.take();
        let stdout = script.stdout.take().context("the output of the script is not piped")?;
        // The script prints two lines and would fail if nobody read the second one.
        let mut lines = BufReader::new(stdout).lines();
        let url = lines.next().context("PostgreSQL did not start")??;
        lines.next().context("Redis did not start")??;
        let mut postgres = Self { url, postmaster: 0, stdin, script };
        let pid_file = postgres.query("postgres", "SELECT pg_read_file('postmaster.pid')")?;
        postgres.postmaster = pid_file.lines().next().context("postmaster.pid is empty")?.parse()?;
        Ok(postgres)
    }

    /// The version and the settings that the figures depend on.
    ///
    /// # Errors
    /// If commits would not be durable.
    pub fn settings(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut settings =
            vec![("server_version".to_owned(), self.query("postgres", "SHOW server_version")?)];
        for name in SETTINGS {
            settings.push((name.to_owned(), self.query("postgres", &format!("SHOW {name}"))?));
        }
        let is_on = |name: &str| settings.iter().any(|(key, value)| key == name && value == "on");
        ensure!(is_on("fsync") && is_on("synchronous_commit"), "commits are not durable: {settings:?}");
        Ok(settings)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.url)
    }

    /// Creates an empty database. An existing one with this name is dropped.
    pub fn create(&self, database: &str) -> anyhow::Result<()> {
        self.drop(database)?;
        self.query("postgres", &format!("CREATE DATABASE {database}")).map(drop)
    }

    /// Copies a database that has no connections. An existing one with the new name is dropped.
    pub fn copy(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.drop(to)?;
        let sql = format!("CREATE DATABASE {to} TEMPLATE {from} STRATEGY file_copy");
        self.query("postgres", &sql).map(drop)
    }

    /// Drops a database if it exists.
    pub fn drop(&self, database: &str) -> anyhow::Result<()> {
        let sql = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        self.query("postgres", &sql).map(drop)
    }

    /// Runs one statement and returns its output, unaligned.
    pub fn query(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        self.psql(database, &["-c", sql])
    }

    /// Runs a file of statements and returns its output.
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
            .context("cannot start psql")?;
        if !output.status.success() {
            bail!("psql {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Writes all dirty pages to disk, so that a measurement does not pay for the writes of the one before.
    pub fn checkpoint(&self) -> anyhow::Result<()> {
        self.query("postgres", "CHECKPOINT").map(drop)
    }

    /// The CPU time of the server in seconds: of all its processes, including backends that have ended.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        process::cpu_of_family(self.postmaster)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ended = self.script.wait();
    }
}

/// Writes a script in which each `{name}` is replaced by its value, and returns its path.
pub fn script(folder: &Path, name: &str, text: &str, values: &[(&str, String)]) -> anyhow::Result<PathBuf> {
    let mut text = text.to_owned();
    for (name, value) in values {
        let mut placeholder = String::new();
        write!(placeholder, "{{{name}}}")?;
        ensure!(text.contains(&placeholder), "the script has no {placeholder}");
        text = text.replace(&placeholder, value);
    }
    let file = folder.join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}
