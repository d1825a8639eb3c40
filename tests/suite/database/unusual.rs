//! Tests databases with an unusual setup. Each works, or the server refuses it at the start with one line.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, TransactionTrait};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::process::Launch;
use crate::harness::{assert_feeds_are_whole, event, eventually, new_id, number, servers};

/// Starts a server, which must refuse to run. Returns the line that says why.
fn refused_start(launch: &Launch, database: &str, dir: &Path) -> String {
    let (mut command, _) = launch.command(database, dir);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let lines: Vec<_> = stderr.lines().filter(|line| line.starts_with("idem: ")).collect();
    assert_eq!(lines.len(), 1, "one line says why: {stderr}");
    lines[0].to_owned()
}

/// PgBouncer in front of the PostgreSQL of the tests.
struct Pooler {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Pooler {
    async fn start(mode: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = servers().postgres.rsplit(':').next().unwrap().to_owned();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\npool_mode = {mode}\n\
             ignore_startup_parameters = extra_float_digits, options\nmax_client_conn = 200\ndefault_pool_size = 60\n"
        );
        // PgBouncer refuses to run as root.
        let file = dir.path().join("pgbouncer.ini");
        let users = dir.path().join("users");
        std::fs::write(&users, "\"idem\" \"\"\n").unwrap();
        std::fs::write(&file, format!("{settings}auth_file = {}\n", users.display())).unwrap();
        let open = Command::new("chmod").arg("-R").arg("a+rX").arg(dir.path()).status().unwrap();
        assert!(open.success());
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let mut command = match is_root {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "pgbouncer"]);
                command
            }
            false => Command::new("pgbouncer"),
        };
        let child = command.arg("-q").arg(&file).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let pooler = Self { child, port, _dir: dir };
        eventually("PgBouncer listens", || async {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        pooler
    }

    /// Returns the URL of a database through PgBouncer.
    fn through(&self, database: &str) -> String {
        let name = database.rsplit('/').next().unwrap();
        format!("postgres://idem@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_is_refused_and_one_that_does_not_is_used() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    for mode in ["transaction", "statement"] {
        let pooler = Pooler::start(mode).await;
        let message = refused_start(&Launch::default(), &pooler.through(&database), dir.path());
        assert!(message.contains("pool_mode = session"), "{mode}: {message}");
    }
    let pooler = Pooler::start("session").await;
    let process = Launch::default().start(&pooler.through(&database), dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    for _ in 0..20 {
        assert_eq!(client.create(&[event(&kind), event(&kind)]).await["created"], 2);
    }
    assert_eq!(client.pull(None, 7).await.0.len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_all_texts_is_refused() {
    let dir = TempDir::new().unwrap();
    let admin = Database::connect(format!("{}/postgres", servers().postgres)).await.unwrap();
    let name = format!("latin_{}", new_id().replace('-', ""));
    let create = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    admin.execute_unprepared(&create).await.unwrap();
    let message = refused_start(&Launch::default(), &format!("{}/{name}", servers().postgres), dir.path());
    assert!(message.contains("LATIN1") && message.contains("UTF8"), "{message}");
    admin.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_clock_is_wrong_is_refused() {
    let dir = TempDir::new().unwrap();
    let admin = Database::connect(format!("{}/postgres", servers().postgres)).await.unwrap();
    // A function in a schema that comes first in the search path replaces the clock of the database.
    let database = servers().database().await;
    let sql = Database::connect(&database).await.unwrap();
    for (skew, is_refused) in [("2 days", true), ("-61 seconds", true), ("50 seconds", false)] {
        let clock = format!(
            "DROP SCHEMA IF EXISTS wrong CASCADE; CREATE SCHEMA wrong; \
             CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
             $$ SELECT pg_catalog.clock_timestamp() + interval '{skew}' $$"
        );
        sql.execute_unprepared(&clock).await.unwrap();
        let name = database.rsplit('/').next().unwrap();
        let path = format!("ALTER DATABASE {name} SET search_path = wrong, pg_catalog, public");
        admin.execute_unprepared(&path).await.unwrap();
        if is_refused {
            let message = refused_start(&Launch::default(), &database, dir.path());
            assert!(message.contains("the clocks of this machine and of the database differ"), "{message}");
        } else {
            Launch::default().start(&database, dir.path()).await;
        }
    }
    sql.close().await.unwrap();
    admin.close().await.unwrap();
}

async fn set(sql: &DatabaseConnection, database: &str, setting: &str) {
    let name = database.rsplit('/').next().unwrap();
    sql.execute_unprepared(&format!("ALTER DATABASE {name} SET {setting}")).await.unwrap();
}

/// Twelve clients of three users write at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_another_default_isolation_level_works() {
    for isolation in ["repeatable read", "serializable"] {
        let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
        let sql = Database::connect(&database).await.unwrap();
        set(&sql, &database, &format!("default_transaction_isolation = '{isolation}'")).await;
        let process = Launch::default().start(&database, dir.path()).await;
        let mut clients = Vec::new();
        for number in 0..12 {
            let client = process.client(&format!("user {}", number % 3));
            clients.push(tokio::spawn(async move {
                let kind = client.event_type("run").await;
                let edited = event(&kind);
                client.create(std::slice::from_ref(&edited)).await;
                let outbox = "mutation($m: [MutationInput!]!) { applyMutations(input: { clientId: \"phone\", \
                    mutations: $m }) { results { outcome } } }";
                for n in 0..25 {
                    let edit = json!({ "updateEvent": { "id": edited["id"], "patch": { "notes": format!("{n}") } } });
                    client.ask(outbox, json!({ "m": [edit, { "createEvent": event(&kind) }] })).await;
                    client.create(&[event(&kind)]).await;
                    client.event_type("run").await;
                }
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
        assert_feeds_are_whole(&sql).await;
        sql.close().await.unwrap();
    }
}

/// The write holds the account row and waits for an event. Another session holds the event and waits for the
/// account row.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_postgresql_aborts_for_a_deadlock_is_retried() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let process = Launch::default().start(&database, dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    let edited = event(&kind);
    client.create(std::slice::from_ref(&edited)).await;
    let sql = Database::connect(&database).await.unwrap();
    let held = sql.begin().await.unwrap();
    // With this timeout the server's session detects the deadlock first, and is aborted.
    held.execute_unprepared("SET LOCAL deadlock_timeout = '60s'").await.unwrap();
    held.execute_unprepared("SELECT 1 FROM event FOR UPDATE").await.unwrap();
    let outbox = "mutation($m: [MutationInput!]!) { applyMutations(input: { clientId: \"phone\", mutations: $m }) \
        { results { outcome } } }";
    let edit = json!({ "updateEvent": { "id": edited["id"], "patch": { "notes": "later" } } });
    let mutations = json!({ "m": [edit, { "createEvent": event(&kind) }] });
    let writer = client.clone();
    let waiting = tokio::spawn(async move { writer.send(outbox, mutations).await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'idem' AND wait_event_type = 'Lock'";
    eventually("the write waits for the event", || async { number(&sql, waits).await == 1 }).await;
    held.execute_unprepared("SELECT 1 FROM account FOR UPDATE").await.unwrap();
    held.rollback().await.unwrap();
    let response = waiting.await.unwrap();
    let outcomes = &response["data"]["applyMutations"]["results"];
    assert_eq!(outcomes, &json!([{ "outcome": "UPDATED" }, { "outcome": "CREATED" }]), "{response}");
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    eventually("PostgreSQL has counted a deadlock", || async { number(&sql, deadlocks).await > 0 }).await;
    sql.close().await.unwrap();
}
