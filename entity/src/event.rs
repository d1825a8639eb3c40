//! The table `event`: one row for each event, living or deleted. A deleted event is a tombstone without
//! content.

use sea_orm::entity::prelude::*;

/// One event.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// The owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The id, usually made by the client.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The id of its event type. Null in a tombstone, as all content.
    pub event_type_id: Option<Uuid>,
    /// When it happened, in epoch milliseconds.
    pub timestamp: Option<i64>,
    /// When it ended, in epoch milliseconds.
    pub end_date: Option<i64>,
    /// Whether `timestamp` and `end_date` are dates at 00:00 UTC.
    pub is_all_day: Option<bool>,
    /// The IANA name of a time zone.
    pub time_zone: Option<String>,
    /// Free text.
    pub notes: Option<String>,
    /// `notes` in the form that a search compares. It is derived in the program, so that both databases find
    /// the same. A backfill fills it in older rows.
    pub notes_search: Option<String>,
    /// The source of the external id. A tombstone keeps it.
    pub source_type: String,
    /// The id that the event has in its source. A tombstone keeps it.
    pub external_id: Option<String>,
    /// In degrees.
    pub latitude: Option<f64>,
    /// In degrees.
    pub longitude: Option<f64>,
    /// The name of the place.
    pub location_name: Option<String>,
    /// A JSON object as canonical JSON text.
    pub properties: Option<String>,
    /// The content hash: SHA-256 of the content.
    pub content_hash: Option<Vec<u8>>,
    /// 1 when first created, and incremented by every change.
    pub version: i32,
    /// The version that its import gave it. If `version` is the same, nobody has changed it since.
    pub import_version: Option<i32>,
    /// The position of the newest change in the feed of the user.
    pub change_seq: i64,
    /// The client id of the installation that wrote last.
    pub writer_client_id: Option<String>,
    /// The writer run: the version since which only that installation has written.
    pub writer_run_start: i32,
    /// The newest edit id that this installation has applied.
    pub writer_edit_id: Option<Uuid>,
    /// The import that created it.
    pub import_job_id: Option<Uuid>,
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
