//! Adds `event.value` and `event.unit`, which are derived from the properties, and an index by type that covers
//! what statistics read of most events.
//!
//! The migration does not fill the columns. That happens later, in steps. On PostgreSQL the index is built while
//! the old version goes on writing, which is not possible in a transaction. So every step can be repeated if the
//! process is killed.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::prelude::Uuid;
use sea_orm_migration::sea_orm::{DbBackend, Statement};

use crate::byte_text;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// The new index begins with the columns of the old one, so that it serves its queries too.
const POSTGRES: [&str; 3] = [
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS event_by_type_covering \
     ON event (user_id, event_type_id, timestamp DESC, id DESC) \
     INCLUDE (is_all_day, end_date, source_type, value, unit)",
    "DROP INDEX CONCURRENTLY IF EXISTS event_by_type",
    "ANALYZE event",
];

const SQLITE: [&str; 2] = [
    "CREATE INDEX IF NOT EXISTS event_by_type_covering ON event (user_id, event_type_id, timestamp DESC, id DESC, \
     is_all_day, end_date, source_type, value, unit)",
    "DROP INDEX IF EXISTS event_by_type",
];

const POSTGRES_DOWN: [&str; 2] = [
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS event_by_type \
     ON event (user_id, event_type_id, timestamp DESC, id DESC)",
    "DROP INDEX CONCURRENTLY IF EXISTS event_by_type_covering",
];

const SQLITE_DOWN: [&str; 2] = [
    "CREATE INDEX IF NOT EXISTS event_by_type ON event (user_id, event_type_id, timestamp DESC, id DESC)",
    "DROP INDEX IF EXISTS event_by_type_covering",
];

/// Finds the index if an earlier attempt was killed while it was built. PostgreSQL keeps it, but never uses it.
const INVALID: &str = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('event_by_type_covering') \
     AND NOT indisvalid";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut columns = [ColumnDef::new("value"), byte_text(manager, "unit")];
        columns[0].double();
        for column in columns {
            let name = column.get_column_name();
            if !manager.has_column("event", name.clone()).await? {
                manager.alter_table(Table::alter().table("event").add_column(column).to_owned()).await?;
            }
        }
        let backfill = Query::insert()
            .into_table("backfill")
            .columns(["name", "after_user_id", "after_id", "rows", "is_done"])
            .values_panic([
                "event.value".into(),
                Uuid::nil().into(),
                Uuid::nil().into(),
                0_i64.into(),
                false.into(),
            ])
            .on_conflict(OnConflict::column("name").do_nothing().to_owned())
            .to_owned();
        manager.execute(backfill).await?;
        let connection = manager.get_connection();
        if manager.get_database_backend() == DbBackend::Postgres {
            let invalid = Statement::from_string(DbBackend::Postgres, INVALID);
            if connection.query_one_raw(invalid).await?.is_some() {
                connection.execute_unprepared("DROP INDEX CONCURRENTLY event_by_type_covering").await?;
            }
            run_beside_traffic(connection, &POSTGRES).await?;
        } else {
            for statement in SQLITE {
                connection.execute_unprepared(statement).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        if manager.get_database_backend() == DbBackend::Postgres {
            run_beside_traffic(connection, &POSTGRES_DOWN).await?;
        } else {
            for statement in SQLITE_DOWN {
                connection.execute_unprepared(statement).await?;
            }
        }
        let delete =
            Query::delete().from_table("backfill").and_where(Expr::col("name").eq("event.value")).to_owned();
        manager.execute(delete).await?;
        for column in ["unit", "value"] {
            if manager.has_column("event", column).await? {
                manager.alter_table(Table::alter().table("event").drop_column(column).to_owned()).await?;
            }
        }
        Ok(())
    }
}

/// Runs statements that wait for older transactions, for as long as these take. They hold up no other statement.
async fn run_beside_traffic(
    connection: &SchemaManagerConnection<'_>,
    statements: &[&str],
) -> Result<(), DbErr> {
    let setting = Statement::from_string(DbBackend::Postgres, "SHOW lock_timeout");
    let limit: String = match connection.query_one_raw(setting).await? {
        Some(row) => row.try_get_by_index(0)?,
        None => "0".to_owned(),
    };
    connection.execute_unprepared("SET lock_timeout = 0").await?;
    for statement in statements {
        connection.execute_unprepared(statement).await?;
    }
    connection.execute_unprepared(&format!("SET lock_timeout = '{limit}'")).await.map(drop)
}
