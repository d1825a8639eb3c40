//! The table `backfill`: the progress of each backfill, which fills a derived column of older rows.

use sea_orm::entity::prelude::*;

/// The progress of one backfill, which fills a derived column of older rows.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "backfill")]
pub struct Model {
    /// The table and the derived column that is filled, such as `event.notes_search`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The checkpoint: the owner of the last row that was checked. The nil UUID before the first row.
    pub after_user_id: Uuid,
    /// The checkpoint: the id of the last row that was checked. The nil UUID before the first row.
    pub after_id: Uuid,
    /// How many rows were checked since the backfill began, whether or not they had to be changed.
    pub rows: i64,
    /// Whether all rows were checked.
    pub is_done: bool,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
