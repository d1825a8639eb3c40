//! Creates `cluster_state`: which PostgreSQL cluster this is, and the generation of all feeds.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("cluster_state")
                    .col(ColumnDef::new("id").small_integer().not_null().primary_key())
                    .col(ColumnDef::new("system_identifier").text())
                    .col(ColumnDef::new("timeline").big_integer())
                    .col(ColumnDef::new("generation").big_integer().not_null())
                    .to_owned(),
            )
            .await?;
        let only = Query::insert()
            .into_table("cluster_state")
            .columns(["id", "generation"])
            .values_panic([1.into(), 0_i64.into()])
            .to_owned();
        manager.execute(only).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("cluster_state").to_owned()).await
    }
}
