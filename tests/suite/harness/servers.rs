//! Starts a private PostgreSQL and Redis through `servers.sh`. They end with this process.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database};
use tokio::sync::OnceCell;

/// A running PostgreSQL and a running Redis.
pub struct Servers {
    /// A URL without a database.
    pub postgres: String,
    /// A URL without a database.
    pub redis: String,
    output: Lines<BufReader<ChildStdout>>,
    /// It is closed when this process ends, and `servers.sh` then stops the servers.
    commands: ChildStdin,
    _script: Child,
}

static SERVERS: OnceLock<Servers> = OnceLock::new();
static TEMPLATE: OnceCell<()> = OnceCell::const_new();

/// Returns the servers that all tests of this process share, and starts them first if needed. Fails the test
/// if they cannot be started.
pub fn servers() -> &'static Servers {
    SERVERS.get_or_init(Servers::start)
}

impl Servers {
    /// Starts servers that no other test uses, for tests that stop them.
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers.sh");
        let mut process = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("servers.sh runs");
        let commands = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut line = || output.next().expect("PostgreSQL and Redis start: see `make test`").unwrap();
        Self { postgres: line(), redis: line(), output, commands, _script: process }
    }

    /// Runs a command of `servers.sh` and returns when it is done. The shared servers do not allow it,
    /// because they are never `mut`.
    pub fn run_command(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
        assert_eq!(self.output.next().expect("servers.sh still runs").unwrap(), "done", "{command}");
    }

    /// Runs a command with `redis-cli` in one of the databases of Redis. Returns what it prints.
    pub fn redis_cli(&self, database: u8, command: &[&str]) -> String {
        let url = format!("{}/{database}", self.redis);
        let output = Command::new("redis-cli").args(["-e", "-u", &url]).args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Creates a database with all tables. Returns its URL.
    pub async fn database(&self) -> String {
        TEMPLATE
            .get_or_init(|| async {
                self.empty_database("idem_template").await;
                let template = Database::connect(format!("{}/idem_template", self.postgres)).await.unwrap();
                Migrator::up(&template, None).await.unwrap();
                template.close().await.unwrap();
            })
            .await;
        let name = format!("t_{}", super::new_id().replace('-', ""));
        self.run(&format!("CREATE DATABASE {name} TEMPLATE idem_template")).await;
        format!("{}/{name}", self.postgres)
    }

    /// Creates a database without tables. Returns its URL.
    pub async fn empty_database(&self, name: &str) -> String {
        self.run(&format!("CREATE DATABASE {name}")).await;
        format!("{}/{name}", self.postgres)
    }

    async fn run(&self, sql: &str) {
        let admin = Database::connect(format!("{}/postgres", self.postgres)).await.unwrap();
        admin.execute_unprepared(sql).await.unwrap();
        admin.close().await.unwrap();
    }
}
