//! Tests `/readyz`, `/livez`, `idem healthcheck` and `idem migrate --check`, which only read.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, TransactionTrait};
use tempfile::TempDir;

use crate::harness::process::Launch;
use crate::harness::{Servers, event, eventually, new_id, servers};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_ready_while_its_database_answers_even_if_redis_is_down() {
    let (dir, mut servers) = (TempDir::new().unwrap(), Servers::start());
    let database = servers.empty_database("ready").await;
    let launch = Launch::default().env("IDEM_REDIS_URL", &servers.redis);
    let process = launch.start(&database, dir.path()).await;
    servers.run_command("kill-redis");
    assert_eq!(process.status("/readyz").await, 200);
    servers.run_command("stop-postgres");
    eventually("it is not ready", || async { process.status("/readyz").await == 503 }).await;
    // It stays alive, because a restart would not help.
    assert_eq!(process.status("/livez").await, 200);
    servers.run_command("start-postgres");
    eventually("it is ready again", || async { process.status("/readyz").await == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_not_ready_while_migrations_are_pending() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let sql = Database::connect(&database).await.unwrap();
    let newest = "(SELECT max(version) FROM seaql_migrations)";
    let moved = format!("UPDATE seaql_migrations SET version = 'later' WHERE version = {newest} RETURNING 1");
    let process = Launch::default().arg("--no-migrate").start(&database, dir.path()).await;
    sql.execute_unprepared("CREATE TABLE kept AS SELECT max(version) AS version FROM seaql_migrations")
        .await
        .unwrap();
    sql.execute_unprepared(&moved).await.unwrap();
    eventually("it is not ready", || async { process.status("/readyz").await == 503 }).await;
    let back = "UPDATE seaql_migrations SET version = (SELECT version FROM kept) WHERE version = 'later'";
    sql.execute_unprepared(back).await.unwrap();
    eventually("it is ready again", || async { process.status("/readyz").await == 200 }).await;
    sql.close().await.unwrap();
}

/// A newer version has migrated the database. Older servers go on, and can be started again.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_of_a_newer_version_do_not_stop_older_servers() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let process = Launch::default().start(&database, dir.path()).await;
    let sql = Database::connect(&database).await.unwrap();
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_of_another_version', 1)";
    sql.execute_unprepared(newer).await.unwrap();
    sql.close().await.unwrap();
    // This is longer than the result of the check is cached.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(process.status("/readyz").await, 200);
    let (code, output) = check(&database, dir.path(), dir.path());
    assert_eq!((code, output.trim()), (0, "0 migrations pending"));
    let again = Launch::default().start(&database, dir.path()).await;
    again.client("ann").event_type("run").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_create_tables_is_enough_to_be_ready() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let sql = Database::connect(&database).await.unwrap();
    let role = format!("r_{}", new_id().replace('-', ""));
    let granted = format!(
        "CREATE ROLE {role} LOGIN; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    );
    sql.execute_unprepared(&granted).await.unwrap();
    let as_role = database.replace("idem@", &format!("{role}@"));
    let process = Launch::default().arg("--no-migrate").start(&as_role, dir.path()).await;
    assert_eq!(process.status("/readyz").await, 200);
    process.client("ann").event_type("run").await;
    drop(process);
    let dropped = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sql.execute_unprepared(&dropped).await.unwrap();
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_write_waits_on_sqlite_stays_ready() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = Launch::default().start(&database, dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    let sql = Database::connect(&database).await.unwrap();
    let held = sql.begin().await.unwrap();
    held.execute_unprepared("UPDATE account SET feed_head = feed_head").await.unwrap();
    let waiting = tokio::spawn(async move { client.create(&[event(&kind)]).await });
    for _ in 0..5 {
        assert_eq!(process.status("/readyz").await, 200);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(!waiting.is_finished());
    held.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap()["created"], 1);
    sql.close().await.unwrap();
}

/// Returns every file in a folder with its content.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap_or_default()))
        .collect();
    files.sort();
    files
}

/// Runs `idem migrate --check`. Returns its exit code and its output.
fn check(database: &str, dir: &Path, data: &Path) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
        .args(["migrate", "--check"])
        .current_dir(dir)
        .env("IDEM_DATABASE_URL", database)
        .env("IDEM_DATA_DIR", data)
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_for_pending_migrations_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let database = format!("sqlite://{}/idem.db", data.display());
    let (code, output) = check(&database, dir.path(), &data);
    assert!(
        code == 1 && output.ends_with("migrations pending\n") && output != "0 migrations pending\n",
        "{output}"
    );
    assert!(!data.exists(), "the check created the folder");
    std::fs::create_dir(&data).unwrap();
    let process = Launch::default().start(&database, &data).await;
    // The check works while a server runs, and after it has ended.
    assert_eq!(check(&database, dir.path(), &data), (0, "0 migrations pending\n".to_owned()));
    process.terminate().await;
    let before = files(&data);
    assert_eq!(check(&database, dir.path(), &data), (0, "0 migrations pending\n".to_owned()));
    assert_eq!(files(&data), before);

    let database = servers().empty_database(&format!("e_{}", new_id().replace('-', ""))).await;
    let (code, output) = check(&database, dir.path(), &data);
    assert!(code == 1 && output.ends_with("migrations pending\n"), "{output}");
    let sql = Database::connect(&database).await.unwrap();
    let tables = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'public'";
    assert_eq!(crate::harness::number(&sql, tables).await, 0, "the check created a table");
    sql.close().await.unwrap();
}

/// Whether `idem healthcheck` succeeds, as a container runs it.
async fn is_healthy(url: &str, dir: &Path) -> bool {
    let mut check = tokio::process::Command::new(env!("CARGO_BIN_EXE_idem-under-test"));
    let check = check.args(["healthcheck", "--url", url]).current_dir(dir).env("IDEM_DATA_DIR", dir);
    check.output().await.unwrap().status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_succeeds_while_the_server_is_ready() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let process = Launch::default().arg("--no-migrate").start(&database, dir.path()).await;
    assert!(is_healthy(&process.url, dir.path()).await);
    let sql = Database::connect(&database).await.unwrap();
    sql.execute_unprepared("ALTER TABLE seaql_migrations RENAME TO hidden").await.unwrap();
    eventually("it is not ready", || async { process.status("/readyz").await == 503 }).await;
    assert!(!is_healthy(&process.url, dir.path()).await);
    sql.execute_unprepared("ALTER TABLE hidden RENAME TO seaql_migrations").await.unwrap();
    sql.close().await.unwrap();
    let url = process.url.clone();
    process.terminate().await;
    assert!(!is_healthy(&url, dir.path()).await, "no process listens");
}

#[test]
fn processes_that_need_redis_do_not_start_without() {
    let dir = TempDir::new().unwrap();
    for args in [&["worker"][..], &["serve", "--no-worker"][..]] {
        let output = Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
            .args(args)
            .current_dir(dir.path())
            .env("IDEM_DATA_DIR", dir.path())
            .env("IDEM_JWT_SECRET", crate::harness::SECRET)
            .env("IDEM_METRICS_LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("IDEM_REDIS_URL"), "{stderr}");
    }
}
