//! How far each backfill is: derived columns of older rows that are filled anew, one row a column.

use sea_orm::entity::prelude::*;

/// A backfill.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "backfill")]
pub struct Model {
    /// The table and the column: `event.notes_search`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The owner of the last row that was looked at; nil before the first.
    pub after_user_id: Uuid,
    /// The id of that row.
    pub after_id: Uuid,
    /// Rows looked at.
    pub rows: i64,
    /// All rows were looked at.
    pub is_done: bool,
}

/// No relation is declared: it only names a column.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
