//! Defines imports: their states, the steps of a user between them, and the outcomes of their records.
//!
//! It also decides what happens after a crash or a failure: smaller chunks, a rejected record, a pause.

use std::ops::AddAssign;

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
    /// A worker has claimed the import. If its lease expires, another worker goes on.
    Running,
    /// The payload was read to its end, and every record has an outcome.
    Completed,
    /// The import failed. It does not go on unless the user retries it.
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
    /// A CSV: rows below a header.
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

    /// The format with the name that [`Self::name`] gives. `None` if there is none.
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

    /// The state with the name that [`Self::name`] gives. `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the import has ended, so that no worker works on it. A user may still retry it or roll it back
    /// in most of these states.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled | Self::RolledBack)
    }
}

/// How many records of an import, or of a chunk, had which outcome. A dry run counts what would happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that created an event.
    pub inserted: i64,
    /// Records whose event is stored already, with the same content.
    pub duplicates: i64,
    /// Records whose event is stored already, with other content, which stays.
    pub differing: i64,
    /// Records whose event the user had deleted. It stays deleted.
    pub deleted: i64,
    /// Records that were rejected, for example because a field is not valid.
    pub rejected: i64,
}

impl Counts {
    /// The number of the records that have any outcome.
    #[must_use]
    pub fn total_records(&self) -> i64 {
        self.inserted + self.duplicates + self.differing + self.deleted + self.rejected
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.duplicates += other.duplicates;
        self.differing += other.differing;
        self.deleted += other.deleted;
        self.rejected += other.rejected;
    }
}

/// The pause of an import after its failure number `attempts` in a row, in milliseconds.
///
/// It starts at 5 s and doubles up to 15 min. `jitter` is any random number, and shortens the pause by up to
/// a quarter, so that imports that failed together are not retried together.
#[must_use]
pub fn retry_pause_ms(attempts: i32, jitter: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 20) - 1).expect("clamped");
    let pause = (RETRY_FIRST_MS << doublings).min(RETRY_PAUSE_MS_MAX);
    pause - jitter.rem_euclid(pause / 4)
}

/// The options with which an import was created, beside its format, size and digest. They never change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// The mapping of the columns of a CSV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvMapping>,
    /// Whether the import was created as a dry run. Stays true if the import later stores its records.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// An import as it is stored.
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
    /// The announced size of the payload in bytes, as sent.
    pub bytes_total: i64,
    /// How many bytes of the payload have arrived and are stored.
    pub bytes_received: i64,
    /// The names of the objects in which the payload is stored.
    pub payload_objects: PayloadObjects,
    /// The announced SHA-256 of the payload.
    pub sha256: Option<Vec<u8>>,
    /// The other options with which the import was created.
    pub options: Options,
    /// Whether the import is a dry run now: it decides and reports, and stores no event.
    pub dry_run: bool,
    /// The checkpoint: how many records are done.
    pub next_record: i64,
    /// The byte offset of the checkpoint in the decoded payload.
    pub next_byte: i64,
    /// The number of lines of the decoded payload before the checkpoint, if the format has lines.
    pub next_line: i64,
    /// How many bytes of the payload, as it was sent, were read at the checkpoint. It shows the progress.
    pub bytes_processed: i64,
    /// The number of all records. `None` until the end of the payload was read.
    pub records_total: Option<i64>,
    /// The outcomes of the records that are done.
    pub counts: Counts,
    /// How many attempts of workers in a row have failed without progress.
    pub attempts: i32,
    /// How many leases were lost at this checkpoint since the chunks last became smaller.
    pub crash_count: i32,
    /// The most records of the next chunks. It is smaller after crashes.
    pub chunk_records: i32,
    /// The number of the record after which the chunks get their full size again.
    pub small_chunks_until: i64,
    /// The fencing token: each claim adds 1, and writes of an earlier lease are refused.
    pub lease_epoch: i64,
    /// Why the import failed, or why its payload must be sent again. `None` if neither happened.
    pub problem: Option<Problem>,
    /// The trace of the request that created the import.
    pub trace_context: Option<TraceContext>,
    /// When the import fails if its payload has not arrived completely, in epoch milliseconds.
    pub upload_expires_at: i64,
    /// When the import was created, in epoch milliseconds.
    pub created_at: i64,
    /// When a worker first claimed the import, in epoch milliseconds.
    pub started_at: Option<i64>,
    /// When the import ended, in epoch milliseconds. `None` while it has not, or goes on again.
    pub finished_at: Option<i64>,
    /// When the stored payload was removed, in epoch milliseconds.
    pub payload_removed_at: Option<i64>,
}

impl ImportRow {
    /// The import as the next worker claims it. `after_crash` says that the previous worker lost its lease,
    /// perhaps because it crashed on a record: then one crash more is counted. Nothing is stored here.
    ///
    /// After three crashes at one checkpoint, chunks of more than one record get a tenth of their size for
    /// the next 500 records, and the count of crashes begins anew.
    #[must_use]
    pub fn count_crash_maybe_shrink_chunks(mut self, after_crash: bool) -> Self {
        self.crash_count += i32::from(after_crash);
        if self.crash_count >= CRASHES_MAX && self.chunk_records > 1 {
            self.crash_count = 0;
            self.chunk_records = (self.chunk_records / 10).max(1);
            self.small_chunks_until =
                self.small_chunks_until.max(self.next_record + CHUNK_RECORDS_MAX as i64);
        }
        self
    }

    /// The number of the record to reject without reading it, counted from 1: workers crashed three times on
    /// it when it was alone in its chunk. `None` if there is no such record.
    #[must_use]
    pub fn poison_record_number(&self) -> Option<i64> {
        (self.chunk_records == 1 && self.crash_count >= CRASHES_MAX).then_some(self.next_record + 1)
    }

    /// Whether the import must fail because workers go on crashing although the record on which they crashed
    /// is rejected without reading it. A rollback never fails.
    #[must_use]
    pub fn is_in_crash_loop(&self) -> bool {
        self.chunk_records == 1 && self.crash_count >= 2 * CRASHES_MAX && self.state != State::RollingBack
    }

    /// Whether the chunks are still small because of a crash, although with `next_record` records done the
    /// place of the crash has been passed. Then the next claim gives them their full size.
    #[must_use]
    pub fn can_restore_chunk_size(&self, next_record: i64) -> bool {
        i64::from(self.chunk_records) < CHUNK_RECORDS_MAX as i64 && next_record >= self.small_chunks_until
    }

    /// Whether the next chunks may be decided without the lock of the account row, before the chunks before
    /// them are stored. They may if no worker has crashed here.
    #[must_use]
    pub fn can_decide_without_lock(&self) -> bool {
        self.crash_count == 0 && i64::from(self.chunk_records) == CHUNK_RECORDS_MAX as i64
    }

    /// Whether the whole payload has arrived and is still stored.
    #[must_use]
    pub fn is_whole_payload_stored(&self) -> bool {
        self.bytes_received == self.bytes_total && self.payload_removed_at.is_none()
    }
}

/// A change of the state of an import that its user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ends the import before it is done. Events that it has created stay.
    Cancel,
    /// Pauses the import until the user resumes or cancels it.
    Pause,
    /// Continues a paused import.
    Resume,
    /// Continues a failed import, or carries out a completed dry run. The payload must still be stored.
    Retry,
    /// Deletes the events that the import created. Events changed since then stay.
    RollBack,
}

impl Step {
    /// The states in which the step can be taken, and the state after it. Of completed imports, only a dry
    /// run can be retried.
    #[must_use]
    pub fn allowed_states_and_next_state(self) -> (&'static [State], State) {
        use State::{AwaitingUpload, Canceled, Completed, Failed, Paused, Queued, RollingBack, Running};
        match self {
            Self::Cancel => (&[AwaitingUpload, Queued, Running, Paused], Canceled),
            Self::Pause => (&[Queued, Running], Paused),
            Self::Resume => (&[Paused], Queued),
            Self::Retry => (&[Failed, Completed], Queued),
            Self::RollBack => (&[Completed, Canceled, Failed], RollingBack),
        }
    }

    /// Whether an import in this state is already where the step leads, so that the step is no error and
    /// changes nothing.
    #[must_use]
    pub fn is_noop_in_state(self, state: State) -> bool {
        match self {
            Self::Cancel => state == State::Canceled,
            Self::Pause => state == State::Paused,
            Self::Resume | Self::Retry => matches!(state, State::Queued | State::Running),
            Self::RollBack => matches!(state, State::RollingBack | State::RolledBack),
        }
    }

    /// The past participle of the step, such as "paused", for the detail of a problem.
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

/// A report about one record of an import that was rejected, or whose event was stored before with other
/// content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The number of the record, from 1.
    pub record: i64,
    /// The number of its line, from 1, if the format has lines.
    pub line: Option<i64>,
    /// The first wrong field, as a JSON Pointer into the record. `None` or empty if no single field is wrong.
    pub pointer: Option<String>,
    /// The kind of the problem.
    pub code: Code,
    /// The problems of all wrong fields, as text for a person.
    pub detail: String,
    /// The beginning of the record as it was sent, at most 200 characters.
    pub excerpt: String,
}
