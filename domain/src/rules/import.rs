//! The states of an import, what becomes of its records, and how long a failed one rests.

use uuid::Uuid;

use crate::limits::{RETRY_FIRST_MS, RETRY_LONGEST_MS};
use crate::rules::problem::{Code, Problem};

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
}

/// What a payload holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Ndjson];

    /// As it is stored and travels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "NDJSON",
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
    pub const ALL: [Self; 6] =
        [Self::AwaitingUpload, Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Canceled];

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
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
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
    /// Announced digest.
    pub sha256: Option<Vec<u8>>,
    /// Records done: the checkpoint.
    pub next_record: i64,
    /// Offset in the decoded payload behind them.
    pub next_byte: i64,
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
    /// Fence.
    pub lease_epoch: i64,
    /// What ended or bounced it.
    pub problem: Option<Problem>,
    /// Until when the payload is awaited.
    pub upload_expires_at: i64,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds of the first claim.
    pub started_at: Option<i64>,
    /// Epoch milliseconds of the end.
    pub finished_at: Option<i64>,
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
