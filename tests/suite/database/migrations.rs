//! Tests that the migrations run up, down, and up again, and that the version before can run beside this one.

use migration::{Migrator, MigratorTrait};
use sea_orm::Database;
use tempfile::TempDir;

use crate::harness::{TestServer, new_id, on_both, servers};

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
