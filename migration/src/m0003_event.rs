//! Creates `event`.

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
                    .table("event")
                    .col(ColumnDef::new("user_id").uuid().not_null())
                    .col(ColumnDef::new("id").uuid().not_null())
                    .col(ColumnDef::new("event_type_id").uuid())
                    .col(ColumnDef::new("timestamp").big_integer())
                    .col(ColumnDef::new("end_date").big_integer())
                    .col(ColumnDef::new("is_all_day").boolean())
                    .col(ColumnDef::new("time_zone").text())
                    .col(ColumnDef::new("notes").text())
                    .col(byte_text(manager, "notes_search"))
                    .col(byte_text(manager, "source_type").not_null())
                    .col(byte_text(manager, "external_id"))
                    .col(ColumnDef::new("latitude").double())
                    .col(ColumnDef::new("longitude").double())
                    .col(ColumnDef::new("location_name").text())
                    .col(ColumnDef::new("properties").text())
                    .col(ColumnDef::new("content_hash").blob())
                    .col(ColumnDef::new("version").integer().not_null())
                    .col(ColumnDef::new("import_version").integer())
                    .col(ColumnDef::new("change_seq").big_integer().not_null())
                    .col(ColumnDef::new("writer_client_id").text())
                    .col(ColumnDef::new("writer_run_start").integer().not_null())
                    .col(ColumnDef::new("writer_edit_id").uuid())
                    .col(ColumnDef::new("import_job_id").uuid())
                    .col(ColumnDef::new("created_at").big_integer().not_null())
                    .col(ColumnDef::new("updated_at").big_integer().not_null())
                    .col(ColumnDef::new("deleted_at").big_integer())
                    .col(ColumnDef::new("deleted_by").text())
                    .primary_key(Index::create().name("event_pkey").col("user_id").col("id"))
                    .to_owned(),
            )
            .await?;
        let feed = [("user_id", false), ("change_seq", false)];
        manager.create_index(index("event", "event_feed", &feed).unique().to_owned()).await?;
        // Nulls are distinct in a unique index, so only events with an external id must be unique.
        let external = [("user_id", false), ("source_type", false), ("external_id", false)];
        manager.create_index(index("event", "event_external", &external).unique().to_owned()).await?;
        let newest = [("user_id", false), ("timestamp", true), ("id", true)];
        manager.create_index(index("event", "event_newest", &newest)).await?;
        let by_type = [("user_id", false), ("event_type_id", false), ("timestamp", true), ("id", true)];
        manager.create_index(index("event", "event_by_type", &by_type)).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("event").to_owned()).await
    }
}
