//! The tables, one migration a file, for SQLite and PostgreSQL alike.
//!
//! A migration is never edited once it has landed: what is wrong is mended by the next one.

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
        ]
    }
}

/// How many migrations a database lacks; changes nothing. Those of a newer program may be there already: while servers
/// are replaced, old ones go on, and start again.
///
/// # Errors
/// When the database fails.
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

/// Applies the migrations that a database lacks.
///
/// # Errors
/// When the database or a migration fails, and when migrations are missing in between those of another program.
pub async fn apply(connection: &DatabaseConnection) -> Result<(), DbErr> {
    if pending(connection).await? > 0 { Migrator::up(connection, None).await } else { Ok(()) }
}

/// Text that sorts by its bytes on every database, whatever locale the server was made with.
fn byte_text(manager: &SchemaManager<'_>, name: &'static str) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
        column.custom("text COLLATE \"C\"");
    } else {
        column.text();
    }
    column
}

/// An index with a name, so that a violation is told by it.
fn index(table: &'static str, name: &'static str, columns: &[(&'static str, bool)]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.table(table).name(name);
    for (column, descending) in columns {
        let order = if *descending { IndexOrder::Desc } else { IndexOrder::Asc };
        index.col((*column, order));
    }
    index
}
