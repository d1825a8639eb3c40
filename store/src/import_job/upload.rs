//! Records the arrival of the payload objects of an import.

use ::entity::import_job::Column;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ExprTrait, QueryFilter};
use tokio::time::Instant;
use uuid::Uuid;

use super::{build_import_update, run_guarded_update, state_value};
use crate::error::Error;
use crate::lock::{Lockable, begin_and_lock_row};
use crate::{Store, dialect, run_to_completion};
use domain::import::State;
use domain::payload_objects::PayloadObjects;

/// What changes in the row of an import when an object of its payload has been stored: the bytes and object
/// names before and after it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// How many bytes of the payload were received before this object.
    pub from: i64,
    /// The names of the objects that were received before this one.
    pub names_before: PayloadObjects,
    /// How many bytes of the payload are received, including this object.
    pub up_to: i64,
    /// The names of all received objects, including this one.
    pub names: PayloadObjects,
    /// Whether it is the last object of the payload.
    pub complete: bool,
}

/// Records in the row of an import that an object of its payload was stored. The last object makes the import
/// `QUEUED`. Returns false and records nothing if the row no longer has the bytes and names that `arrival`
/// says, or if the time for the upload is over.
///
/// # Errors
/// [`Error::Locked`] if another transaction holds the import for too long; [`Error::Busy`] if too many writes
/// wait; [`Error::Database`] if the database fails.
pub async fn record_object_arrival(
    store: &Store,
    user_id: Uuid,
    id: Uuid,
    arrival: Arrival,
) -> Result<bool, Error> {
    let Arrival { from, names_before, up_to, names, complete } = arrival;
    let state = if complete { State::Queued } else { State::AwaitingUpload };
    let update = build_import_update(user_id, id)
        .col_expr(Column::BytesReceived, up_to.into())
        .col_expr(Column::PayloadObjects, names.as_text().into())
        .col_expr(Column::State, state_value(state))
        .col_expr(Column::Problem, Expr::value(None::<String>))
        .filter(Column::State.eq(State::AwaitingUpload.name()))
        .filter(Column::BytesReceived.eq(from))
        .filter(Column::PayloadObjects.eq(names_before.as_text()))
        .filter(Expr::col(Column::UploadExpiresAt).gte(dialect::now_ms_expr(store.backend())));
    let store = store.clone();
    run_to_completion(async move {
        let (tx, _) = begin_and_lock_row(&store, user_id, Lockable::Import(id), Instant::now()).await?;
        let done = run_guarded_update(&tx, update).await?;
        tx.commit().await?;
        Ok(done)
    })
    .await
}
