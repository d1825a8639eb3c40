//! The table `id_alias`: ids that clients sent for rows that are stored under another id.

use sea_orm::entity::prelude::*;

/// One alias: an id that a client sent for a row that is stored under another id.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "id_alias")]
pub struct Model {
    /// The user who owns the row and its alias.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The kind of the row that the alias stands for: 1 for an event, 2 for an event type.
    #[sea_orm(primary_key, auto_increment = false)]
    pub entity: i16,
    /// The alias: the id that the client sent.
    #[sea_orm(primary_key, auto_increment = false)]
    pub alias_id: Uuid,
    /// The canonical id of the row that the alias stands for. It is never an alias itself.
    pub id: Uuid,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
