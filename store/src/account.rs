//! Finds and creates the accounts of users, and reads and moves their feed heads.

use ::entity::{account, cluster_state};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, SimpleExpr};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use super::lock::{Lockable, begin_and_lock_row};
use super::row_reader::{Row, RowReader};
use super::{Store, Tx, run_to_completion};
use crate::error::Error;

/// The feed head of a user. Positions can be compared only within the same feed epoch and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The newest position that the feed has assigned.
    pub feed_head: i64,
    /// The feed epoch of this user, a random number.
    pub feed_epoch: i64,
    /// The generation of all feeds; 0 until the first failover or restore.
    pub generation: i64,
}

/// Returns the id of the user that a token names, and creates the account row if there is none. The process
/// keeps the id in a cache, which it asks before the database.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn find_or_create_user_id(store: &Store, issuer: &str, subject: &str) -> Result<Uuid, Error> {
    let identity = (issuer.to_owned(), subject.to_owned());
    let cached = store.users.lock().ok().and_then(|mut users| users.get(&identity).copied());
    if let Some(user_id) = cached {
        return Ok(user_id);
    }
    // Plan: one lookup in the unique index `account_identity (issuer, subject)`.
    let stored = account::Entity::find()
        .filter(account::Column::Issuer.eq(issuer))
        .filter(account::Column::Subject.eq(subject))
        .one(&store.reader)
        .await?;
    let user_id = match stored {
        Some(row) => row.user_id,
        None => {
            let (store, issuer, subject) = (store.clone(), issuer.to_owned(), subject.to_owned());
            run_to_completion(async move { create_account(&store, &issuer, &subject).await }).await?
        }
    };
    if let Ok(mut users) = store.users.lock() {
        users.put(identity, user_id);
    }
    Ok(user_id)
}

async fn create_account(store: &Store, issuer: &str, subject: &str) -> Result<Uuid, Error> {
    let name = serde_json::json!([issuer, subject]).to_string();
    let user_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
    let tx = store.begin().await?;
    insert_account_if_missing(&tx, user_id, issuer, subject).await?;
    tx.commit().await?;
    Ok(user_id)
}

async fn insert_account_if_missing(tx: &Tx, user_id: Uuid, issuer: &str, subject: &str) -> Result<(), Error> {
    let row = account::ActiveModel {
        user_id: Set(user_id),
        issuer: Set(issuer.to_owned()),
        subject: Set(subject.to_owned()),
        feed_head: Set(0),
        feed_epoch: Set(tx.store.clock.random_i64()),
        revision: Set(0),
    };
    let insert = account::Entity::insert(row).on_conflict(OnConflict::new().do_nothing().to_owned());
    tx.execute(&insert).await.map(drop)
}

/// Returns the issuer and the subject of a user, if the cache of this process still has them from a token. It
/// does not ask the database.
fn find_cached_identity(store: &Store, user_id: Uuid) -> Option<(String, String)> {
    let users = store.users.lock().ok()?;
    users.iter().find(|(_, id)| **id == user_id).map(|(identity, _)| identity.clone())
}

/// Creates the account row of a user again, within the transaction of the caller, and logs a warning. The row
/// can be missing after a backup was restored under the running process. The new feed starts at 0 in a new
/// epoch, and the devices of the user bring the lost data back (decision 0025).
///
/// # Errors
/// [`Error::Moved`] if this process does not know the identity of the user; [`Error::Database`] if the
/// database fails.
pub(super) async fn recreate_account(tx: &Tx, user_id: Uuid) -> Result<(), Error> {
    let Some((issuer, subject)) = find_cached_identity(&tx.store, user_id) else {
        return Err(Error::Moved);
    };
    tracing::warn!(user.id = %user_id, "the account row of a user is missing and is created again");
    insert_account_if_missing(tx, user_id, &issuer, &subject).await
}

/// Removes a user from the cache, so that the next request looks the identity up in the database. Returns
/// [`Error::Moved`] for this request.
pub(super) fn evict_user_and_build_error(store: &Store, user_id: Uuid) -> Error {
    if let Some(identity) = find_cached_identity(store, user_id)
        && let Ok(mut users) = store.users.lock()
    {
        users.pop(&identity);
    }
    Error::Moved
}

/// The SQL expression for the revision of an account row plus one. Every transaction that changes what a
/// decision reads increments the revision.
fn next_revision_expr() -> SimpleExpr {
    Expr::col(account::Column::Revision).add(1)
}

/// Begins a new feed epoch for a user, if the epoch is still `epoch` and the feed head is before `known`, a
/// position that a client knows. Otherwise it changes nothing. It waits for the lock of the account.
///
/// A client can know a position that the feed has not assigned only if a backup was restored. The changes
/// that were lost with it may still be on other devices, so all of them have to start over.
///
/// # Errors
/// [`Error::Locked`] if another transaction holds the account for too long; [`Error::Busy`] if too many
/// writes wait; [`Error::Database`] if the database fails.
pub async fn renew_feed_epoch(store: &Store, user_id: Uuid, epoch: i64, known: i64) -> Result<(), Error> {
    let renew = account::Entity::update_many()
        .col_expr(account::Column::FeedEpoch, store.clock.random_i64().into())
        .col_expr(account::Column::Revision, next_revision_expr())
        .filter(account::Column::UserId.eq(user_id))
        .filter(account::Column::FeedEpoch.eq(epoch))
        .filter(account::Column::FeedHead.lt(known));
    let store = store.clone();
    run_to_completion(async move {
        let (tx, _) = begin_and_lock_row(&store, user_id, Lockable::Account, Instant::now()).await?;
        tx.execute(&renew).await?;
        tx.commit().await
    })
    .await
}

/// Begins a new generation of the feeds of all users, after a backup was restored. Every device then gets a
/// reset, starts over, and sends again what the backup lacks.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn renew_generation(store: &Store) -> Result<(), Error> {
    // A random number, because the database that was lost may have begun further generations. Never 0, which
    // stands for the first one.
    let generation = store.clock.random_i64() | 1;
    let tx = store.begin().await?;
    let renew =
        cluster_state::Entity::update_many().col_expr(cluster_state::Column::Generation, generation.into());
    tx.execute(&renew).await?;
    tx.commit().await
}

/// Reads the feed head of a user. If the account row is missing, it is created again in a transaction of its
/// own.
///
/// # Errors
/// [`Error::Moved`] if the row is missing and this process does not know the identity of the user;
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn load_head_or_recreate_account(store: &Store, user_id: Uuid) -> Result<Head, Error> {
    if let Some(head) = select_feed_head(store, user_id).await? {
        return Ok(head);
    }
    let shared = store.clone();
    run_to_completion(async move {
        let tx = shared.begin().await?;
        recreate_account(&tx, user_id).await?;
        tx.commit().await
    })
    .await?;
    select_feed_head(store, user_id).await?.ok_or_else(|| evict_user_and_build_error(store, user_id))
}

/// Reads the feed head of a user. Returns `None` if there is no account row.
///
/// Plan: one lookup by the primary key of `account`, and one of the single row of `cluster_state`.
async fn select_feed_head(store: &Store, user_id: Uuid) -> Result<Option<Head>, Error> {
    let sql = "SELECT feed_head, feed_epoch, (SELECT generation FROM cluster_state WHERE id = 1) \
        FROM account WHERE user_id = $1";
    let statement = Statement::from_sql_and_values(store.reader.backend(), sql, [user_id.into()]);
    let row = store.reader.query_one_raw(statement).await?;
    row.map(|row| {
        let mut reader = RowReader::new(Row::from_query_result(&row)?, 0);
        Ok(Head { feed_head: reader.next()?, feed_epoch: reader.next()?, generation: reader.next()? })
    })
    .transpose()
}
