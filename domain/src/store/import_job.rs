//! The rows of imports. Every step of the state machine is one guarded UPDATE: no row touched means
//! that the import was not in the state that the step needs.

use ::entity::import_job::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, OnConflict, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, ExprTrait, Order, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, Select, UpdateMany,
};
use uuid::Uuid;

use super::page::{Page, Window};
use super::{Store, Tx, detached, dialect};
use crate::error::Error;
use crate::rules::import::{Counts, Format, ImportRow, State};
use crate::rules::problem::{Code, Problem};

mod lease;

pub use lease::{Held, Release, advance, claim, is_another_waiting, release, renew, tally};

/// The place of an import in the list: newest first, then id.
pub type Key = (i64, Uuid);

/// Reads one import.
///
/// # Errors
/// When the database fails.
pub async fn find(store: &Store, user_id: Uuid, id: Uuid) -> Result<Option<ImportRow>, Error> {
    Entity::find_by_id((user_id, id)).one(store.reader()).await?.map(row).transpose()
}

/// Reads one import within a transaction.
///
/// # Errors
/// When the database fails.
pub async fn find_within(tx: &Tx, user_id: Uuid, id: Uuid) -> Result<Option<ImportRow>, Error> {
    Entity::find_by_id((user_id, id)).one(&tx.inner).await?.map(row).transpose()
}

/// Users with the same import id that one ring leads to; the next ring finds the others.
const OWNERS_MAX: u64 = 1_000;

/// Everybody's runnable imports of that id: a ring names no user, the row does.
///
/// # Errors
/// When the database fails.
pub async fn owners(store: &Store, id: Uuid) -> Result<Vec<Uuid>, Error> {
    let open = [State::Queued, State::Running].map(State::name);
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
        options: Set("{}".to_owned()),
        bytes_total: Set(new.bytes_total),
        bytes_received: Set(new.bytes_received),
        sha256: Set(new.sha256.clone()),
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

/// Another object of the payload is stored; with the last one the import is queued.
///
/// # Errors
/// When the database fails.
pub async fn receive(
    store: &Store,
    user_id: Uuid,
    id: Uuid,
    from: i64,
    up_to: i64,
    complete: bool,
) -> Result<bool, Error> {
    let state = if complete { State::Queued } else { State::AwaitingUpload };
    let update = one(user_id, id)
        .col_expr(Column::BytesReceived, up_to.into())
        .col_expr(Column::State, to(state))
        .col_expr(Column::Problem, Expr::value(None::<String>))
        .filter(Column::State.eq(State::AwaitingUpload.name()))
        .filter(Column::BytesReceived.eq(from));
    let store = store.clone();
    detached(async move {
        let tx = store.begin().await?;
        let done = happened(update, &tx.inner).await?;
        tx.commit().await?;
        Ok(done)
    })
    .await
}

/// The user ends it.
///
/// # Errors
/// When the database fails.
pub async fn cancel(store: &Store, user_id: Uuid, id: Uuid) -> Result<bool, Error> {
    let open = [State::AwaitingUpload, State::Queued, State::Running].map(State::name);
    let tx = store.begin().await?;
    let update = one(user_id, id)
        .col_expr(Column::State, to(State::Canceled))
        .col_expr(Column::FinishedAt, store.clock.now_ms().into())
        .filter(Column::State.is_in(open));
    let done = happened(update, &tx.inner).await?;
    tx.commit().await?;
    Ok(done)
}

/// An import that a worker may take now: queued, or left behind by a worker that is gone, and rested.
fn runnable(backend: DbBackend) -> Condition {
    let now = || dialect::now_ms(backend);
    let left = Condition::all()
        .add(Column::State.eq(State::Running.name()))
        .add(Expr::col(Column::LeaseUntil).lt(now()));
    let rested =
        Condition::any().add(Column::NotBefore.is_null()).add(Expr::col(Column::NotBefore).lte(now()));
    let waits = Condition::any().add(Column::State.eq(State::Queued.name())).add(left);
    Condition::all().add(waits).add(rested)
}

/// Imports that could run and were not rung for lately: one of each user first, then the next of
/// each. Marks them as rung.
///
/// # Errors
/// When the database fails.
pub async fn due(store: &Store, ring_every_ms: i64, most: u64) -> Result<Vec<Uuid>, Error> {
    let tx = store.begin().await?;
    let backend = tx.backend();
    let now = || dialect::now_ms(backend);
    let rows = Entity::find()
        .filter(runnable(backend))
        .filter(
            Condition::any()
                .add(Column::RungAt.is_null())
                .add(Expr::col(Column::RungAt).lt(now().sub(ring_every_ms))),
        )
        .order_by_asc(Expr::cust("row_number() OVER (PARTITION BY user_id ORDER BY created_at, id)"))
        .order_by_asc(Column::CreatedAt)
        .limit(most)
        .all(&tx.inner)
        .await?;
    for row in &rows {
        one(row.user_id, row.id).col_expr(Column::RungAt, now()).exec(&tx.inner).await?;
    }
    tx.commit().await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Ends imports whose payload did not arrive in time; returns them.
///
/// # Errors
/// When the database fails.
pub async fn expire(store: &Store, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    let now_ms = store.clock.now_ms();
    let late = Condition::all()
        .add(Column::State.eq(State::AwaitingUpload.name()))
        .add(Column::UploadExpiresAt.lt(now_ms));
    let problem = Problem::new(Code::UploadExpired, "the payload did not arrive in time");
    let rows = Entity::find().filter(late.clone()).limit(most).all(store.reader()).await?;
    let mut ended = Vec::new();
    for row in rows {
        let tx = store.begin().await?;
        let update = one(row.user_id, row.id)
            .col_expr(Column::State, to(State::Failed))
            .col_expr(Column::Problem, Expr::value(write_problem(&problem)))
            .col_expr(Column::FinishedAt, now_ms.into())
            .filter(late.clone());
        if happened(update, &tx.inner).await? {
            ended.push((row.user_id, row.id));
        }
        tx.commit().await?;
    }
    Ok(ended)
}

fn write_problem(problem: &Problem) -> String {
    serde_json::json!({ "code": problem.code.name(), "detail": problem.detail }).to_string()
}

fn read_problem(text: &str) -> Option<Problem> {
    let stored: serde_json::Value = serde_json::from_str(text).ok()?;
    let code = Code::from_name(stored.get("code")?.as_str()?)?;
    Some(Problem::new(code, stored.get("detail")?.as_str().unwrap_or_default()))
}

fn row(model: Model) -> Result<ImportRow, Error> {
    Ok(ImportRow {
        user_id: model.user_id,
        id: model.id,
        state: State::from_name(&model.state).ok_or(Error::Bug("a stored state is one of ours"))?,
        format: Format::from_name(&model.format).ok_or(Error::Bug("a stored format is one of ours"))?,
        name: model.name,
        bytes_total: model.bytes_total,
        bytes_received: model.bytes_received,
        sha256: model.sha256,
        next_record: model.next_record,
        next_byte: model.next_byte,
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
        lease_epoch: model.lease_epoch,
        problem: model.problem.as_deref().and_then(read_problem),
        upload_expires_at: model.upload_expires_at,
        created_at: model.created_at,
        started_at: model.started_at,
        finished_at: model.finished_at,
    })
}
