//! What is cleared away of imports: uploads that never came, payloads and rejections that were kept long
//! enough. Looked for of everybody, each step guarded for itself.

use ::entity::import_job::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::due::unlocked;
use super::{happened, one, to, write_problem};
use crate::error::Error;
use crate::{Store, Tx, dialect, import_rejection};
use domain::import::State;
use domain::problem::{Code, Problem};

/// Ends imports whose payload did not arrive in time; returns them.
///
/// # Errors
/// When the database fails.
pub async fn expire(store: &Store, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    let now = || dialect::now_ms(store.backend());
    let late = Condition::all()
        .add(Column::State.eq(State::AwaitingUpload.name()))
        .add(Expr::col(Column::UploadExpiresAt).lt(now()));
    let problem = Problem::new(Code::UploadExpired, "the payload did not arrive in time");
    let rows = Entity::find().filter(late.clone()).limit(most).all(store.reader()).await?;
    let mut ended = Vec::new();
    for row in rows {
        let tx = store.begin().await?;
        let update = one(row.user_id, row.id)
            .col_expr(Column::State, to(State::Failed))
            .col_expr(Column::Problem, Expr::value(write_problem(&problem)))
            .col_expr(Column::FinishedAt, now())
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

/// Whether the time is over in which the payload of an import may arrive, by the clock of the database.
///
/// # Errors
/// When the database fails.
pub async fn is_upload_over(store: &Store, user_id: Uuid, id: Uuid) -> Result<bool, Error> {
    let late = Expr::col(Column::UploadExpiresAt).lt(dialect::now_ms(store.backend()));
    let late = Entity::find_by_id((user_id, id)).filter(late).count(store.reader()).await?;
    Ok(late > 0)
}

/// Ended, and this of it still kept.
fn ended(kept: Column) -> Condition {
    let ended = State::ALL.into_iter().filter(|state| state.is_final()).map(State::name);
    Condition::all().add(Column::State.is_in(ended)).add(kept.is_null())
}

/// Ended so long ago by the clock of the database, which decides wherever something is thrown away.
async fn stale(store: &Store, kept_ms: i64, kept: Column, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    let before = dialect::now_ms(store.backend()).sub(kept_ms);
    let rows = Entity::find()
        .filter(ended(kept))
        .filter(Expr::col(Column::FinishedAt).lt(before))
        .order_by_asc(Column::FinishedAt)
        .limit(most)
        .all(store.reader())
        .await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.id)).collect())
}

/// Imports that ended longer than so many milliseconds ago, whose payload is still kept.
///
/// # Errors
/// When the database fails.
pub async fn stale_payloads(store: &Store, kept_ms: i64, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    stale(store, kept_ms, Column::PayloadRemovedAt, most).await
}

/// Imports that ended longer than so many milliseconds ago, whose rejections are still kept.
///
/// # Errors
/// When the database fails.
pub async fn stale_rejections(store: &Store, kept_ms: i64, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    stale(store, kept_ms, Column::RejectionsRemovedAt, most).await
}

/// The objects of a payload are gone; what its rejections quote of it goes as well.
///
/// # Errors
/// When the database fails.
pub async fn forget_payload(store: &Store, user_id: Uuid, id: Uuid) -> Result<(), Error> {
    let tx = store.begin().await?;
    if forget(&tx, user_id, id, Column::PayloadRemovedAt).await? {
        import_rejection::forget_excerpts(&tx, user_id, id).await?;
    }
    tx.commit().await
}

/// Removes the rejections of an import; its counts stay.
///
/// # Errors
/// When the database fails.
pub async fn forget_rejections(store: &Store, user_id: Uuid, id: Uuid) -> Result<(), Error> {
    let tx = store.begin().await?;
    if forget(&tx, user_id, id, Column::RejectionsRemovedAt).await? {
        import_rejection::remove(&tx, user_id, id).await?;
    }
    tx.commit().await
}

async fn forget(tx: &Tx, user_id: Uuid, id: Uuid, kept: Column) -> Result<bool, Error> {
    let update = one(user_id, id)
        .col_expr(kept, dialect::now_ms(tx.backend()))
        .filter(ended(kept))
        .filter(unlocked(user_id, id));
    happened(update, &tx.inner).await
}
