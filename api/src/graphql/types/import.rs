//! Imports: where they stand, and what they refused.

use async_graphql::{Context, Enum, ID, Object, SimpleObject};
use domain::import::{Format, ImportRow, Rejection, State};
use futures::FutureExt;
use service::Clock;
use service::Store;
use service::queries::import_rejection;
use service::queries::page::Window;

use super::connection::{Connection, Listed, window};
use super::problem::{Problem, ProblemCode};
use crate::error::ApiError;
use crate::graphql::json_writer::WriteJson;
use crate::graphql::response_size::{ResponseSize, SelectionCounts};
use crate::graphql::scalar::{DateTime, Long};

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "State")]
pub enum ImportState {
    /// Its payload is not complete.
    AwaitingUpload,
    /// It waits for a worker.
    Queued,
    /// A worker holds it.
    Running,
    /// Every record has its outcome.
    Completed,
    /// It cannot go on; what was in stays in.
    Failed,
    /// The user ended it; what was in stays in.
    Canceled,
    /// The user halted it; `resumeImport` lets it go on.
    Paused,
    /// Its events are being taken back.
    RollingBack,
    /// Its events are taken back, but for those that somebody has changed.
    RolledBack,
}

/// What a payload holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Format")]
pub enum ImportFormat {
    /// One JSON object a line: the fields of EventInput; `eventType`, a name, may stand for `eventTypeId`.
    Ndjson,
    /// One array of such objects.
    Json,
    /// Rows under a header, read by a CsvMapping.
    Csv,
    /// The export of Apple Health: `export.xml`, alone or in its `export.zip`.
    AppleHealth,
}

/// An import.
#[derive(Debug, Clone)]
pub struct ImportJob(pub ImportRow);

impl ImportJob {
    fn elapsed_seconds(&self, clock: &Clock) -> Option<f64> {
        let ms = self.0.finished_at.unwrap_or_else(|| clock.now_ms()) - self.0.started_at?;
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no exact milliseconds")]
        Some(ms.max(1) as f64 / 1000.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "a fraction needs no exact bytes")]
    fn progress_fraction(&self) -> f64 {
        if self.0.state == State::Completed {
            return 1.0;
        }
        (self.0.bytes_processed as f64 / self.0.bytes_total.max(1) as f64).clamp(0.0, 1.0)
    }
}

/// A background import of many events.
#[Object]
impl ImportJob {
    /// The id that the client made.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Where it stands.
    async fn state(&self) -> ImportState {
        self.0.state.into()
    }

    /// What its payload holds.
    async fn format(&self) -> ImportFormat {
        self.0.format.into()
    }

    /// What the user calls it.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Whether it only tries.
    async fn dry_run(&self) -> bool {
        self.0.dry_run
    }

    /// How its records came out so far.
    async fn counts(&self) -> ImportRecordCounts {
        let counts = self.0.counts;
        ImportRecordCounts {
            records: Long(counts.records()),
            inserted: Long(counts.inserted),
            duplicates: Long(counts.duplicates),
            differing: Long(counts.differing),
            deleted: Long(counts.deleted),
            rejected: Long(counts.rejected),
        }
    }

    /// Null until the end of the payload has been seen.
    async fn records_total(&self) -> Option<Long> {
        self.0.records_total.map(Long)
    }

    /// Size of the payload as announced.
    async fn bytes_total(&self) -> Long {
        Long(self.0.bytes_total)
    }

    /// How far into the payload it has come.
    async fn bytes_processed(&self) -> Long {
        Long(self.0.bytes_processed)
    }

    /// 0 to 1, by bytes.
    async fn progress(&self) -> f64 {
        self.progress_fraction()
    }

    /// Records a second since it was first taken up.
    async fn rate_per_second(&self, context: &Context<'_>) -> Option<f64> {
        let seconds = self.elapsed_seconds(&context.data_unchecked::<Store>().clock)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no exact count")]
        Some(self.0.counts.records() as f64 / seconds)
    }

    /// Seconds until its end, at the rate so far.
    async fn eta_seconds(&self, context: &Context<'_>) -> Option<f64> {
        let seconds = self.elapsed_seconds(&context.data_unchecked::<Store>().clock)?;
        let done = self.progress_fraction();
        (self.0.state == State::Running && done > 0.0).then(|| seconds / done * (1.0 - done))
    }

    /// Records that were refused or differ, in their order.
    async fn rejections(
        &self,
        context: &Context<'_>,
        #[graphql(default = 50)] first: i32,
        after: Option<String>,
    ) -> Result<Connection<ImportRejection>, ApiError> {
        let store = context.data_unchecked::<Store>().clone();
        let (user_id, id) = (self.0.user_id, self.0.id);
        let window: Window<i64> = window(Some(first), after, None, None)?;
        let (counts, response_size) =
            (SelectionCounts::of(context), context.data_unchecked::<ResponseSize>());
        // One of a list of imports reads nothing once the others were too much.
        response_size.add(0)?;
        let page = import_rejection::page(&store, user_id, id, &window).await?;
        let said = page.rows.iter().map(|row| counts.name(row.detail.len() + row.excerpt.len()));
        response_size.add(said.sum::<usize>() + counts.rows(page.rows.len()))?;
        Ok(Connection::new(
            page,
            |row| Some(ImportRejection::from(row)),
            move || {
                let store = store.clone();
                async move { import_rejection::count(&store, user_id, id).await }.boxed()
            },
        ))
    }

    /// What ended it, or why its payload must be sent again.
    async fn problem(&self) -> Option<Problem> {
        self.0.problem.clone().map(Problem::from)
    }

    /// Where to send the payload, while it is awaited.
    async fn upload(&self) -> Option<ImportUpload> {
        (self.0.state == State::AwaitingUpload).then(|| ImportUpload {
            url: format!("/imports/{}/payload", self.0.id),
            offset: Long(self.0.bytes_received),
            expires_at: DateTime::At(self.0.upload_expires_at),
        })
    }

    /// When it was announced.
    async fn created_at(&self) -> DateTime {
        DateTime::At(self.0.created_at)
    }

    /// When a worker first took it up.
    async fn started_at(&self) -> Option<DateTime> {
        self.0.started_at.map(DateTime::At)
    }

    /// When it ended.
    async fn finished_at(&self) -> Option<DateTime> {
        self.0.finished_at.map(DateTime::At)
    }
}

// Of imports there are few.
impl WriteJson for ImportJob {}

impl Listed for ImportJob {
    const NAME: &'static str = "ImportJob";
    type Key = service::queries::import_job::Key;

    fn key(&self) -> Self::Key {
        (self.0.created_at, self.0.id)
    }
}

/// records = inserted + duplicates + differing + deleted + rejected, always.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportRecordCounts {
    /// All so far.
    records: Long,
    /// New rows.
    inserted: Long,
    /// There already, equal.
    duplicates: Long,
    /// There already, with other content.
    differing: Long,
    /// Deleted earlier; stays so.
    deleted: Long,
    /// Refused.
    rejected: Long,
}

/// Where a payload goes.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportUpload {
    /// Where to PUT.
    url: String,
    /// What has arrived.
    offset: Long,
    /// Until when it is awaited.
    expires_at: DateTime,
}

/// record counts from 1; line too, where the format has lines. Differing records are listed too, code
/// DIFFERS. The first 100 000 are kept; the counts are exact.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportRejection {
    /// Counts from 1.
    record: Long,
    /// Counts from 1, blank lines too.
    line: Option<Long>,
    /// JSON Pointer inside the record.
    pointer: Option<String>,
    /// What is wrong.
    code: ProblemCode,
    /// One sentence for a person.
    detail: String,
    /// The beginning of the record.
    excerpt: String,
}

impl From<Rejection> for ImportRejection {
    fn from(row: Rejection) -> Self {
        Self {
            record: Long(row.record),
            line: row.line.map(Long),
            pointer: row.pointer,
            code: row.code.into(),
            detail: row.detail,
            excerpt: row.excerpt,
        }
    }
}

impl WriteJson for ImportRejection {}

impl Listed for ImportRejection {
    const NAME: &'static str = "ImportRejection";
    type Key = i64;

    fn key(&self) -> i64 {
        self.record.0
    }
}
