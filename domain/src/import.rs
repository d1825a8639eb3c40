//! Defines imports: their states, the steps of a user between them, and the outcomes of their records.
//!
//! It also decides what happens after a crash or a failure: smaller chunks, a rejected record, a pause.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::csv_mapping::CsvMapping;
use crate::limits::{CHUNK_RECORDS_MAX, CRASHES_MAX, RETRY_FIRST_MS, RETRY_PAUSE_MS_MAX};
use crate::payload_objects::PayloadObjects;
use crate::problem::{Code, Problem};
use crate::trace_context::TraceContext;

/// The state of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The payload has not arrived completely.
    AwaitingUpload,
    /// The import waits for a worker.
    Queued,
    /// A worker has the lease of the import.
    Running,
    /// Every record has an outcome.
    Completed,
    /// The import failed and does not go on by itself.
    Failed,
    /// The user cancelled the import.
    Canceled,
    /// The user paused the import.
    Paused,
    /// A worker deletes the events that the import created, or will do so. Events changed since then stay.
    RollingBack,
    /// The events that the import created are deleted. Events changed since then stay.
    RolledBack,
}

/// The file format of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object in each line.
    Ndjson,
    /// An array of JSON objects.
    Json,
    /// Rows below a header.
    Csv,
    /// The `export.xml` of Apple Health.
    AppleHealth,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Ndjson, Self::Json, Self::Csv, Self::AppleHealth];

    /// The name in the database and in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "NDJSON",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::AppleHealth => "APPLE_HEALTH",
        }
    }

    /// The format with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl State {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::AwaitingUpload,
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Paused,
        Self::RollingBack,
        Self::RolledBack,
    ];

    /// The name in the database and in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AwaitingUpload => "AWAITING_UPLOAD",
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::Paused => "PAUSED",
            Self::RollingBack => "ROLLING_BACK",
            Self::RolledBack => "ROLLED_BACK",
        }
    }

    /// The state with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the import has ended. A user may still retry it or roll it back.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled | Self::RolledBack)
    }
}

/// How many records of an import, or of a chunk, had which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that created a row.
    pub inserted: i64,
    /// Records that exist already, with the same content.
    pub duplicates: i64,
    /// Records that exist already, with other content.
    pub differing: i64,
    /// Records whose event the user had deleted. It stays deleted.
    pub deleted: i64,
    /// Records that were rejected.
    pub rejected: i64,
}

impl Counts {
    /// The number of all records.
    #[must_use]
    pub fn total_records(&self) -> i64 {
        self.inserted + self.duplicates + self.differing + self.deleted + self.rejected
    }
}

/// The pause after the failure number `attempts` in a row, in milliseconds.
///
/// It starts at 5 s and doubles up to 15 min. `jitter` shortens it by up to a quarter, so that imports that
/// failed together are not retried together.
#[must_use]
pub fn retry_pause_ms(attempts: i32, jitter: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 20) - 1).expect("clamped");
    let pause = (RETRY_FIRST_MS << doublings).min(RETRY_PAUSE_MS_MAX);
    pause - jitter.rem_euclid(pause / 4)
}

/// The options of a new import beside its format, size and digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// The mapping of the columns of a CSV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvMapping>,
    /// Whether the import was created as a dry run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A stored import.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportRow {
    /// The user who owns the import.
    pub user_id: Uuid,
    /// The id of the import.
    pub id: Uuid,
    /// The current state.
    pub state: State,
    /// The file format of the payload.
    pub format: Format,
    /// The name that the user gave the import.
    pub name: Option<String>,
    /// The announced size of the payload.
    pub bytes_total: i64,
    /// How many bytes of the payload have arrived.
    pub bytes_received: i64,
    /// The names of the payload objects.
    pub payload_objects: PayloadObjects,
    /// The announced SHA-256 of the payload.
    pub sha256: Option<Vec<u8>>,
    /// The other options with which the import was created.
    pub options: Options,
    /// Whether the import is a dry run: it decides and reports, and stores no event.
    pub dry_run: bool,
    /// The checkpoint: how many records are done.
    pub next_record: i64,
    /// The offset in the decoded payload after these records.
    pub next_byte: i64,
    /// The number of lines before that offset, if the format has lines.
    pub next_line: i64,
    /// The offset in the payload as it was sent, to show the progress.
    pub bytes_processed: i64,
    /// The number of all records. `None` until the end of the payload was read.
    pub records_total: Option<i64>,
    /// The outcomes of the records that are done.
    pub counts: Counts,
    /// How many attempts in a row have failed.
    pub attempts: i32,
    /// How many leases were lost at this checkpoint.
    pub crash_count: i32,
    /// The records of one chunk. There are fewer after crashes.
    pub chunk_records: i32,
    /// The record up to which the chunks stay small.
    pub small_chunks_until: i64,
    /// The fencing token: each claim adds 1, and writes of an earlier lease are refused.
    pub lease_epoch: i64,
    /// The problem that ended the import, or that refused its payload.
    pub problem: Option<Problem>,
    /// The trace of the request that created the import.
    pub trace_context: Option<TraceContext>,
    /// When an incomplete payload expires, in epoch milliseconds.
    pub upload_expires_at: i64,
    /// The time of the creation, in epoch milliseconds.
    pub created_at: i64,
    /// The time of the first claim by a worker, in epoch milliseconds.
    pub started_at: Option<i64>,
    /// The time of the end, in epoch milliseconds.
    pub finished_at: Option<i64>,
    /// The time when the payload was removed, in epoch milliseconds.
    pub payload_removed_at: Option<i64>,
}

impl ImportRow {
    /// The import after a worker has claimed it. With `after_crash`, the previous holder lost its lease,
    /// perhaps because it crashed on a record.
    ///
    /// After three such crashes at one checkpoint, chunks have a tenth of their size for the next 500
    /// records.
    #[must_use]
    pub fn count_crash_and_shrink_chunks(mut self, after_crash: bool) -> Self {
        self.crash_count += i32::from(after_crash);
        if self.crash_count >= CRASHES_MAX && self.chunk_records > 1 {
            self.crash_count = 0;
            self.chunk_records = (self.chunk_records / 10).max(1);
            self.small_chunks_until =
                self.small_chunks_until.max(self.next_record + CHUNK_RECORDS_MAX as i64);
        }
        self
    }

    /// The record to reject without reading it, counted from 1: workers crashed on it when it was alone in
    /// its chunk.
    #[must_use]
    pub fn poison_record_number(&self) -> Option<i64> {
        (self.chunk_records == 1 && self.crash_count >= CRASHES_MAX).then_some(self.next_record + 1)
    }

    /// Whether workers go on crashing although the record on which they crashed is rejected without reading
    /// it. Then nothing in the payload can be the cause, and the import must end. A rollback goes on.
    #[must_use]
    pub fn crashes_without_end(&self) -> bool {
        self.chunk_records == 1 && self.crash_count >= 2 * CRASHES_MAX && self.state != State::RollingBack
    }

    /// Whether the small chunks after a crash have passed the place of the crash.
    #[must_use]
    pub fn is_past_crash(&self, next_record: i64) -> bool {
        i64::from(self.chunk_records) < CHUNK_RECORDS_MAX as i64 && next_record >= self.small_chunks_until
    }

    /// Whether the next chunks may be decided without the lock. They may if no worker has crashed here.
    #[must_use]
    pub fn can_decide_without_lock(&self) -> bool {
        self.crash_count == 0 && i64::from(self.chunk_records) == CHUNK_RECORDS_MAX as i64
    }

    /// Whether the whole payload has arrived and is still stored.
    #[must_use]
    pub fn has_complete_payload(&self) -> bool {
        self.bytes_received == self.bytes_total && self.payload_removed_at.is_none()
    }
}

/// A step that a user takes with an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ends the import. Events that it has created stay.
    Cancel,
    /// Pauses the import.
    Pause,
    /// Continues a paused import.
    Resume,
    /// Continues a failed import, or carries out a completed dry run.
    Retry,
    /// Deletes the events that the import created. Events changed since then stay.
    RollBack,
}

impl Step {
    /// The states in which the step can be taken, and the state after it.
    #[must_use]
    pub fn states_before_and_after(self) -> (&'static [State], State) {
        use State::{AwaitingUpload, Canceled, Completed, Failed, Paused, Queued, RollingBack, Running};
        match self {
            Self::Cancel => (&[AwaitingUpload, Queued, Running, Paused], Canceled),
            Self::Pause => (&[Queued, Running], Paused),
            Self::Resume => (&[Paused], Queued),
            Self::Retry => (&[Failed, Completed], Queued),
            Self::RollBack => (&[Completed, Canceled, Failed], RollingBack),
        }
    }

    /// Whether an import in this state has taken the step already.
    #[must_use]
    pub fn is_already_taken_in(self, state: State) -> bool {
        match self {
            Self::Cancel => state == State::Canceled,
            Self::Pause => state == State::Paused,
            Self::Resume | Self::Retry => matches!(state, State::Queued | State::Running),
            Self::RollBack => matches!(state, State::RollingBack | State::RolledBack),
        }
    }

    /// The past participle of the step, for the detail of a problem.
    #[must_use]
    pub fn past_participle(self) -> &'static str {
        match self {
            Self::Cancel => "canceled",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Retry => "retried",
            Self::RollBack => "rolled back",
        }
    }
}

/// A stored record of an import that was rejected, or whose event has other content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The number of the record, from 1.
    pub record: i64,
    /// The number of its line, from 1, if the format has lines.
    pub line: Option<i64>,
    /// The field, as a JSON Pointer into the record.
    pub pointer: Option<String>,
    /// The kind of the problem.
    pub code: Code,
    /// One sentence for a person.
    pub detail: String,
    /// The beginning of the record.
    pub excerpt: String,
}
