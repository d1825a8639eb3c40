//! Imports: their state and progress, and the records that they rejected.

use async_graphql::{Context, Enum, ID, Object, SimpleObject};
use domain::import::{Format, ImportRow, Rejection, State};
use futures::FutureExt;
use service::Clock;
use service::Store;
use service::queries::import_rejection;
use service::queries::page::Window;

use super::connection::{Connection, Listed, parse_window};
use super::problem::{Problem, ProblemCode};
use crate::error::ApiError;
use crate::graphql::json_writer::WriteJson;
use crate::graphql::response_size::{ResponseSize, SelectionCounts};
use crate::graphql::scalar::{DateTime, Long};

/// The state of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "State")]
pub enum ImportState {
    /// The server waits for the payload, or for the rest of it.
    AwaitingUpload,
    /// The import waits for a worker, or for its next attempt after a temporary failure or a daily limit.
    Queued,
    /// A worker processes the import.
    Running,
    /// Every record of the payload has its outcome, which can be a rejection; `counts` has the totals.
    Completed,
    /// The import ended before it was complete; `problem` gives the reason. Events that it has stored stay
    /// stored.
    Failed,
    /// The user canceled the import. Events that it has stored stay stored.
    Canceled,
    /// The user paused the import; `resumeImport` continues it.
    Paused,
    /// A worker deletes the events that the import created, except those that were changed since, or will do
    /// so.
    RollingBack,
    /// The events that the import created were deleted, except those that were changed since.
    RolledBack,
}

/// The file format of the payload of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Format")]
pub enum ImportFormat {
    /// One JSON object per line, with the fields of `EventInput`. Instead of `eventTypeId` an object can have
    /// `eventType`, the name of an event type, which is created if it does not exist.
    Ndjson,
    /// One JSON array of objects as in NDJSON.
    Json,
    /// A header and rows. A `CsvMapping` says which columns become which fields of events.
    Csv,
    /// An export of Apple Health: its `export.xml`, or the `export.zip` that contains it.
    AppleHealth,
}

/// A stored import, to be returned in a response.
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
    /// A lower-case UUIDv7, made by the client.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The state of the import.
    async fn state(&self) -> ImportState {
        self.0.state.into()
    }

    /// The format of the payload.
    async fn format(&self) -> ImportFormat {
        self.0.format.into()
    }

    /// The name that the user gave the import; null if there is none.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Whether the import only reports what would become of each record, and stores no events.
    async fn dry_run(&self) -> bool {
        self.0.dry_run
    }

    /// How many of the records that are processed so far had which outcome.
    async fn counts(&self) -> ImportRecordCounts {
        let counts = self.0.counts;
        ImportRecordCounts {
            records: Long(counts.total_records()),
            inserted: Long(counts.inserted),
            duplicates: Long(counts.duplicates),
            differing: Long(counts.differing),
            deleted: Long(counts.deleted),
            rejected: Long(counts.rejected),
        }
    }

    /// The number of records in the payload; null until the end of the payload has been read.
    async fn records_total(&self) -> Option<Long> {
        self.0.records_total.map(Long)
    }

    /// The announced size in bytes of the payload as sent: if compressed, the compressed size.
    async fn bytes_total(&self) -> Long {
        Long(self.0.bytes_total)
    }

    /// How many bytes of the payload, as sent, are processed so far.
    async fn bytes_processed(&self) -> Long {
        Long(self.0.bytes_processed)
    }

    /// How much of the payload is processed, by its bytes: from 0 to 1.
    async fn progress(&self) -> f64 {
        self.progress_fraction()
    }

    /// The average number of records per second from `startedAt` to the end of the import or until now, with
    /// pauses included; null before `startedAt`.
    async fn rate_per_second(&self, context: &Context<'_>) -> Option<f64> {
        let seconds = self.elapsed_seconds(&context.data_unchecked::<Store>().clock)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no exact count")]
        Some(self.0.counts.total_records() as f64 / seconds)
    }

    /// The estimated seconds until the import ends, at the average rate so far; null unless it is running and
    /// has processed a part of its payload.
    async fn eta_seconds(&self, context: &Context<'_>) -> Option<f64> {
        let seconds = self.elapsed_seconds(&context.data_unchecked::<Store>().clock)?;
        let done = self.progress_fraction();
        (self.0.state == State::Running && done > 0.0).then(|| seconds / done * (1.0 - done))
    }

    /// Records that were rejected or differ from the stored event, in the order of the payload. Only the
    /// first 100 000 are kept, for 90 days after the end of the import; `counts` includes all. `first` is 1
    /// to 1 000.
    async fn rejections(
        &self,
        context: &Context<'_>,
        #[graphql(default = 50)] first: i32,
        after: Option<String>,
    ) -> Result<Connection<ImportRejection>, ApiError> {
        let store = context.data_unchecked::<Store>().clone();
        let (user_id, id) = (self.0.user_id, self.0.id);
        let window: Window<i64> = parse_window(Some(first), after, None, None)?;
        let (counts, response_size) =
            (SelectionCounts::count_selected_fields(context), context.data_unchecked::<ResponseSize>());
        // In a list of imports this reads nothing once the rejections of the others have exceeded the limit.
        response_size.add_bytes_and_check_limit(0)?;
        let page = import_rejection::load_page(&store, user_id, id, &window).await?;
        let texts = page.rows.iter().map(|row| counts.short_text_bytes(row.detail.len() + row.excerpt.len()));
        response_size
            .add_bytes_and_check_limit(texts.sum::<usize>() + counts.row_overhead_bytes(page.rows.len()))?;
        Ok(Connection::new(
            page,
            |row| Some(ImportRejection::from(row)),
            move || {
                let store = store.clone();
                async move { import_rejection::count_rejections_of_import(&store, user_id, id).await }.boxed()
            },
        ))
    }

    /// Why the import failed, or why its payload must be sent again; null if neither.
    async fn problem(&self) -> Option<Problem> {
        self.0.problem.clone().map(Problem::from)
    }

    /// Where to send the payload; null unless the state is AWAITING_UPLOAD.
    async fn upload(&self) -> Option<ImportUpload> {
        (self.0.state == State::AwaitingUpload).then(|| ImportUpload {
            url: format!("/imports/{}/payload", self.0.id),
            offset: Long(self.0.bytes_received),
            expires_at: DateTime::At(self.0.upload_expires_at),
        })
    }

    /// When the import was created.
    async fn created_at(&self) -> DateTime {
        DateTime::At(self.0.created_at)
    }

    /// When a worker first began with the import; null before. `retryImport` of a dry run clears it.
    async fn started_at(&self) -> Option<DateTime> {
        self.0.started_at.map(DateTime::At)
    }

    /// When the import was completed, failed, canceled or rolled back; null before, and again after a retry.
    async fn finished_at(&self) -> Option<DateTime> {
        self.0.finished_at.map(DateTime::At)
    }
}

// A user has few imports, so async-graphql resolves their lists.
impl WriteJson for ImportJob {}

impl Listed for ImportJob {
    const NAME: &'static str = "ImportJob";
    type Key = service::queries::import_job::Key;

    fn sort_key(&self) -> Self::Key {
        (self.0.created_at, self.0.id)
    }
}

/// How many records of an import had which outcome. `inserted`, `duplicates`, `differing`, `deleted` and
/// `rejected` always add up to `records`.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportRecordCounts {
    /// All records that are processed so far, whatever their outcome.
    records: Long,
    /// Records that created an event, or would have done so in a dry run.
    inserted: Long,
    /// Records whose event was already stored, with the same content.
    duplicates: Long,
    /// Records whose event was already stored, with other content. The stored event did not change.
    differing: Long,
    /// Records whose event was deleted earlier and stays deleted.
    deleted: Long,
    /// Records that were rejected because something is wrong with them. They created no event.
    rejected: Long,
}

/// Where to send the payload of an import.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportUpload {
    /// The path on this server to which the payload is sent with PUT.
    url: String,
    /// How many bytes of the payload the server has stored. Continue there, with the header `Upload-Offset`.
    offset: Long,
    /// The import fails if the payload is not complete at this time.
    expires_at: DateTime,
}

/// A record that was rejected, or that differs from the stored event and then has the code DIFFERS.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportRejection {
    /// The number of the record in the payload, from 1.
    record: Long,
    /// The number of the line, from 1, with blank lines counted; null if the format has no lines.
    line: Option<Long>,
    /// A JSON Pointer (RFC 6901) to the wrong field of the record; null if no single field is at fault.
    pointer: Option<String>,
    /// What is wrong with the record.
    code: ProblemCode,
    /// One sentence for people, which may change.
    detail: String,
    /// The beginning of the record, at most 200 characters. It is empty once the server has removed the
    /// payload.
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

    fn sort_key(&self) -> i64 {
        self.record.0
    }
}
