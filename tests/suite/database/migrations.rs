//! Tests that the migrations run up, down, and up again, and that the version before can run beside this one.

use std::process::Stdio;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;

use crate::harness::{TestServer, new_id, number, on_both, servers};

on_both!(writes_of_a_program_of_before_reach_the_new_columns);

async fn up_down_and_up_again(url: &str) {
    let database = Database::connect(url).await.unwrap();
    Migrator::up(&database, None).await.unwrap();
    Migrator::down(&database, None).await.unwrap();
    Migrator::up(&database, None).await.unwrap();
    assert!(Migrator::get_pending_migrations(&database).await.unwrap().is_empty());
    database.close().await.unwrap();
}

#[tokio::test]
async fn migrations_run_up_down_and_up_again_on_sqlite() {
    let dir = TempDir::new().unwrap();
    up_down_and_up_again(&format!("sqlite://{}/idem.db?mode=rwc", dir.path().display())).await;
}

#[tokio::test]
async fn migrations_run_up_down_and_up_again_on_postgres() {
    up_down_and_up_again(&servers().empty_database("up_and_down").await).await;
}

/// A program of the version before knows neither `account.revision` nor the new names of columns, and may run
/// on the same database during an upgrade. What it writes must reach the columns that this version reads, and
/// the other way round.
async fn writes_of_a_program_of_before_reach_the_new_columns(server: &TestServer) {
    let client = server.client("ann");
    let import = new_id();
    client.create_import(&import, 10, None).await;
    let revision = server.number("SELECT revision FROM account").await;
    server.execute("UPDATE account SET feed_head = feed_head").await;
    assert_eq!(
        server.number("SELECT revision FROM account").await,
        revision + 1,
        "the old one does not know it"
    );
    server.execute("UPDATE account SET revision = revision + 1").await;
    assert_eq!(
        server.number("SELECT revision FROM account").await,
        revision + 2,
        "this version increments once"
    );
    for (old, new) in [("rung_at", "notified_at"), ("careful_until", "small_chunks_until")] {
        server.execute(&format!("UPDATE import_job SET {old} = 7")).await;
        assert_eq!(server.number(&format!("SELECT {new} FROM import_job")).await, 7, "{old} is copied");
        server.execute(&format!("UPDATE import_job SET {new} = 9")).await;
        assert_eq!(server.number(&format!("SELECT {old} FROM import_job")).await, 9, "{new} is copied");
    }
    server.execute("UPDATE import_job SET notified_at = NULL").await;
    assert_eq!(server.number("SELECT count(rung_at) FROM import_job").await, 0);
}

/// Runs `idem migrate` on a database, in this many processes at once.
async fn migrate(url: &str, processes: usize) {
    let dir = TempDir::new().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_idem-under-test"));
    command.arg("migrate").current_dir(dir.path()).env("IDEM_DATABASE_URL", url);
    command.env("IDEM_DATA_DIR", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running: Vec<_> = (0..processes).map(|_| command.spawn().unwrap()).collect();
    for process in running {
        let output = process.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

const VALID_INDEXES: &str = "SELECT count(*) FROM pg_index WHERE indrelid = 'event'::regclass AND indisvalid";

/// The migration that builds an index beside traffic waits for older snapshots, so no other process may wait for its
/// turn with one.
#[tokio::test(flavor = "multi_thread")]
async fn processes_that_migrate_at_the_same_time_wait_for_one_another() {
    let url = servers().empty_database("migrate_at_once").await;
    migrate(&url, 4).await;
    let sql = Database::connect(&url).await.unwrap();
    assert_eq!(number(&sql, VALID_INDEXES).await, 5);
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_killed_while_it_was_built_is_built_again() {
    let url = servers().empty_database("killed_index").await;
    migrate(&url, 1).await;
    let sql = Database::connect(&url).await.unwrap();
    let event = "INSERT INTO event (user_id, id, source_type, version, change_seq, writer_run_start, created_at, \
        updated_at) SELECT '00000000-0000-0000-0000-000000000001', ('00000000-0000-0000-0000-00000000000' || n)::uuid, \
        'x', 1, n, 1, 0, 0 FROM generate_series(1, 2) n";
    for statement in [
        "DROP INDEX event_by_type_covering",
        "CREATE INDEX event_by_type ON event (user_id)",
        event,
        "DELETE FROM seaql_migrations WHERE version LIKE 'm0014%'",
    ] {
        sql.execute_unprepared(statement).await.unwrap();
    }
    // Its keys are not unique, so PostgreSQL gives up and leaves an index that it does not use.
    let fails = "CREATE UNIQUE INDEX CONCURRENTLY event_by_type_covering ON event (user_id)";
    sql.execute_unprepared(fails).await.unwrap_err();
    assert_eq!(number(&sql, VALID_INDEXES).await, 5);
    migrate(&url, 1).await;
    let covering = "SELECT count(*) FROM pg_index WHERE indexrelid = 'event_by_type_covering'::regclass AND indisvalid \
        AND NOT indisunique AND indnatts = 9";
    assert_eq!(number(&sql, covering).await, 1);
    assert_eq!(number(&sql, "SELECT count(*) FROM pg_class WHERE relname = 'event_by_type'").await, 0);
    sql.close().await.unwrap();
}
