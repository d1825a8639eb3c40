//! Adds a unique index of `id_alias` by owner and alias. An alias stands for one row only, whatever its kind.

use sea_orm_migration::prelude::*;

use crate::index;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let by_id = [("user_id", false), ("alias_id", false)];
        manager.create_index(index("id_alias", "id_alias_by_id", &by_id).unique().to_owned()).await?;
        // No query looks for the aliases of a row.
        manager.drop_index(Index::drop().name("id_alias_row").table("id_alias").to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let row = [("user_id", false), ("entity", false), ("id", false)];
        manager.create_index(index("id_alias", "id_alias_row", &row)).await?;
        manager.drop_index(Index::drop().name("id_alias_by_id").table("id_alias").to_owned()).await
    }
}
