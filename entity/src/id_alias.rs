//! The table `id_alias`: ids that clients sent for rows that are stored under another id.

use sea_orm::entity::prelude::*;

/// One alias.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "id_alias")]
pub struct Model {
    /// The owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// What the row is: 1 for an event, 2 for an event type.
    #[sea_orm(primary_key, auto_increment = false)]
    pub entity: i16,
    /// The id as it was sent.
    #[sea_orm(primary_key, auto_increment = false)]
    pub alias_id: Uuid,
    /// The id of the row that it stands for. It is never an alias itself.
    pub id: Uuid,
}

/// No relation is declared, because every query names its user and writes its own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
