//! Removes what imports no longer need: uploads that never came, and payloads and rejections whose retention
//! is over.
//!
//! It looks for them among all users. Each change is guarded by itself, so several sweepers may run at the
//! same time.

use ::entity::import_job::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::due::lock_or_skip_row_condition;
use super::{build_import_update, problem_to_json, run_guarded_update, state_value};
use crate::error::Error;
use crate::{Store, Tx, dialect, import_rejection};
use domain::import::State;
use domain::problem::{Code, Problem};

/// Sets up to `most` imports of all users to `FAILED` whose payload did not arrive in time. Returns their
/// users and ids.
///
/// Plan: it reads the imports that await their payload by the index `import_job_runnable (state,
/// notified_at)`.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn fail_expired_uploads(store: &Store, most: u64) -> Result<Vec<(Uuid, Uuid)>, Error> {
    let now = || dialect::now_ms_expr(store.backend());
    let late = Condition::all()
        .add(Column::State.eq(State::AwaitingUpload.name()))
        .add(Expr::col(Column::UploadExpiresAt).lt(now()));
    let problem = Problem::new(Code::UploadExpired, "the payload did not arrive in time");
    let rows = Entity::find().filter(late.clone()).limit(most).all(store.reader()).await?;
    let mut ended = Vec::new();
    for row in rows {
        let tx = store.begin().await?;
        let update = build_import_update(row.user_id, row.id)
            .col_expr(Column::State, state_value(State::Failed))
            .col_expr(Column::Problem, Expr::value(problem_to_json(&problem)))
            .col_expr(Column::FinishedAt, now())
            .filter(late.clone())
            .filter(lock_or_skip_row_condition(row.user_id, row.id));
        let done = run_guarded_update(&tx, update).await?;
        tx.commit().await?;
        if done {
            ended.push((row.user_id, row.id));
        }
    }
    Ok(ended)
}

/// Whether the time for the upload of an import is over, by the clock of the database.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn is_upload_expired(store: &Store, user_id: Uuid, id: Uuid) -> Result<bool, Error> {
    let late = Expr::col(Column::UploadExpiresAt).lt(dialect::now_ms_expr(store.backend()));
    let late = Entity::find_by_id((user_id, id)).filter(late).count(store.reader()).await?;
    Ok(late > 0)
}

/// The SQL condition that an import has ended and that something of it is still kept: the column `removed_at`
/// is null.
fn ended_and_kept_condition(removed_at: Column) -> Condition {
    let ended = State::ALL.into_iter().filter(|state| state.has_ended()).map(State::name);
    Condition::all().add(Column::State.is_in(ended)).add(removed_at.is_null())
}

/// Returns up to `most` imports of all users that ended more than `kept_ms` ago and whose column `removed_at`
/// is null. The clock of the database decides, as it does for everything that is removed.
///
/// Plan: it walks `import_job_payload_kept (finished_at) WHERE payload_removed_at IS NULL`, or the same index
/// for rejections, the oldest first.
async fn find_imports_past_retention(
    store: &Store,
    kept_ms: i64,
    removed_at: Column,
    most: u64,
) -> Result<Vec<(Uuid, Uuid)>, Error> {
    let before = dialect::now_ms_expr(store.backend()).sub(kept_ms);
    let rows = Entity::find()
        .filter(ended_and_kept_condition(removed_at))
        .filter(Expr::col(Column::FinishedAt).lt(before))
        .order_by_asc(Column::FinishedAt)
        .limit(most)
        .all(store.reader())
        .await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.id)).collect())
}

/// Returns users and ids of up to `most` imports that ended more than `kept_ms` milliseconds ago and still
/// have their payload. It removes nothing.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn find_payloads_past_retention(
    store: &Store,
    kept_ms: i64,
    most: u64,
) -> Result<Vec<(Uuid, Uuid)>, Error> {
    find_imports_past_retention(store, kept_ms, Column::PayloadRemovedAt, most).await
}

/// Returns users and ids of up to `most` imports that ended more than `kept_ms` milliseconds ago and still
/// have their rejections. It removes nothing.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn find_rejections_past_retention(
    store: &Store,
    kept_ms: i64,
    most: u64,
) -> Result<Vec<(Uuid, Uuid)>, Error> {
    find_imports_past_retention(store, kept_ms, Column::RejectionsRemovedAt, most).await
}

/// Records that the caller has removed the objects of a payload, and clears the excerpts of it in the
/// rejections. It does nothing if that is recorded already, or another transaction has locked the import.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn mark_payload_and_excerpts_removed(store: &Store, user_id: Uuid, id: Uuid) -> Result<(), Error> {
    let tx = store.begin().await?;
    if set_removed_at(&tx, user_id, id, Column::PayloadRemovedAt).await? {
        import_rejection::clear_excerpts(&tx, user_id, id).await?;
    }
    tx.commit().await
}

/// Deletes the rejections of an import that has ended. Its counts stay. It does nothing if that was done
/// before, or another transaction has locked the import.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn remove_rejections(store: &Store, user_id: Uuid, id: Uuid) -> Result<(), Error> {
    let tx = store.begin().await?;
    if set_removed_at(&tx, user_id, id, Column::RejectionsRemovedAt).await? {
        import_rejection::delete_rejections_of_import(&tx, user_id, id).await?;
    }
    tx.commit().await
}

/// Sets the given column to the present time, and removes nothing. Returns false if it is set already, the
/// import has not ended, or another transaction has locked the row.
async fn set_removed_at(tx: &Tx, user_id: Uuid, id: Uuid, removed_at: Column) -> Result<bool, Error> {
    let update = build_import_update(user_id, id)
        .col_expr(removed_at, dialect::now_ms_expr(tx.backend()))
        .filter(ended_and_kept_condition(removed_at))
        .filter(lock_or_skip_row_condition(user_id, id));
    run_guarded_update(tx, update).await
}
