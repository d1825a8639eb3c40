//! One event, living or a tombstone.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// Owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The id that the client made.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Null in a tombstone, like all content.
    pub event_type_id: Option<Uuid>,
    /// Epoch milliseconds.
    pub timestamp: Option<i64>,
    /// Epoch milliseconds.
    pub end_date: Option<i64>,
    /// Whether the instants are dates.
    pub is_all_day: Option<bool>,
    /// IANA name.
    pub time_zone: Option<String>,
    /// Free text.
    pub notes: Option<String>,
    /// `notes` as a search compares them, so that it is the same on both databases; a backfill fills it.
    pub notes_search: Option<String>,
    /// Kept by a tombstone.
    pub source_type: String,
    /// Kept by a tombstone.
    pub external_id: Option<String>,
    /// Degrees.
    pub latitude: Option<f64>,
    /// Degrees.
    pub longitude: Option<f64>,
    /// Name of the place.
    pub location_name: Option<String>,
    /// Canonical JSON text.
    pub properties: Option<String>,
    /// SHA-256 of the content.
    pub content_hash: Option<Vec<u8>>,
    /// 1 when first created.
    pub version: i32,
    /// The version that its import gave it.
    pub import_version: Option<i32>,
    /// Position in the feed of its user.
    pub change_seq: i64,
    /// The installation that wrote last.
    pub writer_client_id: Option<String>,
    /// The version with which that installation began its unbroken run.
    pub writer_run_start: i32,
    /// The newest edit that installation applied.
    pub writer_edit_id: Option<Uuid>,
    /// The import that made it.
    pub import_job_id: Option<Uuid>,
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
