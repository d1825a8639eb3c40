//! One event type, living or a tombstone.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event_type")]
pub struct Model {
    /// Owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The id that the client made.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Trimmed, NFC; null in a tombstone, so that the name is free.
    pub name: Option<String>,
    /// Any text a client shows a colour by.
    pub color: Option<String>,
    /// Any text a client shows an icon by.
    pub icon: Option<String>,
    /// SHA-256 of the content.
    pub content_hash: Option<Vec<u8>>,
    /// 1 when first created.
    pub version: i32,
    /// Position in the feed of its user.
    pub change_seq: i64,
    /// The installation that wrote last.
    pub writer_client_id: Option<String>,
    /// The version with which that installation began its unbroken run.
    pub writer_run_start: i32,
    /// The newest edit that installation applied.
    pub writer_edit_id: Option<Uuid>,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds.
    pub updated_at: i64,
    /// Epoch milliseconds; set in a tombstone.
    pub deleted_at: Option<i64>,
    /// `user` or `rollback`.
    pub deleted_by: Option<String>,
}

/// No relation is declared: every query names its user and joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
