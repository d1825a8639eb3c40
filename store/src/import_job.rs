//! Reads and changes the rows of imports.
//!
//! Every step of the state machine is one UPDATE that is guarded by the state. If it changes no row, the
//! import was not in a state from which the step leads. The queries are built by SeaORM, because their guards
//! are shared; the doc of a function says which index serves it.

use std::collections::HashMap;

use ::entity::import_job::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, OnConflict, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, Order, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Select, Statement, UpdateMany,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::lock::{Lockable, begin_and_lock_row};
use super::page::{Page, Window};
use super::{Store, Tx, dialect, import_rejection};
use crate::error::Error;
use domain::import::{Counts, Format, ImportRow, State, Step};
use domain::payload_objects::PayloadObjects;
use domain::problem::{Code, Problem};
use domain::trace_context::TraceContext;

mod due;
mod lease;
mod retention;
mod upload;
mod usage;

use due::runnable_condition;
pub use due::{find_and_mark_due, longest_wait_ms};
pub use lease::{
    Checkpoint, Held, Release, add_counts_and_maybe_complete, advance_checkpoint, claim, finish_rollback,
    is_another_import_waiting, record_problem, release, renew_lease, renew_lease_in_transaction,
};
pub use retention::{
    fail_expired_uploads, find_payloads_past_retention, find_rejections_past_retention, is_upload_expired,
    mark_payload_and_excerpts_removed, remove_rejections,
};
pub use upload::{Arrival, record_object_arrival};
pub use usage::{add_used_records, count_records_of_last_day, remove_old_usage};

/// The key of an import in the list: its creation in epoch milliseconds, and its id. The list is in
/// descending order.
pub type Key = (i64, Uuid);

/// Reads one import. Returns `None` if the user has no import with this id.
///
/// # Errors
/// [`Error::Database`] if the database fails; [`Error::Bug`] if the row breaks an invariant.
pub async fn find(store: &Store, user_id: Uuid, id: Uuid) -> Result<Option<ImportRow>, Error> {
    Entity::find_by_id((user_id, id)).one(store.reader()).await?.map(to_import_row).transpose()
}

/// Reads the imports with these ids. Ids of no import of this user are missing in the result.
///
/// # Errors
/// As [`find`].
pub async fn find_by_ids(
    store: &Store,
    user_id: Uuid,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, ImportRow>, Error> {
    let query =
        Entity::find().filter(Column::UserId.eq(user_id)).filter(Column::Id.is_in(ids.iter().copied()));
    let rows = query.all(store.reader()).await?;
    rows.into_iter().map(|model| Ok((model.id, to_import_row(model)?))).collect()
}

/// Reads one import within a transaction of the caller. It does not lock the row.
///
/// # Errors
/// As [`find`].
pub async fn find_in_transaction(tx: &Tx, user_id: Uuid, id: Uuid) -> Result<Option<ImportRow>, Error> {
    let found = tx.find_all(&Entity::find_by_id((user_id, id))).await?;
    found.into_iter().next().map(to_import_row).transpose()
}

/// The states in which a worker works on an import, or is to work on it.
const WORKED_ON: [State; 3] = [State::Queued, State::Running, State::RollingBack];

/// The most users that one notification of an import finds, if several have an import with this id. The next
/// notification finds the others.
const OWNERS_MAX: u64 = 1_000;

/// Returns the users whose import with this id is queued, running or rolling back, whether or not it can be
/// claimed now. A notification names an import but no user.
///
/// Plan: a lookup in the index `import_job_id (id)`.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn find_owners_of_active_import(store: &Store, id: Uuid) -> Result<Vec<Uuid>, Error> {
    let open = WORKED_ON.map(State::name);
    let runnable = Entity::find().filter(Column::Id.eq(id)).filter(Column::State.is_in(open));
    let rows = runnable.limit(OWNERS_MAX).all(store.reader()).await?;
    Ok(rows.into_iter().map(|row| row.user_id).collect())
}

/// Returns a page of a user's imports, the newest first. With `states` it shows only imports in these states.
///
/// Plan: it walks the index `import_job_newest (user_id, created_at DESC, id DESC)`.
///
/// # Errors
/// As [`find`].
pub async fn load_page(
    store: &Store,
    user_id: Uuid,
    states: Option<&[State]>,
    window: &Window<Key>,
) -> Result<Page<ImportRow>, Error> {
    let mut query = select_of_user(user_id, states);
    if let Some(after) = window.after {
        query = query.filter(key_columns_expr().lt(key_expr(after)));
    }
    if let Some(before) = window.before {
        query = query.filter(key_columns_expr().gt(key_expr(before)));
    }
    let order = if window.from_end { Order::Asc } else { Order::Desc };
    let rows = query
        .order_by(Column::CreatedAt, order.clone())
        .order_by(Column::Id, order)
        .limit(window.query_limit())
        .all(store.reader())
        .await?;
    Ok(window.page_of_rows(rows.into_iter().map(to_import_row).collect::<Result<_, _>>()?))
}

/// Counts the imports of a user. With `states` it counts only imports in these states.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn count_of_user(store: &Store, user_id: Uuid, states: Option<&[State]>) -> Result<u64, Error> {
    Ok(select_of_user(user_id, states).count(store.reader()).await?)
}

/// Counts the imports of a user that wait for their payload or for a worker, within a transaction.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn count_waiting(tx: &Tx, user_id: Uuid) -> Result<u64, Error> {
    count_in_transaction(tx, select_of_user(user_id, Some(&[State::AwaitingUpload, State::Queued]))).await
}

/// Adds up the payload bytes of the imports that a user has created since an instant, within a transaction.
///
/// An import that awaits its payload counts with its announced size. Any other counts with the bytes that
/// arrived, but one whose payload was not the announced one counts with its announced size: `bytes_received`
/// is set back to 0 then.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn sum_payload_bytes_since(tx: &Tx, user_id: Uuid, since_ms: i64) -> Result<i64, Error> {
    let rows = select_of_user(user_id, None).filter(Column::CreatedAt.gte(since_ms));
    let bytes = |row: &Model| {
        let problem = row.problem.as_deref().and_then(parse_problem);
        let counts_total = row.state == State::AwaitingUpload.name()
            || problem.is_some_and(|problem| problem.code == Code::PayloadMismatch);
        if counts_total { row.bytes_total } else { row.bytes_received }
    };
    Ok(tx.find_all(&rows).await?.iter().map(bytes).sum())
}

/// Counts the imports that a query selects, within a transaction.
async fn count_in_transaction(tx: &Tx, query: Select<Entity>) -> Result<u64, Error> {
    let count = query.select_only().expr(Expr::col(Column::Id).count()).build(tx.backend());
    let count = tx.find_integer(count).await?.unwrap_or_default();
    Ok(u64::try_from(count).unwrap_or_default())
}

fn select_of_user(user_id: Uuid, states: Option<&[State]>) -> Select<Entity> {
    let query = Entity::find().filter(Column::UserId.eq(user_id));
    match states {
        Some(states) => query.filter(Column::State.is_in(states.iter().map(|state| state.name()))),
        None => query,
    }
}

/// The columns of a [`Key`] as one row value.
fn key_columns_expr() -> SimpleExpr {
    Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)])
}

fn key_expr((at, id): Key) -> SimpleExpr {
    Expr::tuple([Expr::value(at), Expr::value(id)])
}

/// Reads the clock of the database, in epoch milliseconds.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn database_now_ms(tx: &Tx) -> Result<i64, Error> {
    let sql = format!("SELECT {}", dialect::sql_now_ms(tx.backend()));
    let now_ms = tx.find_integer(Statement::from_string(tx.backend(), sql)).await?;
    now_ms.ok_or(Error::Bug("the clock of the database returns one row"))
}

/// Inserts the row of a new import. The transaction must hold the lock of the account, under which it has
/// found that the id is free.
///
/// # Errors
/// [`Error::Database`] if the database fails; [`Error::Bug`] if an import with this id exists.
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
    let insert = Entity::insert_many([model]).on_conflict(OnConflict::new().do_nothing().to_owned());
    if tx.execute(&insert).await? == 1 {
        Ok(())
    } else {
        Err(Error::Bug("the id of a new import is free under the lock"))
    }
}

/// Builds an UPDATE of the row of one import, without columns yet: callers add columns and guards, and run
/// it. Plan: a lookup in the primary key.
fn build_import_update(user_id: Uuid, id: Uuid) -> UpdateMany<Entity> {
    Entity::update_many().filter(Column::UserId.eq(user_id)).filter(Column::Id.eq(id))
}

/// Runs an UPDATE of one import whose conditions guard it. Returns false if they did not hold, so that
/// nothing was changed.
async fn run_guarded_update(tx: &Tx, update: UpdateMany<Entity>) -> Result<bool, Error> {
    Ok(tx.execute(&update).await? == 1)
}

fn state_value(state: State) -> SimpleExpr {
    Expr::value(state.name())
}

/// Changes the state of an import as the user asked (pause, resume, cancel, retry, roll back), in a
/// transaction of its own. Returns false and changes nothing if the step is not possible in the present
/// state. A retry of a completed dry run restarts it as an import that stores its records.
///
/// # Errors
/// [`Error::Locked`] if another transaction holds the import for too long; [`Error::Busy`] if too many writes
/// wait; [`Error::Database`] if the database fails.
pub async fn apply_user_step(store: &Store, user_id: Uuid, id: Uuid, step: Step) -> Result<bool, Error> {
    let (from, state) = step.allowed_states_and_next_state();
    let mut update = build_import_update(user_id, id)
        .col_expr(Column::State, state_value(state))
        .filter(Column::State.is_in(from.iter().map(|state| state.name())));
    update = match step {
        Step::Cancel => update.col_expr(Column::FinishedAt, dialect::now_ms_expr(store.backend())),
        Step::Pause => update,
        Step::Resume | Step::Retry | Step::RollBack => set_runnable_columns(update),
    };
    if step == Step::Retry {
        let failed = Condition::all()
            .add(Column::State.eq(State::Failed.name()))
            .add(Column::PayloadRemovedAt.is_null())
            .add(Expr::col(Column::BytesReceived).eq(Expr::col(Column::BytesTotal)));
        update = update.filter(failed);
    }
    let (tx, _) = begin_and_lock_row(store, user_id, Lockable::Import(id), Instant::now()).await?;
    let mut done = run_guarded_update(&tx, update).await?;
    if !done && step == Step::Retry {
        done = restart_dry_run_as_import(&tx, user_id, id).await?;
    }
    tx.commit().await?;
    Ok(done)
}

/// Adds to an UPDATE of an import that it clears the lease, the pause, the failures and the problem. Then the
/// next sweep notifies a worker.
fn set_runnable_columns(update: UpdateMany<Entity>) -> UpdateMany<Entity> {
    let null = || Expr::value(None::<i64>);
    update
        .col_expr(Column::LeaseUntil, null())
        .col_expr(Column::NotBefore, null())
        .col_expr(Column::NotifiedAt, null())
        .col_expr(Column::FinishedAt, null())
        .col_expr(Column::Attempts, Expr::value(0))
        .col_expr(Column::CrashCount, Expr::value(0))
        .col_expr(Column::Problem, Expr::value(None::<String>))
}

/// Restarts a completed dry run as an import that stores its records, and deletes its rejections, within
/// `tx`. Returns false and changes nothing if the import is no completed dry run or its payload is removed.
async fn restart_dry_run_as_import(tx: &Tx, user_id: Uuid, id: Uuid) -> Result<bool, Error> {
    let mut update = set_runnable_columns(build_import_update(user_id, id))
        .col_expr(Column::State, state_value(State::Queued))
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
    let done = run_guarded_update(tx, update).await?;
    if done {
        import_rejection::delete_rejections_of_import(tx, user_id, id).await?;
    }
    Ok(done)
}

/// Returns the code and the detail of a problem as the JSON text of the column `problem`. The rest of the
/// problem is not stored.
fn problem_to_json(problem: &Problem) -> String {
    serde_json::json!({ "code": problem.code.name(), "detail": problem.detail }).to_string()
}

fn parse_problem(text: &str) -> Option<Problem> {
    let stored: serde_json::Value = serde_json::from_str(text).ok()?;
    let code = Code::from_name(stored.get("code")?.as_str()?)?;
    Some(Problem::new(code, stored.get("detail")?.as_str().unwrap_or_default()))
}

const BAD_OPTIONS: Error = Error::Bug("the stored options of an import are valid JSON");

fn to_import_row(model: Model) -> Result<ImportRow, Error> {
    Ok(ImportRow {
        user_id: model.user_id,
        id: model.id,
        state: State::from_name(&model.state).ok_or(Error::Bug("a stored import state is a known name"))?,
        format: Format::from_name(&model.format)
            .ok_or(Error::Bug("a stored import format is a known name"))?,
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
        problem: model.problem.as_deref().and_then(parse_problem),
        trace_context: model.trace_context.as_deref().and_then(TraceContext::parse),
        upload_expires_at: model.upload_expires_at,
        created_at: model.created_at,
        started_at: model.started_at,
        finished_at: model.finished_at,
        payload_removed_at: model.payload_removed_at,
    })
}
