//! The states of an import, what becomes of its records, and how long a failed one rests.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::csv_mapping::CsvMapping;
use crate::limits::{CHUNK_RECORDS_MAX, CRASHES_MAX, RETRY_FIRST_MS, RETRY_LONGEST_MS};
use crate::payload_objects::PayloadObjects;
use crate::problem::{Code, Problem};
use crate::trace_context::TraceContext;

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its payload is not complete.
    AwaitingUpload,
    /// It waits for a worker.
    Queued,
    /// A worker holds it.
    Running,
    /// Every record has its outcome.
    Completed,
    /// It cannot go on.
    Failed,
    /// The user ended it.
    Canceled,
    /// The user halted it.
    Paused,
    /// A worker takes its rows back, or will.
    RollingBack,
    /// Its rows are taken back.
    RolledBack,
}

/// What a payload holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// An array of JSON objects.
    Json,
    /// Rows under a header.
    Csv,
    /// The `export.xml` of Apple Health.
    AppleHealth,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ndjson, Self::Json, Self::Csv, Self::AppleHealth];

    /// As it is stored and travels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "NDJSON",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::AppleHealth => "APPLE_HEALTH",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl State {
    /// All of them.
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

    /// As it is stored and travels.
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

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more will happen to it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled | Self::RolledBack)
    }
}

/// How many records of an import, or of a chunk of it, came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// New rows.
    pub inserted: i64,
    /// There already, equal.
    pub duplicates: i64,
    /// There already, with other content.
    pub differing: i64,
    /// Deleted earlier; stays so.
    pub deleted: i64,
    /// Refused.
    pub rejected: i64,
}

impl Counts {
    /// All records.
    #[must_use]
    pub fn records(&self) -> i64 {
        self.inserted + self.duplicates + self.differing + self.deleted + self.rejected
    }
}

/// How long to rest behind the `attempts`-th failure in a row: 5 s doubling to 15 min, less up to a
/// quarter by `jitter`, so that what failed together does not come back together.
#[must_use]
pub fn retry_pause_ms(attempts: i32, jitter: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 20) - 1).expect("clamped");
    let pause = (RETRY_FIRST_MS << doublings).min(RETRY_LONGEST_MS);
    pause - jitter.rem_euclid(pause / 4)
}

/// What an import was announced with beside its format, size and digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// How the columns of a CSV become events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvMapping>,
    /// Whether it was announced as a dry run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// An import as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportRow {
    /// Owner.
    pub user_id: Uuid,
    /// Its id.
    pub id: Uuid,
    /// Where it stands.
    pub state: State,
    /// What its payload holds.
    pub format: Format,
    /// What the user calls it.
    pub name: Option<String>,
    /// Announced size of the payload.
    pub bytes_total: i64,
    /// What has arrived.
    pub bytes_received: i64,
    /// The names of its objects.
    pub payload_objects: PayloadObjects,
    /// Announced digest.
    pub sha256: Option<Vec<u8>>,
    /// What it was announced with beside.
    pub options: Options,
    /// It decides and reports, and stores nothing.
    pub dry_run: bool,
    /// Records done: the checkpoint.
    pub next_record: i64,
    /// Offset in the decoded payload behind them.
    pub next_byte: i64,
    /// Lines before that, where the format has lines.
    pub next_line: i64,
    /// Offset in the payload as sent, for progress.
    pub bytes_processed: i64,
    /// All records, once the end was seen.
    pub records_total: Option<i64>,
    /// How they came out.
    pub counts: Counts,
    /// Failures in a row.
    pub attempts: i32,
    /// Leases lost at this checkpoint.
    pub crash_count: i32,
    /// Records of one chunk, fewer behind crashes.
    pub chunk_records: i32,
    /// Up to this record its chunks stay small.
    pub small_chunks_until: i64,
    /// Fence.
    pub lease_epoch: i64,
    /// What ended or bounced it.
    pub problem: Option<Problem>,
    /// The request that made it.
    pub trace_context: Option<TraceContext>,
    /// Until when the payload is awaited.
    pub upload_expires_at: i64,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds of the first claim.
    pub started_at: Option<i64>,
    /// Epoch milliseconds of the end.
    pub finished_at: Option<i64>,
    /// Epoch milliseconds of the removal of its payload.
    pub payload_removed_at: Option<i64>,
}

impl ImportRow {
    /// As it is taken up by a worker; with `after_crash` the one before died of it. Three deaths at one
    /// checkpoint, and the next 500 records come in chunks a tenth of the size.
    #[must_use]
    pub fn claimed(mut self, after_crash: bool) -> Self {
        self.crash_count += i32::from(after_crash);
        if self.crash_count >= CRASHES_MAX && self.chunk_records > 1 {
            self.crash_count = 0;
            self.chunk_records = (self.chunk_records / 10).max(1);
            self.small_chunks_until =
                self.small_chunks_until.max(self.next_record + CHUNK_RECORDS_MAX as i64);
        }
        self
    }

    /// The record that killed whoever read it alone, again and again: it is refused unread.
    #[must_use]
    pub fn poison(&self) -> Option<i64> {
        (self.chunk_records == 1 && self.crash_count >= CRASHES_MAX).then_some(self.next_record + 1)
    }

    /// Whether it died again and again though the record that it could not get past is refused unread: nothing in the
    /// payload helps it on.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.chunk_records == 1 && self.crash_count >= 2 * CRASHES_MAX && self.state != State::RollingBack
    }

    /// Whether chunks that are small because somebody died have brought it past that place.
    #[must_use]
    pub fn is_past_crash(&self, next_record: i64) -> bool {
        i64::from(self.chunk_records) < CHUNK_RECORDS_MAX as i64 && next_record >= self.small_chunks_until
    }

    /// Whether nobody has died of what comes next.
    #[must_use]
    pub fn allows_speculation(&self) -> bool {
        self.crash_count == 0 && i64::from(self.chunk_records) == CHUNK_RECORDS_MAX as i64
    }

    /// Whether the whole payload has arrived and is still kept.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        self.bytes_received == self.bytes_total && self.payload_removed_at.is_none()
    }
}

/// What a user does with an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ends it; what is in stays in.
    Cancel,
    /// Halts it.
    Pause,
    /// Lets a halted one go on.
    Resume,
    /// Lets a failed one go on, or does for real what was tried.
    Retry,
    /// Takes its rows back.
    RollBack,
}

impl Step {
    /// The states that it can be taken in, and where it leads.
    #[must_use]
    pub fn leads(self) -> (&'static [State], State) {
        use State::{AwaitingUpload, Canceled, Completed, Failed, Paused, Queued, RollingBack, Running};
        match self {
            Self::Cancel => (&[AwaitingUpload, Queued, Running, Paused], Canceled),
            Self::Pause => (&[Queued, Running], Paused),
            Self::Resume => (&[Paused], Queued),
            Self::Retry => (&[Failed, Completed], Queued),
            Self::RollBack => (&[Completed, Canceled, Failed], RollingBack),
        }
    }

    /// Whether an import in this state has taken it before.
    #[must_use]
    pub fn is_taken(self, state: State) -> bool {
        match self {
            Self::Cancel => state == State::Canceled,
            Self::Pause => state == State::Paused,
            Self::Resume | Self::Retry => matches!(state, State::Queued | State::Running),
            Self::RollBack => matches!(state, State::RollingBack | State::RolledBack),
        }
    }

    /// What cannot be done, in words.
    #[must_use]
    pub fn participle(self) -> &'static str {
        match self {
            Self::Cancel => "canceled",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Retry => "retried",
            Self::RollBack => "rolled back",
        }
    }
}

/// A record that was refused or differs, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Counts from 1.
    pub record: i64,
    /// Counts from 1, where the format has lines.
    pub line: Option<i64>,
    /// JSON Pointer inside the record.
    pub pointer: Option<String>,
    /// What is wrong.
    pub code: Code,
    /// One sentence.
    pub detail: String,
    /// The beginning of the record.
    pub excerpt: String,
}
