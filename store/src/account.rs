//! Users and the heads of their feeds.

use ::entity::{account, cluster_state};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, SimpleExpr};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use super::lock::{Lockable, begin_locked};
use super::row_reader::{Row, RowReader};
use super::{Store, Tx, to_its_end};
use crate::error::Error;

/// The newest position of a user, and of which counting it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The newest position handed out.
    pub feed_head: i64,
    /// Of which counting.
    pub feed_epoch: i64,
    /// Of which generation of all feeds.
    pub generation: i64,
}

/// The id of the user that a token names; the row is made when a process first sees them.
///
/// # Errors
/// When the database fails.
pub async fn resolve(store: &Store, issuer: &str, subject: &str) -> Result<Uuid, Error> {
    let identity = (issuer.to_owned(), subject.to_owned());
    let cached = store.users.lock().ok().and_then(|mut users| users.get(&identity).copied());
    if let Some(user_id) = cached {
        return Ok(user_id);
    }
    let found = account::Entity::find()
        .filter(account::Column::Issuer.eq(issuer))
        .filter(account::Column::Subject.eq(subject))
        .one(&store.reader)
        .await?;
    let user_id = match found {
        Some(row) => row.user_id,
        None => {
            let (store, issuer, subject) = (store.clone(), issuer.to_owned(), subject.to_owned());
            to_its_end(async move { create(&store, &issuer, &subject).await }).await?
        }
    };
    if let Ok(mut users) = store.users.lock() {
        users.put(identity, user_id);
    }
    Ok(user_id)
}

async fn create(store: &Store, issuer: &str, subject: &str) -> Result<Uuid, Error> {
    let name = serde_json::json!([issuer, subject]).to_string();
    let user_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
    let tx = store.begin().await?;
    insert(&tx, user_id, issuer, subject).await?;
    tx.commit().await?;
    Ok(user_id)
}

async fn insert(tx: &Tx, user_id: Uuid, issuer: &str, subject: &str) -> Result<(), Error> {
    let row = account::ActiveModel {
        user_id: Set(user_id),
        issuer: Set(issuer.to_owned()),
        subject: Set(subject.to_owned()),
        feed_head: Set(0),
        feed_epoch: Set(tx.store.clock.random()),
        revision: Set(0),
    };
    account::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(&tx.inner)
        .await?;
    Ok(())
}

/// The issuer and the subject of a user whom this process has seen.
fn seen(store: &Store, user_id: Uuid) -> Option<(String, String)> {
    let users = store.users.lock().ok()?;
    users.iter().find(|(_, id)| **id == user_id).map(|(identity, _)| identity.clone())
}

/// Makes the row of a user anew that is gone: a backup was put in place under the running process.
pub(super) async fn make_anew(tx: &Tx, user_id: Uuid) -> Result<(), Error> {
    let Some((issuer, subject)) = seen(&tx.store, user_id) else {
        return Err(Error::Moved);
    };
    tracing::warn!(user.id = %user_id, "the row of a user is gone and is made anew");
    insert(tx, user_id, &issuer, &subject).await
}

/// Forgets whom an identity stands for, so that the next request looks it up.
pub(super) fn forget(store: &Store, user_id: Uuid) -> Error {
    if let Some(identity) = seen(store, user_id)
        && let Ok(mut users) = store.users.lock()
    {
        users.pop(&identity);
    }
    Error::Moved
}

/// The revision of a row that is changed.
fn next_revision() -> SimpleExpr {
    Expr::col(account::Column::Revision).add(1)
}

/// Moves a head that this transaction has locked. Returns how many were moved: none when it is not where it
/// was.
///
/// # Errors
/// When the database fails.
pub(super) async fn advance(tx: &Tx, user_id: Uuid, from: i64, to: i64) -> Result<u64, Error> {
    let moved = account::Entity::update_many()
        .col_expr(account::Column::FeedHead, to.into())
        .col_expr(account::Column::Revision, next_revision())
        .filter(account::Column::UserId.eq(user_id))
        .filter(account::Column::FeedHead.eq(from))
        .exec(&tx.inner)
        .await?;
    Ok(moved.rows_affected)
}

/// Begins a new counting when somebody knows a position that was never handed out: a backup was
/// restored, and what was lost with it may be on other devices.
///
/// # Errors
/// When the database fails.
pub async fn renew_epoch(store: &Store, user_id: Uuid, epoch: i64, known: i64) -> Result<(), Error> {
    let renew = account::Entity::update_many()
        .col_expr(account::Column::FeedEpoch, store.clock.random().into())
        .col_expr(account::Column::Revision, next_revision())
        .filter(account::Column::UserId.eq(user_id))
        .filter(account::Column::FeedEpoch.eq(epoch))
        .filter(account::Column::FeedHead.lt(known));
    let store = store.clone();
    to_its_end(async move {
        let (tx, _) = begin_locked(&store, user_id, Lockable::Account, Instant::now()).await?;
        renew.exec(&tx.inner).await?;
        tx.commit().await
    })
    .await
}

/// Begins a new generation of all feeds, because a backup was restored: each device is told to start over and brings
/// back what the backup had lost.
///
/// # Errors
/// When the database fails.
pub async fn renew_all(store: &Store) -> Result<(), Error> {
    // Random: the database that was lost may have counted on.
    let generation = store.clock.random() | 1;
    let tx = store.begin().await?;
    cluster_state::Entity::update_many()
        .col_expr(cluster_state::Column::Generation, generation.into())
        .exec(&tx.inner)
        .await?;
    tx.commit().await
}

/// The head as it is now. Where the row is gone it is made.
///
/// # Errors
/// When the database fails, or nobody knows whose row is gone.
pub async fn head(store: &Store, user_id: Uuid) -> Result<Head, Error> {
    if let Some(head) = find_head(store, user_id).await? {
        return Ok(head);
    }
    let own = store.clone();
    to_its_end(async move {
        let tx = own.begin().await?;
        make_anew(&tx, user_id).await?;
        tx.commit().await
    })
    .await?;
    find_head(store, user_id).await?.ok_or_else(|| forget(store, user_id))
}

async fn find_head(store: &Store, user_id: Uuid) -> Result<Option<Head>, Error> {
    let sql = "SELECT feed_head, feed_epoch, (SELECT generation FROM cluster_state WHERE id = 1) \
        FROM account WHERE user_id = $1";
    let statement = Statement::from_sql_and_values(store.reader.backend(), sql, [user_id.into()]);
    let row = store.reader.query_one_raw(statement).await?;
    row.map(|row| {
        let mut cells = RowReader::new(Row::of(&row)?, 0);
        Ok(Head { feed_head: cells.next()?, feed_epoch: cells.next()?, generation: cells.next()? })
    })
    .transpose()
}
