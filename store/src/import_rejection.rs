//! Stores and reads the rejections of imports: records that were refused, or that differ from the stored
//! event.

use ::entity::import_rejection::{ActiveModel, Column, Entity, Model};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::page::{Page, Window};
use super::{Store, Tx};
use crate::error::Error;
use domain::import::Rejection;
use domain::problem::Code;

/// Stores rejections of records of an import, within the transaction of their chunk. A record that has a
/// rejection already keeps it.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn insert(
    tx: &Tx,
    user_id: Uuid,
    import_id: Uuid,
    rejections: Vec<Rejection>,
) -> Result<(), Error> {
    if rejections.is_empty() {
        return Ok(());
    }
    let rows = rejections.into_iter().map(|rejection| ActiveModel {
        user_id: Set(user_id),
        import_job_id: Set(import_id),
        record: Set(rejection.record),
        line: Set(rejection.line),
        pointer: Set(rejection.pointer),
        code: Set(rejection.code.name().to_owned()),
        detail: Set(rejection.detail),
        excerpt: Set(rejection.excerpt),
    });
    let insert = Entity::insert_many(rows).on_conflict(OnConflict::new().do_nothing().to_owned());
    tx.execute(&insert).await.map(drop)
}

/// Returns a page of the rejections of an import, in the order of the records. Only `after` and `size` of the
/// window are used.
///
/// Plan: it walks the primary key `(user_id, import_job_id, record)` from the last record, and stops at the
/// limit.
///
/// # Errors
/// [`Error::Database`] if the database fails; [`Error::Bug`] if a stored problem code is not known.
pub async fn load_page(
    store: &Store,
    user_id: Uuid,
    import_id: Uuid,
    window: &Window<i64>,
) -> Result<Page<Rejection>, Error> {
    let mut query =
        Entity::find().filter(Column::UserId.eq(user_id)).filter(Column::ImportJobId.eq(import_id));
    if let Some(record) = window.after {
        query = query.filter(Column::Record.gt(record));
    }
    let rows = query.order_by_asc(Column::Record).limit(window.query_limit()).all(store.reader()).await?;
    Ok(window.page_of_rows(rows.into_iter().map(to_rejection).collect::<Result<_, _>>()?))
}

/// Counts the stored rejections of an import.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn count_rejections_of_import(store: &Store, user_id: Uuid, import_id: Uuid) -> Result<u64, Error> {
    let query = Entity::find().filter(Column::UserId.eq(user_id)).filter(Column::ImportJobId.eq(import_id));
    Ok(query.count(store.reader()).await?)
}

/// Deletes all rejections of an import, within the transaction of the caller.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn delete_rejections_of_import(tx: &Tx, user_id: Uuid, import_id: Uuid) -> Result<(), Error> {
    let delete =
        Entity::delete_many().filter(Column::UserId.eq(user_id)).filter(Column::ImportJobId.eq(import_id));
    tx.execute(&delete).await.map(drop)
}

/// Replaces the excerpts of records in the rejections of an import by empty texts, within the transaction of
/// the caller. The rejections stay.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn clear_excerpts(tx: &Tx, user_id: Uuid, import_id: Uuid) -> Result<(), Error> {
    let clear = Entity::update_many()
        .col_expr(Column::Excerpt, Expr::value(""))
        .filter(Column::UserId.eq(user_id))
        .filter(Column::ImportJobId.eq(import_id));
    tx.execute(&clear).await.map(drop)
}

fn to_rejection(model: Model) -> Result<Rejection, Error> {
    Ok(Rejection {
        record: model.record,
        line: model.line,
        pointer: model.pointer,
        code: Code::from_name(&model.code).ok_or(Error::Bug("a stored problem code is a known name"))?,
        detail: model.detail,
        excerpt: model.excerpt,
    })
}
