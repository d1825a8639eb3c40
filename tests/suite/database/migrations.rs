//! Tests that the migrations run up, down, and up again.

use migration::{Migrator, MigratorTrait};
use sea_orm::Database;
use tempfile::TempDir;

use crate::harness::servers;

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
