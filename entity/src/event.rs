//! The table `event`: one row for each event, living or deleted. A deleted event is a tombstone without
//! content.

use sea_orm::entity::prelude::*;

/// One event, living or a tombstone. In a tombstone all columns of the content are null.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// The user who owns the event.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The canonical id of the event, usually made by the client.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The canonical id of its event type. Null in a tombstone.
    pub event_type_id: Option<Uuid>,
    /// When the event happened or began, in epoch milliseconds. Null in a tombstone.
    pub timestamp: Option<i64>,
    /// When the event ended, in epoch milliseconds. Null if it has no end, and in a tombstone.
    pub end_date: Option<i64>,
    /// Whether `timestamp` and `end_date` are dates, stored as 00:00 UTC. Null in a tombstone.
    pub is_all_day: Option<bool>,
    /// The IANA name of the time zone of the event. It does not change `timestamp`.
    pub time_zone: Option<String>,
    /// The notes of the event, free text.
    pub notes: Option<String>,
    /// `notes` in the folded form that a search compares. The program derives it, so that a search finds the
    /// same on SQLite and PostgreSQL. A backfill fills it in older rows.
    pub notes_search: Option<String>,
    /// The source that the event comes from, such as `manual`. It never changes, and a tombstone keeps it.
    pub source_type: String,
    /// The id that the event has in its source, unique for the user and the source. It never changes, and a
    /// tombstone keeps it.
    pub external_id: Option<String>,
    /// The latitude of the place, in degrees from -90 to 90.
    pub latitude: Option<f64>,
    /// The longitude of the place, in degrees from -180 to 180.
    pub longitude: Option<f64>,
    /// The name of the place of the event.
    pub location_name: Option<String>,
    /// Further properties of the event: a JSON object, as canonical JSON text. Null in a tombstone.
    pub properties: Option<String>,
    /// The content hash: SHA-256 of the content, 32 bytes. Null in a tombstone.
    pub content_hash: Option<Vec<u8>>,
    /// The version of the row: 1 when it is first created, and incremented by every change.
    pub version: i32,
    /// The version that the import gave the event. If it equals `version`, nobody has changed the event
    /// since. Null in a tombstone, and in an event that no import created or that was restored.
    pub import_version: Option<i32>,
    /// The position of the newest change of this row in the change feed of the user.
    pub change_seq: i64,
    /// The client id of the app installation that wrote the current version. Null if its request had none.
    pub writer_client_id: Option<String>,
    /// The first version of the writer run, in which only the app installation that wrote last has written.
    pub writer_run_start: i32,
    /// The greatest id of the edits of the app installation that wrote last, in its writer run.
    pub writer_edit_id: Option<Uuid>,
    /// The id of the import that created the event, also after later edits. Null in a tombstone, and in an
    /// event that no import created or that was restored.
    pub import_job_id: Option<Uuid>,
    /// When the event was created on the server, or created again after a rollback, in epoch milliseconds.
    pub created_at: i64,
    /// When the current version of the event was written, in epoch milliseconds.
    pub updated_at: i64,
    /// When the event was deleted, in epoch milliseconds. Set only in a tombstone.
    pub deleted_at: Option<i64>,
    /// Who deleted the event: `user`, or `rollback` for the rollback of an import. Set only in a tombstone.
    pub deleted_by: Option<String>,
    /// The number under `value` in the properties. The program derives it, so that statistics can add it up from
    /// an index. Null if there is none. A backfill fills it in older rows.
    pub value: Option<f64>,
    /// The text under `unit` in the properties, at most 64 characters. Null without a value. The program derives
    /// it as it does `value`.
    pub unit: Option<String>,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
