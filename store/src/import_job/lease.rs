//! Does the steps of a worker: it claims an import, moves its checkpoint, and releases it.
//!
//! Each step is guarded by state, lease epoch and checkpoint. So a worker can write nothing once another
//! worker has claimed the import, or its user has paused or ended it.

use std::collections::HashSet;
use std::time::Duration;

use ::entity::import_job::{Column, Entity, Model};
use sea_orm::sea_query::{Expr, Func, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QuerySelect, UpdateMany,
};
use tokio::time::sleep;
use uuid::Uuid;

use super::due::has_lease_condition;
use super::{
    WORKED_ON, build_import_update, count_in_transaction, find_in_transaction, problem_to_json,
    run_guarded_update, runnable_condition, select_of_user, state_value, to_import_row,
};
use crate::error::Error;
use crate::{Store, Tx, dialect};
use domain::fault_injection;
use domain::import::{Counts, ImportRow, State};
use domain::limits::{CHUNK_RECORDS_MAX, ImportLimits, UPLOAD_TTL_MS};
use domain::problem::{Code, Problem};

/// How often a claim is tried, while another claim of the same user is under way or the import is locked.
const CLAIM_ATTEMPTS: u32 = 10;
/// The most waiting imports that are read to find out whether one of them could run now.
const WAITING_USERS_MAX: u64 = 100;
/// The pause between two attempts to claim.
const CLAIM_PAUSE: Duration = Duration::from_millis(30);

/// Takes the lease of a runnable import. Returns `None` if the import is not runnable, if its user has as
/// many running as `limits` allow, or if its row stays locked (then the sweeper notifies again). An import on
/// which workers have crashed too often is failed instead, and the result is `None` too.
///
/// Claims of one user exclude each other, because otherwise two claims at once would not count each other.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn claim(
    store: &Store,
    user_id: Uuid,
    id: Uuid,
    owner: &str,
    limits: &ImportLimits,
    lease_ttl_ms: i64,
) -> Result<Option<ImportRow>, Error> {
    for _ in 0..CLAIM_ATTEMPTS {
        let tx = store.begin().await?;
        if dialect::try_advisory_lock_for_claims(&tx, user_id).await? {
            let open = select_of_user(user_id, Some(&WORKED_ON)).filter(Column::Id.eq(id));
            let open = open.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
            if let Some(model) = tx.find_all(&open).await?.into_iter().next() {
                return claim_locked_import(tx, model, owner, limits, lease_ttl_ms).await;
            }
            if !needs_worker(&tx, user_id, id).await? {
                return Ok(None);
            }
        }
        tx.roll_back().await?;
        sleep(CLAIM_PAUSE).await;
    }
    Ok(None)
}

/// Whether the import exists and is in a state that workers work on, whether or not its row is locked.
async fn needs_worker(tx: &Tx, user_id: Uuid, id: Uuid) -> Result<bool, Error> {
    let open = select_of_user(user_id, Some(&WORKED_ON)).filter(Column::Id.eq(id));
    Ok(count_in_transaction(tx, open).await? > 0)
}

/// Claims an import whose row `tx` has locked, while no other claim of its user is under way, and commits.
async fn claim_locked_import(
    tx: Tx,
    model: Model,
    owner: &str,
    limits: &ImportLimits,
    lease_ttl_ms: i64,
) -> Result<Option<ImportRow>, Error> {
    let (user_id, id) = (model.user_id, model.id);
    let backend = tx.backend();
    let now = || dialect::now_ms_expr(backend);
    let others = select_of_user(user_id, Some(&WORKED_ON))
        .filter(Column::Id.ne(id))
        .filter(has_lease_condition(backend));
    if count_in_transaction(&tx, others).await? >= limits.running_max {
        return Ok(None);
    }
    // A worker that releases an import clears `lease_until`. If it is set, the last lease holder has crashed.
    let after_crash = model.lease_until.is_some();
    let import = to_import_row(model)?.count_crash_maybe_shrink_chunks(after_crash);
    if import.is_in_crash_loop() {
        fail_hopeless_import(&tx, &import).await?;
        tx.commit().await?;
        return Ok(None);
    }
    let state = if import.state == State::RollingBack { State::RollingBack } else { State::Running };
    let update = build_import_update(user_id, id)
        .col_expr(Column::CrashCount, import.crash_count.into())
        .col_expr(Column::ChunkRecords, import.chunk_records.into())
        .col_expr(Column::SmallChunksUntil, import.small_chunks_until.into())
        .col_expr(Column::State, state_value(state))
        .col_expr(Column::LeaseEpoch, Expr::col(Column::LeaseEpoch).add(1))
        .col_expr(Column::LeaseOwner, Expr::value(owner))
        .col_expr(Column::LeaseUntil, now().add(lease_ttl_ms))
        .col_expr(Column::StartedAt, Func::coalesce([Expr::col(Column::StartedAt), now()]).into())
        .filter(runnable_condition(backend));
    let is_claimed = run_guarded_update(&tx, update).await?;
    let row = if is_claimed { find_in_transaction(&tx, user_id, id).await? } else { None };
    tx.commit().await?;
    if row.is_some() && after_crash {
        metrics::counter!("idem_import_crashes_total").increment(1);
    }
    Ok(row)
}

/// Sets an import to `FAILED`, because every worker has crashed on it without making progress.
async fn fail_hopeless_import(tx: &Tx, import: &ImportRow) -> Result<(), Error> {
    let detail = "every worker crashed on this import before it made progress; retry it later, or send its \
        records in smaller files";
    let problem = Problem::new(Code::NoProgress, detail);
    let update = build_import_update(import.user_id, import.id)
        .col_expr(Column::State, state_value(State::Failed))
        .col_expr(Column::CrashCount, import.crash_count.into())
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .col_expr(Column::Problem, Expr::value(problem_to_json(&problem)))
        .col_expr(Column::FinishedAt, dialect::now_ms_expr(tx.backend()))
        .filter(runnable_condition(tx.backend()));
    if run_guarded_update(tx, update).await? {
        tracing::warn!(import.id = %import.id, "an import has ended because every worker crashed on it");
        metrics::counter!("idem_imports_finished_total", "state" => "failed").increment(1);
    }
    Ok(())
}

/// An import whose lease a worker holds, as the worker knows it. Every step of the worker is guarded by these
/// values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The user who owns the import.
    pub user_id: Uuid,
    /// The id of the import.
    pub id: Uuid,
    /// Either `RUNNING` or `ROLLING_BACK`.
    pub state: State,
    /// The fencing token: each claim increments it.
    pub lease_epoch: i64,
    /// The checkpoint: how many records are done.
    pub next_record: i64,
}

impl From<&ImportRow> for Held {
    fn from(row: &ImportRow) -> Self {
        Self {
            user_id: row.user_id,
            id: row.id,
            state: row.state,
            lease_epoch: row.lease_epoch,
            next_record: row.next_record,
        }
    }
}

/// Builds an UPDATE of an import that will change nothing if the worker no longer holds the lease, or the
/// checkpoint has moved.
fn build_fenced_update(held: Held) -> UpdateMany<Entity> {
    if fault_injection::is_injected("plant-no-fence") {
        return build_import_update(held.user_id, held.id);
    }
    build_import_update(held.user_id, held.id)
        .filter(Column::State.eq(held.state.name()))
        .filter(Column::LeaseEpoch.eq(held.lease_epoch))
        .filter(Column::NextRecord.eq(held.next_record))
}

/// The place in the payload of an import up to which its records are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many records of the payload come before it.
    pub next_record: i64,
    /// Its byte offset in the decoded payload.
    pub next_byte: i64,
    /// How many lines come before it, if the format has lines.
    pub next_line: i64,
    /// How many bytes of the payload, as it was sent, the decoder has read.
    pub bytes_processed: i64,
}

/// Moves the checkpoint and renews the lease within `tx`. It must be the first statement in the transaction
/// of a chunk, and takes effect only if the chunk is committed.
///
/// # Errors
/// [`Error::Fenced`] if the worker no longer holds the lease; [`Error::Database`] if the database fails.
pub async fn advance_checkpoint(
    tx: &Tx,
    import: Held,
    next: Checkpoint,
    lease_ttl_ms: i64,
) -> Result<(), Error> {
    // After crashes chunks are small. They get their full size again once the records near the crash are
    // done.
    let is_past_crash = Expr::col(Column::SmallChunksUntil).lte(next.next_record);
    let full_size = i32::try_from(CHUNK_RECORDS_MAX).unwrap_or(i32::MAX);
    let update = build_progress_update(tx, import, lease_ttl_ms)
        .col_expr(Column::NextRecord, next.next_record.into())
        .col_expr(Column::NextByte, next.next_byte.into())
        .col_expr(Column::NextLine, next.next_line.into())
        .col_expr(Column::BytesProcessed, next.bytes_processed.into())
        .col_expr(
            Column::ChunkRecords,
            Expr::case(is_past_crash, full_size).finally(Expr::col(Column::ChunkRecords)).into(),
        );
    if run_guarded_update(tx, update).await? { Ok(()) } else { Err(Error::Fenced) }
}

/// Renews the lease within `tx`, but does not move the checkpoint. It must be the first statement in a
/// transaction that rolls events back.
///
/// # Errors
/// As [`advance_checkpoint`].
pub async fn renew_lease_in_transaction(tx: &Tx, import: Held, lease_ttl_ms: i64) -> Result<(), Error> {
    let update = build_progress_update(tx, import, lease_ttl_ms);
    if run_guarded_update(tx, update).await? { Ok(()) } else { Err(Error::Fenced) }
}

/// Builds an UPDATE after progress: it renews the lease, and sets the counts of failures and crashes to 0.
fn build_progress_update(tx: &Tx, import: Held, lease_ttl_ms: i64) -> UpdateMany<Entity> {
    build_fenced_update(import)
        .col_expr(Column::Attempts, Expr::value(0))
        .col_expr(Column::CrashCount, Expr::value(0))
        .col_expr(Column::LeaseUntil, dialect::now_ms_expr(tx.backend()).add(lease_ttl_ms))
}

/// Sets an import to `ROLLED_BACK` and ends its lease, because no event is left to roll back.
///
/// # Errors
/// As [`advance_checkpoint`], and [`Error::Busy`] if no connection is free in time.
pub async fn finish_rollback(store: &Store, import: Held) -> Result<(), Error> {
    let tx = store.begin().await?;
    let update = build_fenced_update(import)
        .col_expr(Column::State, state_value(State::RolledBack))
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .col_expr(Column::FinishedAt, dialect::now_ms_expr(tx.backend()));
    let done = run_guarded_update(&tx, update).await?;
    tx.commit().await?;
    if done { Ok(()) } else { Err(Error::Fenced) }
}

/// Adds to the counts of an import whose checkpoint this transaction has moved. With `is_last` it also sets
/// the import to `COMPLETED`.
///
/// # Errors
/// As [`advance_checkpoint`].
pub async fn add_counts_and_maybe_complete(
    tx: &Tx,
    import: Held,
    counts: Counts,
    is_last: bool,
) -> Result<(), Error> {
    let plus = |column: Column, add: i64| Expr::col(column).add(add);
    let mut update = build_fenced_update(import)
        .col_expr(Column::CountInserted, plus(Column::CountInserted, counts.inserted))
        .col_expr(Column::CountDuplicates, plus(Column::CountDuplicates, counts.duplicates))
        .col_expr(Column::CountDiffering, plus(Column::CountDiffering, counts.differing))
        .col_expr(Column::CountDeleted, plus(Column::CountDeleted, counts.deleted))
        .col_expr(Column::CountRejected, plus(Column::CountRejected, counts.rejected));
    if is_last {
        update = update
            .col_expr(Column::State, state_value(State::Completed))
            .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
            .col_expr(Column::RecordsTotal, import.next_record.into())
            .col_expr(Column::BytesProcessed, Expr::col(Column::BytesTotal))
            .col_expr(Column::Problem, Expr::value(None::<String>))
            .col_expr(Column::FinishedAt, dialect::now_ms_expr(tx.backend()));
    }
    if run_guarded_update(tx, update).await? { Ok(()) } else { Err(Error::Fenced) }
}

/// Why a worker releases an import, and what becomes of it.
#[derive(Debug, Clone)]
pub enum Release {
    /// The slice is over. The import is queued again, from its checkpoint.
    Yield,
    /// A temporary failure. The import is queued again after a pause, and the failure counts.
    Retry {
        /// The pause in milliseconds.
        pause_ms: i64,
    },
    /// The user has used up the daily allowance of records. The import is queued again after a pause, and no
    /// failure counts.
    AllowanceUsedUp {
        /// The pause in milliseconds.
        pause_ms: i64,
    },
    /// The payload is not the announced one. The import awaits its payload again.
    SendAgain(Problem),
    /// The import can never succeed. It ends as `FAILED`.
    Fail(Problem),
}

/// Ends the lease before the import is done, and sets the state that `release` says. Returns false and
/// changes nothing if another worker has claimed it or the user has paused or ended it.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn release(store: &Store, import: Held, release: Release) -> Result<bool, Error> {
    let tx = store.begin().await?;
    let mut update = build_fenced_update(import).col_expr(Column::LeaseUntil, Expr::value(None::<i64>));
    // An import that is being rolled back stays in that state until the rollback is done.
    let waiting = if import.state == State::Running { State::Queued } else { import.state };
    let from_now = |pause_ms: i64| dialect::now_ms_expr(tx.backend()).add(pause_ms);
    update = match release {
        Release::Yield => update.col_expr(Column::State, state_value(waiting)),
        Release::Retry { pause_ms } => update
            .col_expr(Column::State, state_value(waiting))
            .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
            .col_expr(Column::NotBefore, from_now(pause_ms)),
        Release::AllowanceUsedUp { pause_ms } => update
            .col_expr(Column::State, state_value(waiting))
            .col_expr(Column::NotBefore, from_now(pause_ms)),
        Release::SendAgain(problem) => update
            .col_expr(Column::State, state_value(State::AwaitingUpload))
            // The client gets the full time for a new upload, because the first one may have arrived a day
            // ago.
            .col_expr(Column::UploadExpiresAt, from_now(UPLOAD_TTL_MS))
            .col_expr(Column::BytesReceived, Expr::value(0_i64))
            .col_expr(Column::PayloadObjects, Expr::value(""))
            .col_expr(Column::Problem, Expr::value(problem_to_json(&problem))),
        Release::Fail(problem) => update
            .col_expr(Column::State, state_value(State::Failed))
            .col_expr(Column::Problem, Expr::value(problem_to_json(&problem)))
            .col_expr(Column::FinishedAt, dialect::now_ms_expr(tx.backend())),
    };
    let done = run_guarded_update(&tx, update).await?;
    tx.commit().await?;
    Ok(done)
}

/// Stores a problem with an import, which stays in its state and keeps its lease.
///
/// # Errors
/// As [`renew_lease`].
pub async fn record_problem(store: &Store, import: Held, problem: &Problem) -> Result<(), Error> {
    let tx = store.begin().await?;
    let update = build_fenced_update(import).col_expr(Column::Problem, Expr::value(problem_to_json(problem)));
    let done = run_guarded_update(&tx, update).await?;
    tx.commit().await?;
    if done { Ok(()) } else { Err(Error::Fenced) }
}

/// Renews the lease in a transaction of its own, while the worker decodes the payload up to the checkpoint.
///
/// # Errors
/// [`Error::Fenced`] if the worker no longer holds the lease; [`Error::Busy`] if no connection is free in
/// time; [`Error::Database`] if the database fails.
pub async fn renew_lease(store: &Store, import: Held, lease_ttl_ms: i64) -> Result<(), Error> {
    let tx = store.begin().await?;
    let until = dialect::now_ms_expr(tx.backend()).add(lease_ttl_ms);
    let update = build_fenced_update(import).col_expr(Column::LeaseUntil, until);
    let done = run_guarded_update(&tx, update).await?;
    tx.commit().await?;
    if done { Ok(()) } else { Err(Error::Fenced) }
}

/// Whether another import could run if the worker yielded this one. Such an import is runnable, and its user
/// has fewer running than `limits` allow. An import that waits for this one to end does not count.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn is_another_import_waiting(
    store: &Store,
    import: Held,
    limits: &ImportLimits,
) -> Result<bool, Error> {
    let backend = store.backend();
    let other = Condition::any().add(Column::UserId.ne(import.user_id)).add(Column::Id.ne(import.id));
    let waiting = Entity::find().filter(runnable_condition(backend)).filter(other).limit(WAITING_USERS_MAX);
    let users: HashSet<Uuid> = waiting
        .select_only()
        .column(Column::UserId)
        .distinct()
        .into_tuple::<Uuid>()
        .all(store.reader())
        .await?
        .into_iter()
        .collect();
    for user_id in users {
        let running = select_of_user(user_id, Some(&WORKED_ON)).filter(has_lease_condition(backend));
        if running.count(store.reader()).await? < limits.running_max {
            return Ok(true);
        }
    }
    Ok(false)
}
