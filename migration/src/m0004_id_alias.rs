//! Creates `id_alias`: ids that clients sent for rows that are stored under another id.

use sea_orm_migration::prelude::*;

use crate::index;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("id_alias")
                    .col(ColumnDef::new("user_id").uuid().not_null())
                    .col(ColumnDef::new("entity").small_integer().not_null())
                    .col(ColumnDef::new("alias_id").uuid().not_null())
                    .col(ColumnDef::new("id").uuid().not_null())
                    .primary_key(
                        Index::create().name("id_alias_pkey").col("user_id").col("entity").col("alias_id"),
                    )
                    .to_owned(),
            )
            .await?;
        let row = [("user_id", false), ("entity", false), ("id", false)];
        manager.create_index(index("id_alias", "id_alias_row", &row)).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("id_alias").to_owned()).await
    }
}
