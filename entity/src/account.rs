//! The table `account`: one row for each user, with their identity and the head of their change feed.

use sea_orm::entity::prelude::*;

/// One user, with their identity and the head of their change feed.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "account")]
pub struct Model {
    /// The id of the user. For a new user it is the UUIDv5 of the JSON array `[issuer, subject]`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The `iss` claim of the user's tokens. Empty if the tokens have none.
    pub issuer: String,
    /// The `sub` claim of the user's tokens.
    pub subject: String,
    /// The newest position that the feed of the user has assigned. 0 before the first change.
    pub feed_head: i64,
    /// A random number that is part of every feed cursor of the user. It is replaced if assigned positions
    /// were lost, as after a restored backup. Earlier cursors are then invalid.
    pub feed_epoch: i64,
    /// Incremented by every transaction that writes events, event types, aliases or new imports of the user.
    /// An optimistic write is stored only if the revision is still the one that it read.
    pub revision: i64,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
