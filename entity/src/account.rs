//! The table `account`: one row for each user, with their identity and the head of their change feed.

use sea_orm::entity::prelude::*;

/// One user.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "account")]
pub struct Model {
    /// The user. A new id is the UUIDv5 of the JSON array `[issuer, subject]`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The `iss` claim of the token. Empty if the token has none.
    pub issuer: String,
    /// The `sub` claim of the token.
    pub subject: String,
    /// The newest position that was assigned to a row of the user.
    pub feed_head: i64,
    /// A random number. It is renewed if positions were lost, so that cursors from before are recognized.
    pub feed_epoch: i64,
    /// Incremented by every statement that writes anything of the user. An optimistic write compares it.
    pub revision: i64,
}

/// No relation is declared, because every query names its user and writes its own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
