//! Takes an import, does a part of it, and gives it back. However often a worker dies in here, what it
//! did counts once: rows and checkpoint are one transaction, fenced by the lease.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use domain::import::{ImportRow, State, retry_pause_ms};
use domain::limits::{
    ATTEMPTS_MAX, IMPORT_REST_MS, ImportLimits, LEASE_TTL_MS, SLICE_CHUNKS_MAX, SLICE_MS_MAX,
};
use domain::problem::{Code, Problem};
use formats::SourceError;
use futures::{FutureExt, StreamExt};
use opentelemetry::trace::{SpanContext, TraceFlags, TraceState};
use service::Error;
use service::Payloads;
use service::Store;
use service::apply_chunk::{Applied, Chunk, Import, Verdict, apply_chunk, find_poison};
use service::import_lease::{self, Held, Release};
use service::notifier::{Notification, Notifier};
use service::roll_back_chunk::roll_back_chunk;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

use super::decode::{self, Fault};
use super::speculative::SpeculativeChunks;

/// How often a holder that has nothing to write yet says that it lives: well within its lease.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_millis(LEASE_TTL_MS.unsigned_abs() / 3);

/// What slices work with.
#[derive(Debug, Clone)]
pub struct RunnerContext<B> {
    /// The database.
    pub store: Store,
    /// The payloads.
    pub payloads: Payloads,
    /// To notification for what is given back.
    pub notifier: B,
    /// Name of this process, for whoever reads the row.
    pub owner: String,
    /// What one user may take.
    pub limits: ImportLimits,
    /// Ends slices early.
    pub shutdown: CancellationToken,
}

/// How a slice ended.
enum End {
    Complete,
    RolledBack,
    TimeIsOver,
    EnoughToday,
    Fault(Fault),
    Failed(Error),
    Mismatch,
}

/// Does a slice of everybody's import of that id: a notification names no user.
pub async fn run_slice<B: Notifier>(context: &RunnerContext<B>, import_id: Uuid) {
    let owners = match import_lease::owners(&context.store, import_id).await {
        Ok(owners) => owners,
        Err(error) => {
            tracing::warn!(import.id = %import_id, error = error.in_full(), "an import could not be looked up");
            return;
        }
    };
    for user_id in owners {
        let claimed = import_lease::claim(
            &context.store, user_id, import_id, &context.owner, &context.limits, LEASE_TTL_MS,
        );
        match claimed.await {
            Ok(Some(row)) => {
                let _counted = InFlight::begin();
                run(context, &row).instrument(span(&row)).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(import.id = %import_id, error = error.in_full(), "an import could not be claimed")
            }
        }
    }
}

/// A span of its own, for the request that made the import is long over: it is linked to that.
fn span(row: &ImportRow) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "import slice",
        otel.kind = "consumer",
        import.id = %row.id,
        records = Empty,
        outcome = Empty,
    );
    if let Some(made_by) = row.trace_context {
        let flags = TraceFlags::NOT_SAMPLED.with_sampled(made_by.is_sampled);
        let (trace_id, span_id) = (made_by.trace_id.into(), made_by.span_id.into());
        span.add_link(SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE));
    }
    span
}

/// An import that this process works on.
struct InFlight(metrics::Gauge);

impl InFlight {
    fn begin() -> Self {
        let gauge = metrics::gauge!("idem_imports_in_flight");
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

fn ended(state: &'static str) {
    metrics::counter!("idem_imports_finished_total", "state" => state).increment(1);
}

async fn run<B: Notifier>(context: &RunnerContext<B>, row: &ImportRow) {
    let mut held = Held::from(row);
    let worked = if row.state == State::RollingBack {
        roll_back(context, held).await
    } else {
        slices(context, row, &mut held).await
    };
    let end = worked.unwrap_or_else(|end| end);
    let progressed = held.next_record > row.next_record;
    let span = Span::current();
    span.record("records", held.next_record - row.next_record);
    let release = match end {
        End::Complete => {
            span.record("outcome", "completed");
            tracing::info!(import.id = %row.id, records = held.next_record, "import finished");
            return ended("completed");
        }
        End::RolledBack => {
            span.record("outcome", "rolled_back");
            tracing::info!(import.id = %row.id, "import rolled back");
            return ended("rolled_back");
        }
        // Somebody else holds it, or the user ended it: nothing is ours to give back.
        End::Failed(Error::Fenced) => {
            span.record("outcome", "lost");
            metrics::counter!("idem_import_leases_lost_total").increment(1);
            return;
        }
        End::TimeIsOver => Release::Yield,
        End::EnoughToday => Release::Rest { pause_ms: IMPORT_REST_MS },
        End::Mismatch => Release::SendAgain(mismatch()),
        End::Fault(Fault::Payload(problem)) => Release::Fail(problem),
        End::Fault(Fault::Fetch) => retry(context, row, progressed),
        End::Failed(error) => {
            tracing::warn!(import.id = %row.id, error = error.in_full(), "a slice failed");
            retry(context, row, progressed)
        }
    };
    span.record("outcome", outcome(&release));
    let notification = matches!(release, Release::Yield);
    if let Release::Fail(problem) = &release {
        ended("failed");
        tracing::info!(import.id = %row.id, code = problem.code.name(), "import failed");
    }
    match import_lease::release(&context.store, held, release).await {
        Ok(true) if notification => context.notifier.notify(Notification::Import(row.id)),
        Ok(_) => {}
        // The lease runs out by itself, and the sweeper notifies.
        Err(error) => {
            tracing::warn!(import.id = %row.id, error = error.in_full(), "an import could not be given back")
        }
    }
}

fn outcome(release: &Release) -> &'static str {
    match release {
        Release::Yield => "yielded",
        Release::Retry { .. } => "retried",
        Release::Rest { .. } => "rested",
        Release::SendAgain(_) => "sent_back",
        Release::Fail(_) => "failed",
    }
}

fn mismatch() -> Problem {
    Problem::new(Code::PayloadMismatch, "the payload does not have the announced sha256: send it again")
}

fn no_progress() -> Problem {
    Problem::new(Code::NoProgress, "it failed too often without getting on")
}

/// A passing failure rests and comes back; too many without progress are the end, but not of a rollback.
fn retry<B>(context: &RunnerContext<B>, row: &ImportRow, progressed: bool) -> Release {
    let attempts = if progressed { 1 } else { row.attempts + 1 };
    if attempts >= ATTEMPTS_MAX && row.state != State::RollingBack {
        return Release::Fail(no_progress());
    }
    Release::Retry { pause_ms: retry_pause_ms(attempts, context.store.clock.random()) }
}

/// Takes rows back until none is left or until its time is over while others wait.
async fn roll_back<B: Notifier>(context: &RunnerContext<B>, held: Held) -> Result<End, End> {
    let mut after = None;
    loop {
        let started = Instant::now();
        while started.elapsed().as_millis() < SLICE_MS_MAX {
            if context.shutdown.is_cancelled() {
                return Ok(End::TimeIsOver);
            }
            let chunk = roll_back_chunk(&context.store, &context.notifier, held, after);
            match chunk.await.map_err(failed)? {
                Some(last) => after = Some(last),
                None => return Ok(End::RolledBack),
            }
        }
        if import_lease::is_another_waiting(&context.store, held, &context.limits).await.map_err(failed)? {
            return Ok(End::TimeIsOver);
        }
    }
}

/// Works until the end or until its time is over; while nobody else waits, its time begins anew, so that
/// a payload that cannot be sought is decoded once.
async fn slices<B: Notifier>(
    context: &RunnerContext<B>,
    row: &ImportRow,
    held: &mut Held,
) -> Result<End, End> {
    if had_enough_today(context, row.user_id).await.map_err(failed)? {
        return Ok(End::EnoughToday);
    }
    if row.next_record == 0 && is_to_be_sent_again(context, row, *held).await? {
        // Now, while nobody may send another one: parts of it can have the same names.
        context.payloads.remove(row.user_id, row.id).await.map_err(failed)?;
        return Ok(End::Mismatch);
    }
    let clock = context.store.clock.clone();
    let read = decode::open(&context.payloads, clock, row);
    let mut chunks = SpeculativeChunks::new(&context.store, row, read);
    let mut rejected = row.counts.rejected + row.counts.differing;
    loop {
        let started = Instant::now();
        for _ in 0..SLICE_CHUNKS_MAX {
            if had_enough_today(context, row.user_id).await.map_err(failed)? {
                return Ok(End::EnoughToday);
            }
            let (chunk, verdict) = match alive(context, *held, chunks.next()).await? {
                None => return Ok(End::Fault(Fault::Fetch)),
                Some(Err(fault)) => return Ok(End::Fault(fault)),
                Some(Ok(next)) => next,
            };
            let is_counted = context.limits.records_a_day.is_some();
            let import = Import { held: *held, dry_run: row.dry_run, rejections: rejected, is_counted };
            let applied = apply(context, import, &chunk, verdict).await?;
            *held = applied.held;
            chunks.applied(applied.is_new);
            if chunk.is_last {
                return Ok(End::Complete);
            }
            rejected += applied.counts.rejected + applied.counts.differing;
            if row.is_past_crash(held.next_record) {
                return Ok(End::TimeIsOver);
            }
            if started.elapsed().as_millis() >= SLICE_MS_MAX {
                break;
            }
        }
        if import_lease::is_another_waiting(&context.store, *held, &context.limits).await.map_err(failed)? {
            return Ok(End::TimeIsOver);
        }
    }
}

/// Whether the imports of the user had all the records that a day allows; asked before anything else is done.
async fn had_enough_today<B>(context: &RunnerContext<B>, user_id: Uuid) -> Result<bool, Error> {
    let Some(most) = context.limits.records_a_day else {
        return Ok(false);
    };
    Ok(import_lease::records_of_day(&context.store, user_id).await? >= most)
}

/// Waits for something that takes long, with heartbeats; a shutdown ends the wait.
async fn alive<B, T>(
    context: &RunnerContext<B>,
    held: Held,
    something: impl Future<Output = T>,
) -> Result<T, End> {
    tokio::pin!(something);
    loop {
        tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return Err(End::TimeIsOver),
            outcome = &mut something => return Ok(outcome),
            () = tokio::time::sleep(SIGN_OF_LIFE_EVERY) => {}
        }
        import_lease::renew(&context.store, held, LEASE_TTL_MS).await.map_err(failed)?;
    }
}

fn failed(error: Error) -> End {
    match error {
        Error::Payload(object_store::Error::NotFound { .. }) => End::Fault(SourceError::Gone.into()),
        Error::PayloadChanged => End::Fault(SourceError::Changed.into()),
        other => End::Failed(other),
    }
}

async fn apply<B: Notifier>(
    context: &RunnerContext<B>,
    import: Import,
    chunk: &Chunk,
    verdict: Option<Verdict>,
) -> Result<Applied, End> {
    let started = Instant::now();
    let applied = apply_or_refuse(context, import, chunk, verdict).await?;
    metrics::histogram!("idem_import_chunk_seconds").record(started.elapsed().as_secs_f64());
    for (outcome, count) in [
        ("inserted", applied.counts.inserted),
        ("duplicate", applied.counts.duplicates),
        ("differing", applied.counts.differing),
        ("deleted", applied.counts.deleted),
        ("rejected", applied.counts.rejected),
    ] {
        metrics::counter!("idem_import_records_total", "outcome" => outcome)
            .increment(u64::try_from(count).unwrap_or_default());
    }
    Ok(applied)
}

/// Applies a chunk. If that panics, the records that panic are refused, and the others applied. What PostgreSQL ends for
/// the sake of another transaction is tried once more.
async fn apply_or_refuse<B: Notifier>(
    context: &RunnerContext<B>,
    import: Import,
    chunk: &Chunk,
    verdict: Option<Verdict>,
) -> Result<Applied, End> {
    let attempt = async |verdict, poison| {
        let applied = apply_chunk(&context.store, &context.notifier, import, chunk, verdict, poison);
        AssertUnwindSafe(applied).catch_unwind().await
    };
    let again = async |poison| {
        let applied = attempt(None, poison).await;
        applied.unwrap_or(Err(Error::Bug("a chunk panicked"))).map_err(failed)
    };
    match attempt(verdict, &BTreeSet::new()).await {
        Ok(Err(error)) if error.is_conflict() => again(&BTreeSet::new()).await,
        Ok(applied) => applied.map_err(failed),
        Err(_) => {
            let poison = find_poison(&context.store, import, chunk);
            let poison = alive(context, import.held, poison).await?.map_err(failed)?;
            tracing::error!(import.id = %import.held.id, records = poison.len(), "records panic and are refused");
            again(&poison).await
        }
    }
}

/// Whether the payload does not have the announced digest. The row says so before anything is removed: a worker that
/// takes the import up after a crash goes on with the removal.
async fn is_to_be_sent_again<B>(
    context: &RunnerContext<B>,
    row: &ImportRow,
    held: Held,
) -> Result<bool, End> {
    if row.problem.as_ref().is_some_and(|problem| problem.code == Code::PayloadMismatch) {
        return Ok(true);
    }
    if alive(context, held, is_as_announced(context, row)).await?.map_err(failed)? {
        return Ok(false);
    }
    import_lease::note(&context.store, held, &mismatch()).await.map_err(failed)?;
    Ok(true)
}

/// Whether the payload has the announced digest; asked before the first record.
async fn is_as_announced<B>(context: &RunnerContext<B>, row: &ImportRow) -> Result<bool, Error> {
    let Some(announced) = &row.sha256 else {
        return Ok(true);
    };
    let size = u64::try_from(row.bytes_total).unwrap_or_default();
    let mut bytes = context.payloads.read(row.user_id, row.id, &row.payload_objects, 0, size);
    let mut digest = Sha256::new();
    while let Some(piece) = bytes.next().await {
        digest.update(&piece?);
    }
    Ok(digest.finalize().as_slice() == announced.as_slice())
}
