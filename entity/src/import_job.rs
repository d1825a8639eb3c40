//! The table `import_job`: one row for each import, with its state, checkpoint and lease. The rows are also
//! the outbox from which lost notifications are sent again.

use sea_orm::entity::prelude::*;

/// One import, with its state, checkpoint and lease.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_job")]
pub struct Model {
    /// The user who owns the import.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// The id of the import, made by the client.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The state of the import, as the API names it, such as `AWAITING_UPLOAD`.
    pub state: String,
    /// The file format of the payload, as the API names it, such as `CSV`.
    pub format: String,
    /// The name that the user gave the import.
    pub name: Option<String>,
    /// The options with which the import was created, as JSON. Format, size and digest have columns of their
    /// own.
    pub options: String,
    /// Whether the records are only decided and reported, and no event is stored. False after a completed dry
    /// run was restarted as an import that stores its records.
    pub dry_run: bool,
    /// The announced size of the payload, in bytes.
    pub bytes_total: i64,
    /// How many bytes of the payload have arrived. Set back to 0 if the payload must be sent again.
    pub bytes_received: i64,
    /// The digests that the names of the stored payload objects contain, as the text that
    /// `domain::payload_objects` writes.
    pub payload_objects: String,
    /// The announced SHA-256 of the payload, 32 bytes. Null if the client announced none.
    pub sha256: Option<Vec<u8>>,
    /// The checkpoint: how many records of the payload are done.
    pub next_record: i64,
    /// The checkpoint: the offset after the last record that is done, in bytes of the decoded payload.
    pub next_byte: i64,
    /// The checkpoint: the number of lines before `next_byte`, if the format has lines.
    pub next_line: i64,
    /// How many bytes of the payload, as it was sent, the decoder has read. A client shows it as progress.
    pub bytes_processed: i64,
    /// The number of all records of the payload. Null until the import is complete.
    pub records_total: Option<i64>,
    /// Number of records that became new events, or in a dry run would become new events.
    pub count_inserted: i64,
    /// Number of records whose event was already stored with the same content.
    pub count_duplicates: i64,
    /// Number of records whose event was already stored with different content, which was kept.
    pub count_differing: i64,
    /// Number of records whose event a person had deleted. It stays deleted.
    pub count_deleted: i64,
    /// Number of records that were rejected, so that no event is stored for them.
    pub count_rejected: i64,
    /// How many times in a row the import failed for a temporary reason. 0 again after progress.
    pub attempts: i32,
    /// How many leases expired at this checkpoint, probably because their holder crashed. 0 again after
    /// progress, or when the chunks get smaller.
    pub crash_count: i32,
    /// How many records the next chunk may have. Fewer after crashes, until `small_chunks_until` records are
    /// done.
    pub chunk_records: i32,
    /// The number of done records from which chunks have their full size again after crashes.
    pub small_chunks_until: i64,
    /// No worker may claim the import before this instant, in epoch milliseconds.
    pub not_before: Option<i64>,
    /// The fencing token: every claim increments it, and writes of earlier leases are refused.
    pub lease_epoch: i64,
    /// The random id of the process that holds the lease, or held it last. Only people read it.
    pub lease_owner: Option<String>,
    /// When the newest lease expires, by the clock of the database, in epoch milliseconds. Null before the
    /// first claim, and after a worker has released or ended the import.
    pub lease_until: Option<i64>,
    /// When the sweeper last chose the import to notify workers of it, in epoch milliseconds.
    pub notified_at: Option<i64>,
    /// Why the import failed, or why its payload is wrong: the code and the detail of the problem, as JSON.
    pub problem: Option<String>,
    /// The `traceparent` (W3C Trace Context) of the request that created the import.
    pub trace_context: Option<String>,
    /// Until when the payload may be sent, in epoch milliseconds. If it is incomplete then, the import fails.
    pub upload_expires_at: i64,
    /// When the import was created, in epoch milliseconds.
    pub created_at: i64,
    /// When a worker first claimed the import, in epoch milliseconds.
    pub started_at: Option<i64>,
    /// When the import ended (completed, failed, was cancelled or was rolled back), in epoch milliseconds.
    pub finished_at: Option<i64>,
    /// When the payload and the excerpts of the rejected records were removed, in epoch milliseconds.
    pub payload_removed_at: Option<i64>,
    /// When the stored rejections of the import were removed, in epoch milliseconds. The counts stay.
    pub rejections_removed_at: Option<i64>,
}

/// Empty: SeaORM relations are not used, because queries write their own joins.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
