//! Adds `import_job.payload_objects` and creates `import_usage`.
//!
//! The names of the payload objects in the row say which bytes were received. The records by user and hour
//! make records count towards the limit of the day on which they are processed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let names = ColumnDef::new("payload_objects").text().not_null().default("").to_owned();
        manager.alter_table(Table::alter().table("import_job").add_column(names).to_owned()).await?;
        let usage = Table::create()
            .table("import_usage")
            .col(ColumnDef::new("user_id").uuid().not_null())
            .col(ColumnDef::new("hour").big_integer().not_null())
            .col(ColumnDef::new("records").big_integer().not_null())
            .primary_key(Index::create().name("import_usage_pkey").col("user_id").col("hour"))
            .to_owned();
        manager.create_table(usage).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("import_usage").to_owned()).await?;
        manager
            .alter_table(Table::alter().table("import_job").drop_column("payload_objects").to_owned())
            .await
    }
}
