//! An id that was sent for something that is stored under another.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "id_alias")]
pub struct Model {
    /// Owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// 1 event, 2 event type.
    #[sea_orm(primary_key, auto_increment = false)]
    pub entity: i16,
    /// The id as it was sent.
    #[sea_orm(primary_key, auto_increment = false)]
    pub alias_id: Uuid,
    /// The id of the row that it stands for; never an alias itself.
    pub id: Uuid,
}

/// No relation is declared: every query names its user and joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
