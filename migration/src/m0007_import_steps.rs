//! Adds the columns of `import_job` for dry runs, small chunks after crashes, and the removal of old data.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// The new columns. SQLite can add only one column in a statement.
fn columns() -> [ColumnDef; 6] {
    let count = |name: &'static str| ColumnDef::new(name).big_integer().not_null().default(0).to_owned();
    [
        ColumnDef::new("dry_run").boolean().not_null().default(false).to_owned(),
        count("next_line"),
        ColumnDef::new("chunk_records").integer().not_null().default(500).to_owned(),
        count("careful_until"),
        ColumnDef::new("payload_removed_at").big_integer().to_owned(),
        ColumnDef::new("rejections_removed_at").big_integer().to_owned(),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            let table = Table::alter().table("import_job").add_column(column).to_owned();
            manager.alter_table(table).await?;
        }
        // For the sweeper, which looks for data of ended imports of all users, oldest first.
        for (name, column) in [
            ("import_job_payload_kept", "payload_removed_at"),
            ("import_job_rejections_kept", "rejections_removed_at"),
        ] {
            let sql = format!("CREATE INDEX {name} ON import_job (finished_at) WHERE {column} IS NULL");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in ["import_job_payload_kept", "import_job_rejections_kept"] {
            manager.get_connection().execute_unprepared(&format!("DROP INDEX {name}")).await?;
        }
        for column in columns() {
            let table = Table::alter().table("import_job").drop_column(column.get_column_name()).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}
