//! What the sweeper looks for: imports that could run. Rows that somebody else holds are passed over.

use ::entity::import_job::{Column, Entity};
use sea_orm::sea_query::{Expr, Func, LockBehavior, LockType, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, DbBackend, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
};
use uuid::Uuid;

use super::{happened, one};
use crate::error::Error;
use crate::{Store, dialect};
use domain::import::State;
use domain::limits::{LEASE_TTL_MS, RETRY_LONGEST_MS};

/// An import that a worker may take now: queued, or to be taken back, or left behind by a worker that is
/// gone; and rested.
pub(super) fn runnable(backend: DbBackend) -> Condition {
    let now = || dialect::now_ms(backend);
    let held = [State::Running, State::RollingBack].map(State::name);
    let left = Condition::all().add(Column::State.is_in(held)).add(living_lease(backend).not());
    // A time that nobody can have set by this clock is past: the clock was set back.
    let rested = Condition::any()
        .add(Column::NotBefore.is_null())
        .add(Expr::col(Column::NotBefore).lte(now()))
        .add(Expr::col(Column::NotBefore).gt(now().add(2 * RETRY_LONGEST_MS)));
    let waits = Condition::any().add(Column::State.eq(State::Queued.name())).add(left);
    Condition::all().add(waits).add(rested)
}

/// Imports that could run and were not notified for lately: one of each user first, then the next of
/// each. Marks them as notified; those whose row somebody else holds are left out.
///
/// # Errors
/// When the database fails.
pub async fn due(store: &Store, notify_every_ms: i64, most: u64) -> Result<Vec<Uuid>, Error> {
    let tx = store.begin().await?;
    let backend = tx.backend();
    let now = || dialect::now_ms(backend);
    let rows = Entity::find()
        .filter(runnable(backend))
        .filter(
            Condition::any()
                .add(Column::NotifiedAt.is_null())
                .add(Expr::col(Column::NotifiedAt).lt(now().sub(notify_every_ms)))
                .add(Expr::col(Column::NotifiedAt).gt(now())),
        )
        .order_by_asc(Expr::cust("row_number() OVER (PARTITION BY user_id ORDER BY created_at, id)"))
        .order_by_asc(Column::CreatedAt)
        .limit(most)
        .all(&tx.inner)
        .await?;
    let mut marked = Vec::with_capacity(rows.len());
    for row in rows {
        let mark = one(row.user_id, row.id)
            .col_expr(Column::NotifiedAt, now())
            .filter(unlocked(row.user_id, row.id));
        if happened(mark, &tx.inner).await? {
            marked.push(row.id);
        }
    }
    tx.commit().await?;
    Ok(marked)
}

/// Leased to somebody, by the clock of the database. A lease that lasts longer than any was given before that clock was
/// set back.
pub(super) fn living_lease(backend: DbBackend) -> Condition {
    let now = || dialect::now_ms(backend);
    Condition::all()
        .add(Column::LeaseUntil.is_not_null())
        .add(Expr::col(Column::LeaseUntil).gte(now()))
        .add(Expr::col(Column::LeaseUntil).lte(now().add(LEASE_TTL_MS)))
}

/// How long the import has waited that could run and has waited longest, in milliseconds; 0 when none waits.
///
/// # Errors
/// When the database fails.
pub async fn longest_wait_ms(store: &Store) -> Result<i64, Error> {
    let backend = store.reader().backend();
    let since = Func::coalesce([Column::LeaseUntil, Column::NotBefore, Column::CreatedAt].map(Expr::col));
    let wait: Option<(Option<i64>,)> = Entity::find()
        .filter(runnable(backend))
        .select_only()
        .expr_as(Expr::expr(dialect::now_ms(backend).sub(since)).max(), "wait")
        .into_tuple()
        .one(store.reader())
        .await?;
    Ok(Ord::max(wait.and_then(|(wait,)| wait).unwrap_or_default(), 0))
}

/// That nobody else holds the row of an import. Whoever clears up passes over the others.
pub(super) fn unlocked(user_id: Uuid, id: Uuid) -> SimpleExpr {
    let row = Entity::find().select_only().column(Column::Id).filter(Column::UserId.eq(user_id));
    let row = row.filter(Column::Id.eq(id));
    let row = row.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
    Column::Id.in_subquery(row.into_query())
}
