//! The table `event_type`: one row for each event type, living or deleted. A deleted one is a tombstone.

use sea_orm::entity::prelude::*;

/// One event type.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event_type")]
pub struct Model {
    /// The owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The id, usually made by the client.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The name, trimmed and in Unicode NFC. Null in a tombstone, so that the name can be used again.
    pub name: Option<String>,
    /// Text that tells a client which colour to show.
    pub color: Option<String>,
    /// Text that tells a client which icon to show.
    pub icon: Option<String>,
    /// The content hash: SHA-256 of the content.
    pub content_hash: Option<Vec<u8>>,
    /// 1 when first created, and incremented by every change.
    pub version: i32,
    /// The position of the newest change in the feed of the user.
    pub change_seq: i64,
    /// The client id of the installation that wrote last.
    pub writer_client_id: Option<String>,
    /// The writer run: the version since which only that installation has written.
    pub writer_run_start: i32,
    /// The newest edit id that this installation has applied.
    pub writer_edit_id: Option<Uuid>,
    /// In epoch milliseconds.
    pub created_at: i64,
    /// In epoch milliseconds.
    pub updated_at: i64,
    /// In epoch milliseconds. Set only in a tombstone.
    pub deleted_at: Option<i64>,
    /// `user` or `rollback`. Set only in a tombstone.
    pub deleted_by: Option<String>,
}

/// No relation is declared, because every query names its user and writes its own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
