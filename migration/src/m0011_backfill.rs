//! Creates `backfill`, the progress of backfills, with the first one: the column that a search of notes
//! compares.
//!
//! The migration does not fill the rows themselves. That happens later, in steps, because it takes long.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::prelude::Uuid;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("backfill")
            .col(ColumnDef::new("name").text().not_null().primary_key())
            .col(ColumnDef::new("after_user_id").uuid().not_null())
            .col(ColumnDef::new("after_id").uuid().not_null())
            .col(ColumnDef::new("rows").big_integer().not_null())
            .col(ColumnDef::new("is_done").boolean().not_null())
            .to_owned();
        manager.create_table(table).await?;
        let first = Query::insert()
            .into_table("backfill")
            .columns(["name", "after_user_id", "after_id", "rows", "is_done"])
            .values_panic([
                "event.notes_search".into(),
                Uuid::nil().into(),
                Uuid::nil().into(),
                0_i64.into(),
                false.into(),
            ])
            .to_owned();
        manager.execute(first).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("backfill").to_owned()).await
    }
}
