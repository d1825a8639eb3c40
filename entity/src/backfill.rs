//! The table `backfill`: the progress of each backfill, which fills a derived column of older rows.

use sea_orm::entity::prelude::*;

/// One backfill.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "backfill")]
pub struct Model {
    /// The table and the column, such as `event.notes_search`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The owner of the last row that was processed. The nil UUID before the first row.
    pub after_user_id: Uuid,
    /// The id of that row.
    pub after_id: Uuid,
    /// How many rows were processed.
    pub rows: i64,
    /// Whether all rows were processed.
    pub is_done: bool,
}

/// No relation is declared, because the row refers to a column and not to other rows.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
