//! What is cleared away of imports: uploads that never came, payloads and rejections that were kept long
//! enough. Looked for of everybody, each step guarded for itself.

use ::entity::import_job::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::due::unlocked;
use super::{happened, one, to, write_problem};
use crate::error::Error;
use crate::rules::import::State;
use crate::rules::problem::{Code, Problem};
use crate::store::{Store, import_rejection};

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
            .filter(late.clone())
            .filter(unlocked(row.user_id, row.id));
        let done = happened(update, &tx.inner).await?;
        tx.commit().await?;
        if done {
            ended.push((row.user_id, row.id));
        }
    }
    Ok(ended)
}

/// Ended before this instant, and this of it still kept.
fn ended_before(ms: i64, kept: Column) -> Condition {
    let ended = State::ALL.into_iter().filter(|state| state.is_final()).map(State::name);
    Condition::all().add(Column::State.is_in(ended)).add(Column::FinishedAt.lt(ms)).add(kept.is_null())
}

async fn stale(store: &Store, before_ms: i64, kept: Column, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    let rows = Entity::find()
        .filter(ended_before(before_ms, kept))
        .order_by_asc(Column::FinishedAt)
        .limit(most)
        .all(store.reader())
        .await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.id)).collect())
}

/// Imports that ended before this instant, whose payload is still kept.
///
/// # Errors
/// When the database fails.
pub async fn stale_payloads(store: &Store, before_ms: i64, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    stale(store, before_ms, Column::PayloadRemovedAt, most).await
}

/// Imports that ended before this instant, whose rejections are still kept.
///
/// # Errors
/// When the database fails.
pub async fn stale_rejections(store: &Store, before_ms: i64, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    stale(store, before_ms, Column::RejectionsRemovedAt, most).await
}

/// The objects of a payload are gone; what its rejections quote of it goes as well.
///
/// # Errors
/// When the database fails.
pub async fn forget_payload(store: &Store, user_id: Uuid, id: Uuid) -> Result<(), Error> {
    let now_ms = store.clock.now_ms();
    let tx = store.begin().await?;
    let update = one(user_id, id)
        .col_expr(Column::PayloadRemovedAt, now_ms.into())
        .filter(ended_before(now_ms + 1, Column::PayloadRemovedAt))
        .filter(unlocked(user_id, id));
    if happened(update, &tx.inner).await? {
        import_rejection::forget_excerpts(&tx, user_id, id).await?;
    }
    tx.commit().await
}

/// Removes the rejections of an import; its counts stay.
///
/// # Errors
/// When the database fails.
pub async fn forget_rejections(store: &Store, user_id: Uuid, id: Uuid) -> Result<(), Error> {
    let now_ms = store.clock.now_ms();
    let tx = store.begin().await?;
    let update = one(user_id, id)
        .col_expr(Column::RejectionsRemovedAt, now_ms.into())
        .filter(ended_before(now_ms + 1, Column::RejectionsRemovedAt))
        .filter(unlocked(user_id, id));
    if happened(update, &tx.inner).await? {
        import_rejection::remove(&tx, user_id, id).await?;
    }
    tx.commit().await
}
