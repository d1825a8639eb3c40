//! One import: state machine, checkpoint, lease and outbox in one row.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_job")]
pub struct Model {
    /// Owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The id that the client made.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Name of the state as on the wire.
    pub state: String,
    /// Name of the format as on the wire.
    pub format: String,
    /// What the user calls it.
    pub name: Option<String>,
    /// JSON of what it was announced with beside format, size and digest.
    pub options: String,
    /// It decides and reports, and stores nothing.
    pub dry_run: bool,
    /// Announced size of the payload.
    pub bytes_total: i64,
    /// What has arrived and is stored.
    pub bytes_received: i64,
    /// The names of the objects of its payload, as `rules::payload_objects` writes them.
    pub payload_objects: String,
    /// Announced digest, 32 bytes.
    pub sha256: Option<Vec<u8>>,
    /// Records done: the checkpoint.
    pub next_record: i64,
    /// Offset in the decoded payload behind the last record done.
    pub next_byte: i64,
    /// Lines before that offset, where the format has lines.
    pub next_line: i64,
    /// Offset in the payload as it was sent, for progress.
    pub bytes_processed: i64,
    /// Records seen, once the end has been seen.
    pub records_total: Option<i64>,
    /// New rows.
    pub count_inserted: i64,
    /// There already, equal.
    pub count_duplicates: i64,
    /// There already, with other content.
    pub count_differing: i64,
    /// Deleted earlier.
    pub count_deleted: i64,
    /// Refused.
    pub count_rejected: i64,
    /// Transient failures since the last progress.
    pub attempts: i32,
    /// Leases lost at this checkpoint.
    pub crash_count: i32,
    /// Records of one chunk: fewer behind crashes, until `small_chunks_until` records are done.
    pub chunk_records: i32,
    /// Up to this record its chunks stay small.
    pub small_chunks_until: i64,
    /// Not before this instant, epoch milliseconds.
    pub not_before: Option<i64>,
    /// Fence: raised by each claim.
    pub lease_epoch: i64,
    /// Who holds the lease.
    pub lease_owner: Option<String>,
    /// Until when, by the clock of the database, epoch milliseconds.
    pub lease_until: Option<i64>,
    /// When the notification was last notified for it, epoch milliseconds.
    pub notified_at: Option<i64>,
    /// JSON of the problem that ended or bounced it.
    pub problem: Option<String>,
    /// `traceparent` of the request that made it.
    pub trace_context: Option<String>,
    /// Until when its payload is awaited, epoch milliseconds.
    pub upload_expires_at: i64,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds of the first claim.
    pub started_at: Option<i64>,
    /// Epoch milliseconds of the end.
    pub finished_at: Option<i64>,
    /// Epoch milliseconds of the removal of its payload and of the excerpts of its rejections.
    pub payload_removed_at: Option<i64>,
    /// Epoch milliseconds of the removal of its rejections.
    pub rejections_removed_at: Option<i64>,
}

/// No relation is declared: every query names its user and joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
