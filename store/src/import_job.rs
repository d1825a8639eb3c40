//! The rows of imports. Every step of the state machine is one guarded UPDATE: no row touched means
//! that the import was not in the state that the step needs.

use std::collections::HashMap;

use ::entity::import_job::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, OnConflict, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, Order, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Select, Statement, UpdateMany,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::lock::{Lockable, begin_locked};
use super::page::{Page, Window};
use super::{Store, Tx, dialect, import_rejection, to_its_end};
use crate::error::Error;
use domain::import::{Counts, Format, ImportRow, State, Step};
use domain::payload_objects::PayloadObjects;
use domain::problem::{Code, Problem};
use domain::trace_context::TraceContext;

mod due;
mod lease;
mod retention;
mod usage;

use due::runnable;
pub use due::{due, longest_wait_ms};
pub use lease::{
    Checkpoint, Held, Release, advance, claim, hold, is_another_waiting, note, release, renew, rolled_back,
    tally,
};
pub use retention::{
    expire, forget_payload, forget_rejections, is_upload_over, stale_payloads, stale_rejections,
};
pub use usage::{count_records, forget_usage, records_of_day};

/// The place of an import in the list: newest first, then id.
pub type Key = (i64, Uuid);

/// Reads one import.
///
/// # Errors
/// When the database fails.
pub async fn find(store: &Store, user_id: Uuid, id: Uuid) -> Result<Option<ImportRow>, Error> {
    Entity::find_by_id((user_id, id)).one(store.reader()).await?.map(row).transpose()
}

/// Reads the imports with these ids.
///
/// # Errors
/// When the database fails.
pub async fn find_all(store: &Store, user_id: Uuid, ids: &[Uuid]) -> Result<HashMap<Uuid, ImportRow>, Error> {
    let query =
        Entity::find().filter(Column::UserId.eq(user_id)).filter(Column::Id.is_in(ids.iter().copied()));
    let rows = query.all(store.reader()).await?;
    rows.into_iter().map(|model| Ok((model.id, row(model)?))).collect()
}

/// Reads one import within a transaction.
///
/// # Errors
/// When the database fails.
pub async fn find_within(tx: &Tx, user_id: Uuid, id: Uuid) -> Result<Option<ImportRow>, Error> {
    Entity::find_by_id((user_id, id)).one(&tx.inner).await?.map(row).transpose()
}

/// The states in which an import is a worker's.
const WORKED_ON: [State; 3] = [State::Queued, State::Running, State::RollingBack];

/// Users with the same import id that one notification leads to; the next notification finds the others.
const OWNERS_MAX: u64 = 1_000;

/// Everybody's runnable imports of that id: a notification names no user, the row does.
///
/// # Errors
/// When the database fails.
pub async fn owners(store: &Store, id: Uuid) -> Result<Vec<Uuid>, Error> {
    let open = WORKED_ON.map(State::name);
    let runnable = Entity::find().filter(Column::Id.eq(id)).filter(Column::State.is_in(open));
    let rows = runnable.limit(OWNERS_MAX).all(store.reader()).await?;
    Ok(rows.into_iter().map(|row| row.user_id).collect())
}

/// A page of a user's imports in these states.
///
/// # Errors
/// When the database fails.
pub async fn page(
    store: &Store,
    user_id: Uuid,
    states: Option<&[State]>,
    window: &Window<Key>,
) -> Result<Page<ImportRow>, Error> {
    let mut query = of_user(user_id, states);
    if let Some(after) = window.after {
        query = query.filter(place().lt(key(after)));
    }
    if let Some(before) = window.before {
        query = query.filter(place().gt(key(before)));
    }
    let order = if window.from_end { Order::Asc } else { Order::Desc };
    let rows = query
        .order_by(Column::CreatedAt, order.clone())
        .order_by(Column::Id, order)
        .limit(window.limit())
        .all(store.reader())
        .await?;
    Ok(window.page(rows.into_iter().map(row).collect::<Result<_, _>>()?))
}

/// How many imports a user has in these states.
///
/// # Errors
/// When the database fails.
pub async fn count(store: &Store, user_id: Uuid, states: Option<&[State]>) -> Result<u64, Error> {
    Ok(of_user(user_id, states).count(store.reader()).await?)
}

/// How many imports of the user wait for their payload or their turn, within a transaction.
///
/// # Errors
/// When the database fails.
pub async fn waiting(tx: &Tx, user_id: Uuid) -> Result<u64, Error> {
    Ok(of_user(user_id, Some(&[State::AwaitingUpload, State::Queued])).count(&tx.inner).await?)
}

/// Bytes of all imports that the user announced since this instant, within a transaction: those that came, and those
/// that are awaited. Of a payload that was sent, and was not the one that was announced, all came.
///
/// # Errors
/// When the database fails.
pub async fn bytes_since(tx: &Tx, user_id: Uuid, since_ms: i64) -> Result<i64, Error> {
    let rows = of_user(user_id, None).filter(Column::CreatedAt.gte(since_ms));
    let columns = [Column::State, Column::BytesTotal, Column::BytesReceived, Column::Problem];
    let rows: Vec<(String, i64, i64, Option<String>)> =
        rows.select_only().columns(columns).into_tuple().all(&tx.inner).await?;
    let bytes = |(state, total, received, problem): &(String, i64, i64, Option<String>)| {
        let problem = problem.as_deref().and_then(read_problem);
        let is_whole = state == State::AwaitingUpload.name()
            || problem.is_some_and(|problem| problem.code == Code::PayloadMismatch);
        if is_whole { *total } else { *received }
    };
    Ok(rows.iter().map(bytes).sum())
}

fn of_user(user_id: Uuid, states: Option<&[State]>) -> Select<Entity> {
    let query = Entity::find().filter(Column::UserId.eq(user_id));
    match states {
        Some(states) => query.filter(Column::State.is_in(states.iter().map(|state| state.name()))),
        None => query,
    }
}

fn place() -> SimpleExpr {
    Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)])
}

fn key((at, id): Key) -> SimpleExpr {
    Expr::tuple([Expr::value(at), Expr::value(id)])
}

/// The present by the clock of the database, in epoch milliseconds.
///
/// # Errors
/// When the database fails.
pub async fn now_ms(tx: &Tx) -> Result<i64, Error> {
    let sql = format!("SELECT {}", dialect::now_ms_text(tx.backend()));
    let row = tx.inner.query_one_raw(Statement::from_string(tx.backend(), sql)).await?;
    Ok(row.ok_or(Error::Bug("a clock tells a time"))?.try_get_by_index(0)?)
}

/// Adds a new import.
///
/// # Errors
/// When the database fails, or the id is taken: it was asked for under the same lock.
pub async fn insert(tx: &Tx, new: &ImportRow) -> Result<(), Error> {
    let model = ActiveModel {
        user_id: Set(new.user_id),
        id: Set(new.id),
        state: Set(new.state.name().to_owned()),
        format: Set(new.format.name().to_owned()),
        name: Set(new.name.clone()),
        options: Set(serde_json::to_string(&new.options).map_err(|_| BAD_OPTIONS)?),
        dry_run: Set(new.dry_run),
        bytes_total: Set(new.bytes_total),
        bytes_received: Set(new.bytes_received),
        sha256: Set(new.sha256.clone()),
        payload_objects: Set(new.payload_objects.as_text().to_owned()),
        chunk_records: Set(new.chunk_records),
        trace_context: Set(new.trace_context.map(|context| context.to_string())),
        upload_expires_at: Set(new.upload_expires_at),
        created_at: Set(new.created_at),
        next_record: NotSet,
        ..Default::default()
    };
    let written = Entity::insert_many([model])
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(&tx.inner)
        .await?;
    if written == 1 { Ok(()) } else { Err(Error::Bug("an import's id is asked for under the lock")) }
}

/// One import of one user, to be updated under further guards.
fn one(user_id: Uuid, id: Uuid) -> UpdateMany<Entity> {
    Entity::update_many().filter(Column::UserId.eq(user_id)).filter(Column::Id.eq(id))
}

async fn happened(update: UpdateMany<Entity>, on: &impl ConnectionTrait) -> Result<bool, Error> {
    Ok(update.exec(on).await?.rows_affected == 1)
}

fn to(state: State) -> SimpleExpr {
    Expr::value(state.name())
}

/// An object of a payload that was stored, and what the row said before.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Bytes before it.
    pub from: i64,
    /// The names of the objects before it.
    pub names_before: PayloadObjects,
    /// Bytes with it.
    pub up_to: i64,
    /// The names with it.
    pub names: PayloadObjects,
    /// It is the last one.
    pub complete: bool,
}

/// Another object of the payload counts; with the last one the import is queued. False when the row has moved on, or
/// its time is over.
///
/// # Errors
/// When the database fails.
pub async fn receive(store: &Store, user_id: Uuid, id: Uuid, arrival: Arrival) -> Result<bool, Error> {
    let Arrival { from, names_before, up_to, names, complete } = arrival;
    let state = if complete { State::Queued } else { State::AwaitingUpload };
    let update = one(user_id, id)
        .col_expr(Column::BytesReceived, up_to.into())
        .col_expr(Column::PayloadObjects, names.as_text().into())
        .col_expr(Column::State, to(state))
        .col_expr(Column::Problem, Expr::value(None::<String>))
        .filter(Column::State.eq(State::AwaitingUpload.name()))
        .filter(Column::BytesReceived.eq(from))
        .filter(Column::PayloadObjects.eq(names_before.as_text()))
        .filter(Expr::col(Column::UploadExpiresAt).gte(dialect::now_ms(store.backend())));
    let store = store.clone();
    to_its_end(async move {
        let (tx, _) = begin_locked(&store, user_id, Lockable::Import(id), Instant::now()).await?;
        let done = happened(update, &tx.inner).await?;
        tx.commit().await?;
        Ok(done)
    })
    .await
}

/// The user takes a step; false when the import is in none of the states for it.
///
/// # Errors
/// When the database fails.
pub async fn take(store: &Store, user_id: Uuid, id: Uuid, step: Step) -> Result<bool, Error> {
    let (from, state) = step.leads();
    let mut update = one(user_id, id)
        .col_expr(Column::State, to(state))
        .filter(Column::State.is_in(from.iter().map(|state| state.name())));
    update = match step {
        Step::Cancel => update.col_expr(Column::FinishedAt, dialect::now_ms(store.backend())),
        Step::Pause => update,
        Step::Resume | Step::Retry | Step::RollBack => at_once(update),
    };
    if step == Step::Retry {
        let failed = Condition::all()
            .add(Column::State.eq(State::Failed.name()))
            .add(Column::PayloadRemovedAt.is_null())
            .add(Expr::col(Column::BytesReceived).eq(Expr::col(Column::BytesTotal)));
        update = update.filter(failed);
    }
    let (tx, _) = begin_locked(store, user_id, Lockable::Import(id), Instant::now()).await?;
    let mut done = happened(update, &tx.inner).await?;
    if !done && step == Step::Retry {
        done = begin_for_real(&tx, user_id, id).await?;
    }
    tx.commit().await?;
    Ok(done)
}

/// Nobody holds it, nothing is held against it, and the next sweep notifications.
fn at_once(update: UpdateMany<Entity>) -> UpdateMany<Entity> {
    let nothing = || Expr::value(None::<i64>);
    update
        .col_expr(Column::LeaseUntil, nothing())
        .col_expr(Column::NotBefore, nothing())
        .col_expr(Column::NotifiedAt, nothing())
        .col_expr(Column::FinishedAt, nothing())
        .col_expr(Column::Attempts, Expr::value(0))
        .col_expr(Column::CrashCount, Expr::value(0))
        .col_expr(Column::Problem, Expr::value(None::<String>))
}

/// A dry run that is complete begins anew and stores what it finds.
async fn begin_for_real(tx: &Tx, user_id: Uuid, id: Uuid) -> Result<bool, Error> {
    let mut update = at_once(one(user_id, id))
        .col_expr(Column::State, to(State::Queued))
        .col_expr(Column::DryRun, Expr::value(false))
        .col_expr(Column::RecordsTotal, Expr::value(None::<i64>))
        .col_expr(Column::StartedAt, Expr::value(None::<i64>))
        .filter(Column::State.eq(State::Completed.name()))
        .filter(Column::DryRun.eq(true))
        .filter(Column::PayloadRemovedAt.is_null());
    for column in [
        Column::NextRecord,
        Column::NextByte,
        Column::NextLine,
        Column::BytesProcessed,
        Column::CountInserted,
        Column::CountDuplicates,
        Column::CountDiffering,
        Column::CountDeleted,
        Column::CountRejected,
    ] {
        update = update.col_expr(column, Expr::value(0_i64));
    }
    let done = happened(update, &tx.inner).await?;
    if done {
        import_rejection::remove(tx, user_id, id).await?;
    }
    Ok(done)
}

fn write_problem(problem: &Problem) -> String {
    serde_json::json!({ "code": problem.code.name(), "detail": problem.detail }).to_string()
}

fn read_problem(text: &str) -> Option<Problem> {
    let stored: serde_json::Value = serde_json::from_str(text).ok()?;
    let code = Code::from_name(stored.get("code")?.as_str()?)?;
    Some(Problem::new(code, stored.get("detail")?.as_str().unwrap_or_default()))
}

const BAD_OPTIONS: Error = Error::Bug("the options of an import are JSON that we wrote");

fn row(model: Model) -> Result<ImportRow, Error> {
    Ok(ImportRow {
        user_id: model.user_id,
        id: model.id,
        state: State::from_name(&model.state).ok_or(Error::Bug("a stored state is one of ours"))?,
        format: Format::from_name(&model.format).ok_or(Error::Bug("a stored format is one of ours"))?,
        name: model.name,
        bytes_total: model.bytes_total,
        bytes_received: model.bytes_received,
        payload_objects: PayloadObjects::from_text(model.payload_objects),
        sha256: model.sha256,
        options: serde_json::from_str(&model.options).map_err(|_| BAD_OPTIONS)?,
        dry_run: model.dry_run,
        next_record: model.next_record,
        next_byte: model.next_byte,
        next_line: model.next_line,
        bytes_processed: model.bytes_processed,
        records_total: model.records_total,
        counts: Counts {
            inserted: model.count_inserted,
            duplicates: model.count_duplicates,
            differing: model.count_differing,
            deleted: model.count_deleted,
            rejected: model.count_rejected,
        },
        attempts: model.attempts,
        crash_count: model.crash_count,
        chunk_records: model.chunk_records,
        small_chunks_until: model.small_chunks_until,
        lease_epoch: model.lease_epoch,
        problem: model.problem.as_deref().and_then(read_problem),
        trace_context: model.trace_context.as_deref().and_then(TraceContext::parse),
        upload_expires_at: model.upload_expires_at,
        created_at: model.created_at,
        started_at: model.started_at,
        finished_at: model.finished_at,
        payload_removed_at: model.payload_removed_at,
    })
}
