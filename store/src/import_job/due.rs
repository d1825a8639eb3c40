//! Finds the imports that a worker could run, for the sweeper and for claims. Rows that are locked are
//! skipped.

use ::entity::import_job::{Column, Entity};
use sea_orm::sea_query::{Expr, Func, LockBehavior, LockType, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, DbBackend, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
};
use uuid::Uuid;

use super::{build_import_update, run_guarded_update};
use crate::error::Error;
use crate::{Store, dialect};
use domain::import::State;
use domain::limits::{LEASE_TTL_MS, RETRY_PAUSE_MS_MAX};

/// The SQL condition that a worker may claim an import now. The import is queued, or its lease has expired
/// while it was running or rolling back. Its pause after a failure must be over.
pub(super) fn runnable_condition(backend: DbBackend) -> Condition {
    let now = || dialect::now_ms_expr(backend);
    let held = [State::Running, State::RollingBack].map(State::name);
    let abandoned = Condition::all().add(Column::State.is_in(held)).add(has_lease_condition(backend).not());
    // A pause that ends later than any pause can end was set before the clock of the database was set back.
    let pause_is_over = Condition::any()
        .add(Column::NotBefore.is_null())
        .add(Expr::col(Column::NotBefore).lte(now()))
        .add(Expr::col(Column::NotBefore).gt(now().add(2 * RETRY_PAUSE_MS_MAX)));
    let is_waiting = Condition::any().add(Column::State.eq(State::Queued.name())).add(abandoned);
    Condition::all().add(is_waiting).add(pause_is_over)
}

/// Finds up to `most` runnable imports whose last notification is older than `notify_every_ms`, or that had
/// none. Marks them as notified and returns their ids; the caller then notifies. The first import of each user
/// comes first, then the second of each. Locked rows are skipped.
///
/// Plan: it reads the imports in the states that workers work on by the index `import_job_runnable (state,
/// notified_at)`, and sorts them. There are few of them, because a user has only some at a time.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn find_and_mark_due(store: &Store, notify_every_ms: i64, most: u64) -> Result<Vec<Uuid>, Error> {
    let tx = store.begin().await?;
    let backend = tx.backend();
    let now = || dialect::now_ms_expr(backend);
    let due = Entity::find()
        .filter(runnable_condition(backend))
        .filter(
            Condition::any()
                .add(Column::NotifiedAt.is_null())
                .add(Expr::col(Column::NotifiedAt).lt(now().sub(notify_every_ms)))
                .add(Expr::col(Column::NotifiedAt).gt(now())),
        )
        .order_by_asc(Expr::cust("row_number() OVER (PARTITION BY user_id ORDER BY created_at, id)"))
        .order_by_asc(Column::CreatedAt)
        .limit(most);
    let rows = tx.find_all(&due).await?;
    let mut marked = Vec::with_capacity(rows.len());
    for row in rows {
        let mark = build_import_update(row.user_id, row.id)
            .col_expr(Column::NotifiedAt, now())
            .filter(lock_or_skip_row_condition(row.user_id, row.id));
        if run_guarded_update(&tx, mark).await? {
            marked.push(row.id);
        }
    }
    tx.commit().await?;
    Ok(marked)
}

/// The SQL condition that a worker holds the lease of an import, by the clock of the database. A lease that
/// lasts longer than any lease can last was given before that clock was set back, and does not count.
pub(super) fn has_lease_condition(backend: DbBackend) -> Condition {
    let now = || dialect::now_ms_expr(backend);
    Condition::all()
        .add(Column::LeaseUntil.is_not_null())
        .add(Expr::col(Column::LeaseUntil).gte(now()))
        .add(Expr::col(Column::LeaseUntil).lte(now().add(LEASE_TTL_MS)))
}

/// Returns how long the runnable import that waits longest has waited, in milliseconds; 0 if none waits.
///
/// Plan: it reads the imports in the states that workers work on by the index `import_job_runnable (state,
/// notified_at)`.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn longest_wait_ms(store: &Store) -> Result<i64, Error> {
    let backend = store.reader().backend();
    let since = Func::coalesce([Column::LeaseUntil, Column::NotBefore, Column::CreatedAt].map(Expr::col));
    let wait: Option<(Option<i64>,)> = Entity::find()
        .filter(runnable_condition(backend))
        .select_only()
        .expr_as(Expr::expr(dialect::now_ms_expr(backend).sub(since)).max(), "wait")
        .into_tuple()
        .one(store.reader())
        .await?;
    Ok(Ord::max(wait.and_then(|(wait,)| wait).unwrap_or_default(), 0))
}

/// The SQL condition that no other transaction has locked an import. On PostgreSQL it also locks the row
/// until the end of this transaction. Upkeep skips locked rows instead of waiting for them.
///
/// ```sql
/// id IN (SELECT id FROM import_job WHERE user_id = $1 AND id = $2 FOR NO KEY UPDATE SKIP LOCKED)
/// ```
pub(super) fn lock_or_skip_row_condition(user_id: Uuid, id: Uuid) -> SimpleExpr {
    let row = Entity::find().select_only().column(Column::Id).filter(Column::UserId.eq(user_id));
    let row = row.filter(Column::Id.eq(id));
    let row = row.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
    Column::Id.in_subquery(row.into_query())
}
