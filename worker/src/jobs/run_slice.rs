//! Runs a slice of an import: claims its lease, applies some chunks of its payload, and releases it.
//!
//! A worker may crash at any point, and every record still counts once. The rows of a chunk and the
//! checkpoint are stored in one transaction, which the lease epoch fences: a worker that has lost its lease
//! stores nothing.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use domain::import::{ImportRow, State, retry_pause_ms};
use domain::limits::{
    ATTEMPTS_MAX, IMPORT_PAUSE_MS, ImportLimits, LEASE_TTL_MS, SLICE_CHUNKS_MAX, SLICE_MS_MAX,
};
use domain::problem::{Code, Problem};
use formats::SourceError;
use futures::FutureExt;
use service::Error;
use service::Payloads;
use service::Store;
use service::apply_chunk::{
    Applied, Chunk, Import, SpeculativeDecision, apply_chunk, find_panicking_records,
};
use service::import_lease::{self, Held, Release};
use service::notifier::{Notification, Notifier};
use service::roll_back_chunk::roll_back_chunk;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::decode::{self, DecodeError};
use super::digest::{check_digest_and_record_mismatch, digest_mismatch_problem};
use super::observe::{InFlight, count_finished_import, count_record_outcomes, new_slice_span};
use super::speculative::{NextChunk, SpeculativeChunks};

/// How often the lease of an import is renewed while nothing is stored: three times within its duration.
const RENEW_EVERY: Duration = Duration::from_millis(LEASE_TTL_MS.unsigned_abs() / 3);

/// What a process needs to run slices of imports. All its slices share it.
#[derive(Debug, Clone)]
pub struct RunnerContext<N> {
    /// The database.
    pub store: Store,
    /// The object store with the payloads of imports.
    pub payloads: Payloads,
    /// Notifies workers of an import that was released before its end, and feed readers of new positions.
    pub notifier: N,
    /// The name of this process. It is stored with the lease, for people who read the row.
    pub owner: String,
    /// The limits for the imports of one user.
    pub limits: ImportLimits,
    /// Ends slices early when it is cancelled.
    pub shutdown: CancellationToken,
}

/// Why a slice of an import ended.
pub(super) enum SliceEnd {
    /// The last chunk was applied: all records have their outcome.
    Completed,
    /// The rollback is complete: all events of the import that were not changed since are deleted.
    RolledBack,
    /// Another import waits, the process shuts down, or the chunks get their normal size again.
    TimeUp,
    /// The user has reached the daily limit of records.
    DailyLimit,
    /// The payload could not be read to its end: it is unreadable for good, or could not be fetched now.
    DecodeFailed(DecodeError),
    /// A step failed, for example in the database, or the lease was lost ([`Error::Fenced`]).
    Failed(Error),
    /// The payload does not have the announced digest. Its objects are removed already.
    DigestMismatch,
}

/// Claims each runnable import with this id and runs a slice of it, one after the other. A notification does
/// not name the user, and ids are unique only within a user. Errors are logged, and the sweeper notifies
/// again.
pub async fn run_slice<N: Notifier>(context: &RunnerContext<N>, import_id: Uuid) {
    let owners = match import_lease::find_owners_of_active_import(&context.store, import_id).await {
        Ok(owners) => owners,
        Err(error) => {
            let error = error.to_string_with_cause();
            tracing::warn!(import.id = %import_id, error, "an import could not be looked up");
            return;
        }
    };
    for user_id in owners {
        let claimed = import_lease::claim(
            &context.store, user_id, import_id, &context.owner, &context.limits, LEASE_TTL_MS,
        );
        match claimed.await {
            Ok(Some(row)) => {
                let _in_flight = InFlight::new_in_flight_guard();
                run_claimed_slice(context, &row).instrument(new_slice_span(&row)).await;
            }
            Ok(None) => {}
            Err(error) => {
                let error = error.to_string_with_cause();
                tracing::warn!(import.id = %import_id, error, "an import could not be claimed");
            }
        }
    }
}

/// Runs a slice of an import whose lease was claimed, and releases the lease.
async fn run_claimed_slice<N: Notifier>(context: &RunnerContext<N>, row: &ImportRow) {
    let mut held = Held::from(row);
    let worked = if row.state == State::RollingBack {
        roll_back_chunks(context, held).await
    } else {
        apply_chunks(context, row, &mut held).await
    };
    let end = worked.unwrap_or_else(|end| end);
    let has_progressed = held.next_record > row.next_record;
    let span = Span::current();
    span.record("records", held.next_record - row.next_record);
    let release = match end {
        SliceEnd::Completed => {
            span.record("outcome", "completed");
            tracing::info!(import.id = %row.id, records = held.next_record, "import finished");
            return count_finished_import("completed");
        }
        SliceEnd::RolledBack => {
            span.record("outcome", "rolled_back");
            tracing::info!(import.id = %row.id, "import rolled back");
            return count_finished_import("rolled_back");
        }
        // Another worker holds the lease, or the user ended the import: there is nothing to release.
        SliceEnd::Failed(Error::Fenced) => {
            span.record("outcome", "lost");
            metrics::counter!("idem_import_leases_lost_total").increment(1);
            return;
        }
        SliceEnd::TimeUp => Release::Yield,
        SliceEnd::DailyLimit => Release::AllowanceUsedUp { pause_ms: IMPORT_PAUSE_MS },
        SliceEnd::DigestMismatch => Release::SendAgain(digest_mismatch_problem()),
        SliceEnd::DecodeFailed(DecodeError::Unreadable(problem)) => Release::Fail(problem),
        SliceEnd::DecodeFailed(DecodeError::Unavailable) => {
            choose_release_after_failure(context, row, has_progressed)
        }
        SliceEnd::Failed(error) => {
            tracing::warn!(import.id = %row.id, error = error.to_string_with_cause(), "a slice failed");
            choose_release_after_failure(context, row, has_progressed)
        }
    };
    span.record("outcome", span_outcome_of_release(&release));
    let must_notify = matches!(release, Release::Yield);
    if let Release::Fail(problem) = &release {
        count_finished_import("failed");
        tracing::info!(import.id = %row.id, code = problem.code.name(), "import failed");
    }
    match import_lease::release(&context.store, held, release).await {
        Ok(true) if must_notify => context.notifier.notify(Notification::Import(row.id)),
        Ok(_) => {}
        // The lease expires by itself, and then the sweeper notifies.
        Err(error) => {
            let error = error.to_string_with_cause();
            tracing::warn!(import.id = %row.id, error, "an import could not be released");
        }
    }
}

/// The value of the span field `outcome` for a slice that ends with this release.
fn span_outcome_of_release(release: &Release) -> &'static str {
    match release {
        Release::Yield => "yielded",
        Release::Retry { .. } => "retried",
        Release::AllowanceUsedUp { .. } => "rested",
        Release::SendAgain(_) => "sent_back",
        Release::Fail(_) => "failed",
    }
}

fn no_progress_problem() -> Problem {
    Problem::new(
        Code::NoProgress,
        format!("the import failed {ATTEMPTS_MAX} times without progress: retry it later"),
    )
}

/// Chooses how to release an import whose slice failed: it is queued again after a pause, or fails after too
/// many attempts without progress. A rollback never fails.
fn choose_release_after_failure<N>(
    context: &RunnerContext<N>,
    row: &ImportRow,
    has_progressed: bool,
) -> Release {
    let attempts = if has_progressed { 1 } else { row.attempts + 1 };
    if attempts >= ATTEMPTS_MAX && row.state != State::RollingBack {
        return Release::Fail(no_progress_problem());
    }
    Release::Retry { pause_ms: retry_pause_ms(attempts, context.store.clock.random_i64()) }
}

/// Rolls back the events of an import until none are left, the process shuts down, or the time of the slice
/// is up and another import waits.
async fn roll_back_chunks<N: Notifier>(context: &RunnerContext<N>, held: Held) -> Result<SliceEnd, SliceEnd> {
    let mut after = None;
    loop {
        let started = Instant::now();
        while started.elapsed().as_millis() < SLICE_MS_MAX {
            if context.shutdown.is_cancelled() {
                return Ok(SliceEnd::TimeUp);
            }
            let chunk = roll_back_chunk(&context.store, &context.notifier, held, after);
            match chunk.await.map_err(to_slice_end)? {
                Some(last) => after = Some(last),
                None => return Ok(SliceEnd::RolledBack),
            }
        }
        if import_lease::is_another_import_waiting(&context.store, held, &context.limits)
            .await
            .map_err(to_slice_end)?
        {
            return Ok(SliceEnd::TimeUp);
        }
    }
}

/// Applies chunks until the payload ends, or until the time of the slice is up and another import waits.
///
/// While none waits, the slice starts over without reopening the payload. Otherwise a payload that does not
/// support seeking would be decoded from its beginning in every slice.
async fn apply_chunks<N: Notifier>(
    context: &RunnerContext<N>,
    row: &ImportRow,
    held: &mut Held,
) -> Result<SliceEnd, SliceEnd> {
    if has_reached_daily_limit(context, row.user_id).await.map_err(to_slice_end)? {
        return Ok(SliceEnd::DailyLimit);
    }
    if row.next_record == 0 && check_digest_and_record_mismatch(context, row, *held).await? {
        // Before the lease is released: after that another payload may be uploaded, and its objects can have
        // the same names.
        context.payloads.remove_payload(row.user_id, row.id).await.map_err(to_slice_end)?;
        return Ok(SliceEnd::DigestMismatch);
    }
    let clock = context.store.clock.clone();
    let decoded = decode::start_payload_decoder(&context.payloads, clock, row);
    // With a daily limit, each chunk is counted before the next one begins.
    let is_counted = context.limits.records_a_day.is_some();
    let mut chunks = SpeculativeChunks::new(&context.store, row, decoded, !is_counted);
    let mut rejections = row.counts.rejected + row.counts.differing;
    loop {
        let started = Instant::now();
        for _ in 0..SLICE_CHUNKS_MAX {
            if has_reached_daily_limit(context, row.user_id).await.map_err(to_slice_end)? {
                return Ok(SliceEnd::DailyLimit);
            }
            let next = match await_renewing_lease(context, *held, chunks.next_chunk()).await? {
                None => return Ok(SliceEnd::DecodeFailed(DecodeError::Unavailable)),
                Some(Err(error)) => return Ok(SliceEnd::DecodeFailed(error)),
                Some(Ok(next)) => next,
            };
            let import = Import { held: *held, dry_run: row.dry_run, rejections, is_counted };
            let NextChunk { chunk, decision } = next;
            let mut applied = apply_and_measure_chunk(context, import, &chunk, decision).await?;
            *held = applied.held;
            chunks.adjust_assumption_after_chunk(&mut applied);
            if chunk.is_last {
                return Ok(SliceEnd::Completed);
            }
            rejections += applied.counts.rejected + applied.counts.differing;
            // The next claim gives the import chunks of the normal size again.
            if row.can_restore_chunk_size(held.next_record) {
                return Ok(SliceEnd::TimeUp);
            }
            if started.elapsed().as_millis() >= SLICE_MS_MAX {
                break;
            }
        }
        if import_lease::is_another_import_waiting(&context.store, *held, &context.limits)
            .await
            .map_err(to_slice_end)?
        {
            return Ok(SliceEnd::TimeUp);
        }
    }
}

/// Whether the imports of the user have taken, in the present hour and the 23 hours before it, all the records
/// that the limit allows. `false` if there is no limit.
async fn has_reached_daily_limit<N>(context: &RunnerContext<N>, user_id: Uuid) -> Result<bool, Error> {
    let Some(most) = context.limits.records_a_day else {
        return Ok(false);
    };
    Ok(import_lease::count_records_of_last_day(&context.store, user_id).await? >= most)
}

/// Waits for a future that may take long, and renews the lease in the meantime. A shutdown or the loss of the
/// lease ends the wait with an error.
pub(super) async fn await_renewing_lease<N, T>(
    context: &RunnerContext<N>,
    held: Held,
    future: impl Future<Output = T>,
) -> Result<T, SliceEnd> {
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return Err(SliceEnd::TimeUp),
            output = &mut future => return Ok(output),
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
        import_lease::renew_lease(&context.store, held, LEASE_TTL_MS).await.map_err(to_slice_end)?;
    }
}

pub(super) fn to_slice_end(error: Error) -> SliceEnd {
    match error {
        Error::Payload(object_store::Error::NotFound { .. }) => {
            SliceEnd::DecodeFailed(SourceError::Gone.into())
        }
        Error::PayloadChanged => SliceEnd::DecodeFailed(SourceError::Changed.into()),
        other => SliceEnd::Failed(other),
    }
}

/// Applies a chunk and records its metrics.
async fn apply_and_measure_chunk<N: Notifier>(
    context: &RunnerContext<N>,
    import: Import,
    chunk: &Chunk,
    decision: Option<SpeculativeDecision>,
) -> Result<Applied, SliceEnd> {
    let started = Instant::now();
    let applied = apply_chunk_rejecting_poison(context, import, chunk, decision).await?;
    metrics::histogram!("idem_import_chunk_seconds").record(started.elapsed().as_secs_f64());
    count_record_outcomes(&applied);
    Ok(applied)
}

/// Applies a chunk. If that panics, the records that panic are found and rejected, and the others are
/// applied. If PostgreSQL ends the transaction because of another one, the chunk is applied once more. A
/// decision that has nothing to store may include earlier chunks, so the second attempt keeps it. If applying
/// such a decision panics, that is [`Error::Bug`], because no record of it is decided again.
async fn apply_chunk_rejecting_poison<N: Notifier>(
    context: &RunnerContext<N>,
    import: Import,
    chunk: &Chunk,
    decision: Option<SpeculativeDecision>,
) -> Result<Applied, SliceEnd> {
    let attempt = async |decision, poison| {
        let applied = apply_chunk(&context.store, &context.notifier, import, chunk, decision, poison);
        AssertUnwindSafe(applied).catch_unwind().await
    };
    let again = async |decision, poison| {
        let applied = attempt(decision, poison).await;
        applied.unwrap_or(Err(Error::Bug("a chunk panicked"))).map_err(to_slice_end)
    };
    let decided = match &decision {
        Some(SpeculativeDecision::NothingToStore(decided)) => Some(decided.clone()),
        Some(SpeculativeDecision::AllNew(..)) | None => None,
    };
    let none = BTreeSet::new();
    match attempt(decision, &none).await {
        Ok(Err(error)) if error.is_transaction_conflict() => {
            again(decided.map(SpeculativeDecision::NothingToStore), &none).await
        }
        Ok(applied) => applied.map_err(to_slice_end),
        Err(_) if decided.is_some() => {
            Err(to_slice_end(Error::Bug("a chunk with nothing to store does not panic")))
        }
        Err(_) => {
            let poison = find_panicking_records(&context.store, import, chunk);
            let poison = await_renewing_lease(context, import.held, poison).await?.map_err(to_slice_end)?;
            let (id, records) = (import.held.id, poison.len());
            tracing::error!(import.id = %id, records, "records of a chunk panicked and are rejected");
            again(None, &poison).await
        }
    }
}
