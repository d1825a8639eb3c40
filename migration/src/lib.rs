//! The migrations of the database schema, one in each file, for both SQLite and PostgreSQL.
//!
//! The statements of a migration must not be changed after it was released. A new migration corrects what is
//! wrong.

use std::collections::HashSet;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseConnection;
pub use sea_orm_migration::{MigratorTrait, SchemaManager};

mod m0001_account;
mod m0002_event_type;
mod m0003_event;
mod m0004_id_alias;
mod m0005_import_job;
mod m0006_import_rejection;
mod m0007_import_steps;
mod m0008_alias_by_id;
mod m0009_cluster_state;
mod m0010_import_safety;
mod m0011_backfill;
mod m0012_account_revision;
mod m0013_plain_column_names;
mod m0014_statistics;

/// All migrations in their order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_account::Migration),
            Box::new(m0002_event_type::Migration),
            Box::new(m0003_event::Migration),
            Box::new(m0004_id_alias::Migration),
            Box::new(m0005_import_job::Migration),
            Box::new(m0006_import_rejection::Migration),
            Box::new(m0007_import_steps::Migration),
            Box::new(m0008_alias_by_id::Migration),
            Box::new(m0009_cluster_state::Migration),
            Box::new(m0010_import_safety::Migration),
            Box::new(m0011_backfill::Migration),
            Box::new(m0012_account_revision::Migration),
            Box::new(m0013_plain_column_names::Migration),
            Box::new(m0014_statistics::Migration),
        ]
    }
}

/// Returns how many migrations the database lacks. Changes nothing.
///
/// The database may have migrations of a newer version. During a rolling upgrade the old servers go on, and
/// may start again.
///
/// # Errors
/// [`DbErr`] if the database fails.
pub async fn pending(connection: &DatabaseConnection) -> Result<usize, DbErr> {
    let all = Migrator::migrations();
    let table = Migrator::migration_table_name();
    if !SchemaManager::new(connection).has_table(table.to_string()).await? {
        return Ok(all.len());
    }
    let rows = connection.query_all(Query::select().column("version").from(table)).await?;
    let applied =
        rows.iter().map(|row| row.try_get("", "version")).collect::<Result<HashSet<String>, _>>()?;
    Ok(all.iter().filter(|migration| !applied.contains(migration.name())).count())
}

/// Applies the migrations that the database lacks.
///
/// # Errors
/// [`DbErr`] if the database or a migration fails, or if the database has migrations that this version does
/// not know and lacks others.
pub async fn apply(connection: &DatabaseConnection) -> Result<(), DbErr> {
    if pending(connection).await? > 0 { Migrator::up(connection, None).await } else { Ok(()) }
}

/// A text column that sorts by its bytes on both databases. On PostgreSQL the default collation depends on
/// the locale of the cluster.
fn byte_text(manager: &SchemaManager<'_>, name: &'static str) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
        column.custom("text COLLATE \"C\"");
    } else {
        column.text();
    }
    column
}

/// A named index over columns, each with whether it is descending. The database reports a violation by the
/// name.
fn index(table: &'static str, name: &'static str, columns: &[(&'static str, bool)]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.table(table).name(name);
    for (column, descending) in columns {
        let order = if *descending { IndexOrder::Desc } else { IndexOrder::Asc };
        index.col((*column, order));
    }
    index
}
