//! Creates `import_rejection`: records of imports that were rejected, or that differ from the stored event.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("import_rejection")
                    .col(ColumnDef::new("user_id").uuid().not_null())
                    .col(ColumnDef::new("import_job_id").uuid().not_null())
                    .col(ColumnDef::new("record").big_integer().not_null())
                    .col(ColumnDef::new("line").big_integer())
                    .col(ColumnDef::new("pointer").text())
                    .col(ColumnDef::new("code").text().not_null())
                    .col(ColumnDef::new("detail").text().not_null())
                    .col(ColumnDef::new("excerpt").text().not_null())
                    .primary_key(
                        Index::create()
                            .name("import_rejection_pkey")
                            .col("user_id")
                            .col("import_job_id")
                            .col("record"),
                    )
                    .to_owned(),
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("import_rejection").to_owned()).await
    }
}
