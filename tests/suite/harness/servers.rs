//! The private PostgreSQL and Redis of this test run: started once, ended with the process.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database};
use tokio::sync::OnceCell;

/// Where the servers are.
pub struct Servers {
    pub postgres: String,
    pub redis: String,
    answers: Lines<BufReader<ChildStdout>>,
    /// Ends with this process, and the servers with it.
    orders: ChildStdin,
    _keeper: Child,
}

static SERVERS: OnceLock<Servers> = OnceLock::new();
static TEMPLATE: OnceCell<()> = OnceCell::const_new();

/// The servers of this process. Fails the test when they cannot be started.
pub fn servers() -> &'static Servers {
    SERVERS.get_or_init(Servers::start)
}

impl Servers {
    /// Starts servers that nobody shares: for tests that stop them.
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers.sh");
        let mut keeper = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("servers.sh runs");
        let orders = keeper.stdin.take().unwrap();
        let mut answers = BufReader::new(keeper.stdout.take().unwrap()).lines();
        let mut line = || answers.next().expect("PostgreSQL and Redis start: see `make test`").unwrap();
        Self { postgres: line(), redis: line(), answers, orders, _keeper: keeper }
    }

    /// Gives a command of `servers.sh`, and returns when it is carried out. Needs servers of one's own:
    /// the shared ones are never `mut`.
    pub fn order(&mut self, command: &str) {
        writeln!(self.orders, "{command}").unwrap();
        assert_eq!(self.answers.next().expect("servers.sh goes on").unwrap(), "done", "{command}");
    }

    /// What `redis-cli` prints for a command, in one of the databases of Redis.
    pub fn redis_cli(&self, database: u8, command: &[&str]) -> String {
        let url = format!("{}/{database}", self.redis);
        let output = Command::new("redis-cli").args(["-e", "-u", &url]).args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A fresh database with all tables.
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

    /// A database without tables.
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
