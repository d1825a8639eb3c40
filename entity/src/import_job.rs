//! The table `import_job`: one row for each import, with its state, checkpoint and lease. The rows are also
//! the outbox from which lost notifications are sent again.

use sea_orm::entity::prelude::*;

/// One import.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_job")]
pub struct Model {
    /// The owner.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The id, made by the client.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The name of the state, as on the wire.
    pub state: String,
    /// The name of the format, as on the wire.
    pub format: String,
    /// The name that the user gave it.
    pub name: Option<String>,
    /// The options that it was created with, as JSON. Format, size and digest have columns of their own.
    pub options: String,
    /// Whether the records are only decided and reported, and no event is stored.
    pub dry_run: bool,
    /// The announced size of the payload, in bytes.
    pub bytes_total: i64,
    /// How many bytes of the payload are stored.
    pub bytes_received: i64,
    /// The names of the payload objects, as `domain::payload_objects` writes them.
    pub payload_objects: String,
    /// The announced SHA-256 of the payload, 32 bytes.
    pub sha256: Option<Vec<u8>>,
    /// The checkpoint: how many records are done.
    pub next_record: i64,
    /// The offset in the decoded payload after the last record that is done, in bytes.
    pub next_byte: i64,
    /// The number of lines before that offset, if the format has lines.
    pub next_line: i64,
    /// How many bytes of the payload as sent were read. A client shows it as progress.
    pub bytes_processed: i64,
    /// The number of records. Set when the import is complete.
    pub records_total: Option<i64>,
    /// Records that became new events.
    pub count_inserted: i64,
    /// Records whose event is already stored with the same content.
    pub count_duplicates: i64,
    /// Records whose event is already stored with different content.
    pub count_differing: i64,
    /// Records whose event was deleted before.
    pub count_deleted: i64,
    /// Records that were rejected.
    pub count_rejected: i64,
    /// Transient failures since the last progress.
    pub attempts: i32,
    /// Leases that expired at this checkpoint, because their holder crashed.
    pub crash_count: i32,
    /// How many records a chunk has. Fewer after crashes, until `small_chunks_until` records are done.
    pub chunk_records: i32,
    /// The record up to which chunks stay small.
    pub small_chunks_until: i64,
    /// No worker may claim it before this instant, in epoch milliseconds.
    pub not_before: Option<i64>,
    /// The fencing token. Every claim increments it.
    pub lease_epoch: i64,
    /// The process that holds the lease, or held the last one.
    pub lease_owner: Option<String>,
    /// When the lease expires, by the clock of the database, in epoch milliseconds. Null if there is no
    /// lease.
    pub lease_until: Option<i64>,
    /// When the sweeper last notified workers of it, in epoch milliseconds.
    pub notified_at: Option<i64>,
    /// The problem for which it failed or for which its payload must be sent again, as JSON.
    pub problem: Option<String>,
    /// The `traceparent` of the request that created it.
    pub trace_context: Option<String>,
    /// When the time for sending the payload ends, in epoch milliseconds.
    pub upload_expires_at: i64,
    /// In epoch milliseconds.
    pub created_at: i64,
    /// When it was first claimed, in epoch milliseconds.
    pub started_at: Option<i64>,
    /// When it ended, in epoch milliseconds.
    pub finished_at: Option<i64>,
    /// When its payload and the excerpts of its rejections were removed, in epoch milliseconds.
    pub payload_removed_at: Option<i64>,
    /// When its rejections were removed, in epoch milliseconds.
    pub rejections_removed_at: Option<i64>,
}

/// No relation is declared, because every query names its user and writes its own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
