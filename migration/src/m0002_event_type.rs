//! Creates `event_type`.

use sea_orm_migration::prelude::*;

use crate::{byte_text, index};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("event_type")
                    .col(ColumnDef::new("user_id").uuid().not_null())
                    .col(ColumnDef::new("id").uuid().not_null())
                    .col(byte_text(manager, "name"))
                    .col(ColumnDef::new("color").text())
                    .col(ColumnDef::new("icon").text())
                    .col(ColumnDef::new("content_hash").blob())
                    .col(ColumnDef::new("version").integer().not_null())
                    .col(ColumnDef::new("change_seq").big_integer().not_null())
                    .col(ColumnDef::new("writer_client_id").text())
                    .col(ColumnDef::new("writer_run_start").integer().not_null())
                    .col(ColumnDef::new("writer_edit_id").uuid())
                    .col(ColumnDef::new("created_at").big_integer().not_null())
                    .col(ColumnDef::new("updated_at").big_integer().not_null())
                    .col(ColumnDef::new("deleted_at").big_integer())
                    .col(ColumnDef::new("deleted_by").text())
                    .primary_key(Index::create().name("event_type_pkey").col("user_id").col("id"))
                    .to_owned(),
            )
            .await?;
        // Nulls are distinct in a unique index, and a tombstone has no name. So names are unique among living
        // types.
        let name = [("user_id", false), ("name", false)];
        manager.create_index(index("event_type", "event_type_name", &name).unique().to_owned()).await?;
        let feed = [("user_id", false), ("change_seq", false)];
        manager.create_index(index("event_type", "event_type_feed", &feed).unique().to_owned()).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("event_type").to_owned()).await
    }
}
