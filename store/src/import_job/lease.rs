//! The steps of whoever works on an import: claim it, move its checkpoint, give it back. Each is guarded by
//! state, lease epoch and checkpoint, so that a worker that lost its lease can write nothing.

use std::collections::HashSet;
use std::time::Duration;

use ::entity::import_job::{Column, Entity, Model};
use sea_orm::sea_query::{Expr, Func, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QuerySelect, UpdateMany,
};
use tokio::time::sleep;
use uuid::Uuid;

use super::due::living_lease;
use super::{WORKED_ON, find_within, happened, of_user, one, row, runnable, to, write_problem};
use crate::error::Error;
use crate::{Store, Tx, dialect};
use domain::fault_injection;
use domain::import::{Counts, ImportRow, State};
use domain::limits::{CHUNK_RECORDS_MAX, ImportLimits, UPLOAD_TTL_MS};
use domain::problem::{Code, Problem};

/// Attempts to claim an import while another claim of the same user is under way, or its row is locked.
const CLAIM_ATTEMPTS: u32 = 10;
/// Users with waiting imports who are looked at before an import goes on.
const WAITING_USERS_MAX: u64 = 100;
/// Between two attempts to claim.
const CLAIM_PAUSE: Duration = Duration::from_millis(30);

/// Takes the lease of an import that is runnable, unless its user has too many running. Claims of one user exclude
/// each other, so that they count each other. A row that somebody else holds is not waited for: the sweeper notifies
/// again.
///
/// # Errors
/// When the database fails.
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
        if dialect::excludes_others(&tx.inner, user_id).await? {
            let open = of_user(user_id, Some(&WORKED_ON)).filter(Column::Id.eq(id));
            let open = open.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
            if let Some(model) = open.one(&tx.inner).await? {
                return claim_locked(tx, model, owner, limits, lease_ttl_ms).await;
            }
            if !is_open(&tx, user_id, id).await? {
                return Ok(None);
            }
        }
        tx.release().await?;
        sleep(CLAIM_PAUSE).await;
    }
    Ok(None)
}

async fn is_open(tx: &Tx, user_id: Uuid, id: Uuid) -> Result<bool, Error> {
    let open = of_user(user_id, Some(&WORKED_ON)).filter(Column::Id.eq(id));
    Ok(open.count(&tx.inner).await? > 0)
}

/// Claims an import whose row this transaction holds, while no other claim of its user is under way.
async fn claim_locked(
    tx: Tx,
    model: Model,
    owner: &str,
    limits: &ImportLimits,
    lease_ttl_ms: i64,
) -> Result<Option<ImportRow>, Error> {
    let (user_id, id) = (model.user_id, model.id);
    let backend = tx.backend();
    let now = || dialect::now_ms(backend);
    let others = of_user(user_id, Some(&WORKED_ON)).filter(Column::Id.ne(id)).filter(living_lease(backend));
    if others.count(&tx.inner).await? >= limits.running_max {
        return Ok(None);
    }
    let after_crash = model.lease_until.is_some();
    let taken = row(model)?.claimed(after_crash);
    if taken.is_hopeless() {
        end_hopeless(&tx, &taken).await?;
        tx.commit().await?;
        return Ok(None);
    }
    let state = if taken.state == State::RollingBack { State::RollingBack } else { State::Running };
    let update = one(user_id, id)
        .col_expr(Column::CrashCount, taken.crash_count.into())
        .col_expr(Column::ChunkRecords, taken.chunk_records.into())
        .col_expr(Column::SmallChunksUntil, taken.small_chunks_until.into())
        .col_expr(Column::State, to(state))
        .col_expr(Column::LeaseEpoch, Expr::col(Column::LeaseEpoch).add(1))
        .col_expr(Column::LeaseOwner, Expr::value(owner))
        .col_expr(Column::LeaseUntil, now().add(lease_ttl_ms))
        .col_expr(Column::StartedAt, Func::coalesce([Expr::col(Column::StartedAt), now()]).into())
        .filter(runnable(backend));
    let claimed = happened(update, &tx.inner).await?;
    let row = if claimed { find_within(&tx, user_id, id).await? } else { None };
    tx.commit().await?;
    if row.is_some() && after_crash {
        metrics::counter!("idem_import_crashes_total").increment(1);
    }
    Ok(row)
}

/// Ends an import that killed every worker before one of them had stored anything.
async fn end_hopeless(tx: &Tx, import: &ImportRow) -> Result<(), Error> {
    let problem = Problem::new(Code::NoProgress, "whoever worked on it died of it before anything was done");
    let update = one(import.user_id, import.id)
        .col_expr(Column::State, to(State::Failed))
        .col_expr(Column::CrashCount, import.crash_count.into())
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .col_expr(Column::Problem, Expr::value(write_problem(&problem)))
        .col_expr(Column::FinishedAt, dialect::now_ms(tx.backend()))
        .filter(runnable(tx.backend()));
    if happened(update, &tx.inner).await? {
        tracing::warn!(import.id = %import.id, "an import has ended that nobody survives");
        metrics::counter!("idem_imports_finished_total", "state" => "failed").increment(1);
    }
    Ok(())
}

/// A held import and where its holder left it: the guard of every step a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Owner.
    pub user_id: Uuid,
    /// Its id.
    pub id: Uuid,
    /// Running, or rolling back.
    pub state: State,
    /// Fence.
    pub lease_epoch: i64,
    /// Checkpoint.
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

fn held(held: Held) -> UpdateMany<Entity> {
    if fault_injection::is_injected("plant-no-fence") {
        return one(held.user_id, held.id);
    }
    one(held.user_id, held.id)
        .filter(Column::State.eq(held.state.name()))
        .filter(Column::LeaseEpoch.eq(held.lease_epoch))
        .filter(Column::NextRecord.eq(held.next_record))
}

/// Where the payload goes on behind a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Records before it.
    pub next_record: i64,
    /// Offset in the decoded payload.
    pub next_byte: i64,
    /// Lines before that offset, where the format has lines.
    pub next_line: i64,
    /// Offset in the payload as sent, as far as the decoder has read.
    pub bytes_processed: i64,
}

/// Moves the checkpoint, within the transaction of the chunk and before anything else of it.
///
/// # Errors
/// [`Error::Fenced`] when another holds the import, or nobody; when the database fails.
pub async fn advance(tx: &Tx, import: Held, next: Checkpoint, lease_ttl_ms: i64) -> Result<(), Error> {
    let is_safe = Expr::col(Column::SmallChunksUntil).lte(next.next_record);
    let most = i32::try_from(CHUNK_RECORDS_MAX).unwrap_or(i32::MAX);
    let update = alive(tx, import, lease_ttl_ms)
        .col_expr(Column::NextRecord, next.next_record.into())
        .col_expr(Column::NextByte, next.next_byte.into())
        .col_expr(Column::NextLine, next.next_line.into())
        .col_expr(Column::BytesProcessed, next.bytes_processed.into())
        .col_expr(
            Column::ChunkRecords,
            Expr::case(is_safe, most).finally(Expr::col(Column::ChunkRecords)).into(),
        );
    if happened(update, &tx.inner).await? { Ok(()) } else { Err(Error::Fenced) }
}

/// Asks within a transaction, before anything else of it, whether the import is still held.
///
/// # Errors
/// As [`advance`].
pub async fn hold(tx: &Tx, import: Held, lease_ttl_ms: i64) -> Result<(), Error> {
    if happened(alive(tx, import, lease_ttl_ms), &tx.inner).await? { Ok(()) } else { Err(Error::Fenced) }
}

/// Progress: the lease is longer, and no failure counts any more.
fn alive(tx: &Tx, import: Held, lease_ttl_ms: i64) -> UpdateMany<Entity> {
    held(import)
        .col_expr(Column::Attempts, Expr::value(0))
        .col_expr(Column::CrashCount, Expr::value(0))
        .col_expr(Column::LeaseUntil, dialect::now_ms(tx.backend()).add(lease_ttl_ms))
}

/// Nothing is left to take back.
///
/// # Errors
/// As [`advance`].
pub async fn rolled_back(store: &Store, import: Held) -> Result<(), Error> {
    let tx = store.begin().await?;
    let update = held(import)
        .col_expr(Column::State, to(State::RolledBack))
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .col_expr(Column::FinishedAt, dialect::now_ms(tx.backend()));
    let done = happened(update, &tx.inner).await?;
    tx.commit().await?;
    if done { Ok(()) } else { Err(Error::Fenced) }
}

/// Adds to the counts of an import whose checkpoint this transaction has moved; the last chunk ends it.
///
/// # Errors
/// When the database fails.
pub async fn tally(tx: &Tx, import: Held, counts: Counts, is_last: bool) -> Result<(), Error> {
    let plus = |column: Column, add: i64| Expr::col(column).add(add);
    let mut update = held(import)
        .col_expr(Column::CountInserted, plus(Column::CountInserted, counts.inserted))
        .col_expr(Column::CountDuplicates, plus(Column::CountDuplicates, counts.duplicates))
        .col_expr(Column::CountDiffering, plus(Column::CountDiffering, counts.differing))
        .col_expr(Column::CountDeleted, plus(Column::CountDeleted, counts.deleted))
        .col_expr(Column::CountRejected, plus(Column::CountRejected, counts.rejected));
    if is_last {
        update = update
            .col_expr(Column::State, to(State::Completed))
            .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
            .col_expr(Column::RecordsTotal, import.next_record.into())
            .col_expr(Column::BytesProcessed, Expr::col(Column::BytesTotal))
            .col_expr(Column::Problem, Expr::value(None::<String>))
            .col_expr(Column::FinishedAt, dialect::now_ms(tx.backend()));
    }
    if happened(update, &tx.inner).await? { Ok(()) } else { Err(Error::Fenced) }
}

/// What a worker does with an import that it no longer works on.
#[derive(Debug, Clone)]
pub enum Release {
    /// Its time is over: queued, from the checkpoint.
    Yield,
    /// A passing failure: queued, after a pause of so many milliseconds.
    Retry {
        /// Rest.
        pause_ms: i64,
    },
    /// Its user had enough records today: queued, after a pause, and no failure.
    Rest {
        /// Rest.
        pause_ms: i64,
    },
    /// The payload is not the one announced: to be sent again.
    SendAgain(Problem),
    /// It can never work.
    Fail(Problem),
}

/// Gives a held import back.
///
/// # Errors
/// When the database fails.
pub async fn release(store: &Store, import: Held, release: Release) -> Result<bool, Error> {
    let tx = store.begin().await?;
    let mut update = held(import).col_expr(Column::LeaseUntil, Expr::value(None::<i64>));
    // What is rolled back stays so until it is done.
    let waits = if import.state == State::Running { State::Queued } else { import.state };
    let from_now = |pause_ms: i64| dialect::now_ms(tx.backend()).add(pause_ms);
    update = match release {
        Release::Yield => update.col_expr(Column::State, to(waits)),
        Release::Retry { pause_ms } => update
            .col_expr(Column::State, to(waits))
            .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
            .col_expr(Column::NotBefore, from_now(pause_ms)),
        Release::Rest { pause_ms } => {
            update.col_expr(Column::State, to(waits)).col_expr(Column::NotBefore, from_now(pause_ms))
        }
        Release::SendAgain(problem) => update
            .col_expr(Column::State, to(State::AwaitingUpload))
            // It is awaited as long as a new one: perhaps the first came a day ago.
            .col_expr(Column::UploadExpiresAt, from_now(UPLOAD_TTL_MS))
            .col_expr(Column::BytesReceived, Expr::value(0_i64))
            .col_expr(Column::PayloadObjects, Expr::value(""))
            .col_expr(Column::Problem, Expr::value(write_problem(&problem))),
        Release::Fail(problem) => update
            .col_expr(Column::State, to(State::Failed))
            .col_expr(Column::Problem, Expr::value(write_problem(&problem)))
            .col_expr(Column::FinishedAt, dialect::now_ms(tx.backend())),
    };
    let done = happened(update, &tx.inner).await?;
    tx.commit().await?;
    Ok(done)
}

/// Says of a held import what is wrong with it, before its holder does anything about it.
///
/// # Errors
/// As [`renew`].
pub async fn note(store: &Store, import: Held, problem: &Problem) -> Result<(), Error> {
    let tx = store.begin().await?;
    let update = held(import).col_expr(Column::Problem, Expr::value(write_problem(problem)));
    let done = happened(update, &tx.inner).await?;
    tx.commit().await?;
    if done { Ok(()) } else { Err(Error::Fenced) }
}

/// A sign of life while the holder reads its way to the checkpoint.
///
/// # Errors
/// [`Error::Fenced`] when the import is no longer held; when the database fails.
pub async fn renew(store: &Store, import: Held, lease_ttl_ms: i64) -> Result<(), Error> {
    let tx = store.begin().await?;
    let until = dialect::now_ms(tx.backend()).add(lease_ttl_ms);
    let done = happened(held(import).col_expr(Column::LeaseUntil, until), &tx.inner).await?;
    tx.commit().await?;
    if done { Ok(()) } else { Err(Error::Fenced) }
}

/// Whether another import could run if the holder of this one gave way: it waits, and its user may have one more. One of
/// this user that waits for this very import to end does not count.
///
/// # Errors
/// When the database fails.
pub async fn is_another_waiting(store: &Store, import: Held, limits: &ImportLimits) -> Result<bool, Error> {
    let backend = store.backend();
    let other = Condition::any().add(Column::UserId.ne(import.user_id)).add(Column::Id.ne(import.id));
    let waiting = Entity::find().filter(runnable(backend)).filter(other).limit(WAITING_USERS_MAX);
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
        let running = of_user(user_id, Some(&WORKED_ON)).filter(living_lease(backend));
        if running.count(store.reader()).await? < limits.running_max {
            return Ok(true);
        }
    }
    Ok(false)
}
