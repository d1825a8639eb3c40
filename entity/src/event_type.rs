//! The table `event_type`: one row for each event type, living or deleted. A deleted one is a tombstone.

use sea_orm::entity::prelude::*;

/// One event type, living or a tombstone. In a tombstone all columns of the content are null.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event_type")]
pub struct Model {
    /// The user who owns the event type.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The canonical id of the event type, usually made by the client.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The name of the event type, trimmed and in Unicode NFC, unique for the user. Null in a tombstone, so
    /// that the name can be used again.
    pub name: Option<String>,
    /// Text that tells a client which colour to show.
    pub color: Option<String>,
    /// Text that tells a client which icon to show.
    pub icon: Option<String>,
    /// The content hash: SHA-256 of the content, 32 bytes. Null in a tombstone.
    pub content_hash: Option<Vec<u8>>,
    /// The version of the row: 1 when it is first created, and incremented by every change.
    pub version: i32,
    /// The position of the newest change of this row in the change feed of the user.
    pub change_seq: i64,
    /// The client id of the app installation that wrote the current version. Null if its request had none.
    pub writer_client_id: Option<String>,
    /// The first version of the writer run, in which only the app installation that wrote last has written.
    pub writer_run_start: i32,
    /// The greatest id of the edits of the app installation that wrote last, in its writer run.
    pub writer_edit_id: Option<Uuid>,
    /// When the event type was created on the server, in epoch milliseconds.
    pub created_at: i64,
    /// When the current version of the event type was written, in epoch milliseconds.
    pub updated_at: i64,
    /// When the event type was deleted, in epoch milliseconds. Set only in a tombstone.
    pub deleted_at: Option<i64>,
    /// Always `user` in a tombstone, because a rollback deletes only events. Null otherwise.
    pub deleted_by: Option<String>,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
