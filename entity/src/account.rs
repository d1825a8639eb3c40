//! One user: who the token says they are, and the head of their feed.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "account")]
pub struct Model {
    /// UUIDv5 of the JSON array `[issuer, subject]` when first made.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The `iss` of the token; empty when it has none.
    pub issuer: String,
    /// The `sub` of the token.
    pub subject: String,
    /// The newest position handed out.
    pub feed_head: i64,
    /// Random; renewed when positions were lost, so that old cursors are told.
    pub feed_epoch: i64,
    /// Incremented by every statement that writes anything of the user.
    pub revision: i64,
}

/// No relation is declared: every query names its user and joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
