//! Waiting for the row of a user that somebody else has locked.
//!
//! Whoever has to wait takes nothing that others need. Of each user one write at a time asks for a lock, and the
//! others queue in memory. A lock that is free is taken on any connection; one that is not is waited for on a few
//! connections that are kept for that, a moment at a time, so that users whose locks come free soon get past those
//! whose locks do not. After [`LOCK_WAIT_MS_MAX`] the write is given up, and with it those that queue after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::sync::{Mutex as FairMutex, Notify, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{Store, Tx};
use crate::error::Error;
use domain::fault_injection;
use domain::limits::{ANSWER_MS_MAX, LOCK_TURN_MS_MAX, LOCK_WAIT_MS_MAX, LOCK_WAITING_OF_USER_MAX};

const LOCK_WAIT_MAX: Duration = Duration::from_millis(LOCK_WAIT_MS_MAX);
const LOCK_TURN_MAX: Duration = Duration::from_millis(LOCK_TURN_MS_MAX);
/// A write waits as long for others of its user as for its answer.
const TURN_MAX: Duration = Duration::from_millis(ANSWER_MS_MAX);

/// A row of a user that is locked before what belongs to it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lockable {
    /// The user's own row, with the head of their feed.
    Account,
    /// The import of this id.
    Import(Uuid),
}

/// The users who ask for locks in this process, each one write at a time.
#[derive(Debug, Default)]
pub(super) struct LockQueues(Mutex<HashMap<Uuid, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    permit: Arc<FairMutex<()>>,
    /// Tells those who wait for the permit that the lock cannot be had.
    abandoned: Arc<Notify>,
    /// Who has the permit, and who waits for it.
    waiters: usize,
}

/// A user's permit to ask for a lock.
#[derive(Debug)]
pub(super) struct LockPermit {
    waiter: Waiter,
    _permit: OwnedMutexGuard<()>,
}

#[derive(Debug)]
struct Waiter {
    queues: Arc<LockQueues>,
    user_id: Uuid,
    abandoned: Arc<Notify>,
}

impl LockQueues {
    /// Waits for the permit of a user, in order of arrival.
    pub(super) async fn enter(self: &Arc<Self>, user_id: Uuid) -> Result<LockPermit, Error> {
        let (waiter, permit) = self.join(user_id)?;
        let abandoned = Arc::clone(&waiter.abandoned);
        tokio::select! {
            biased;
            () = abandoned.notified() => Err(Error::Locked),
            permit = permit.lock_owned() => Ok(LockPermit { waiter, _permit: permit }),
            () = sleep(TURN_MAX) => Err(Error::Locked),
        }
    }

    fn join(self: &Arc<Self>, user_id: Uuid) -> Result<(Waiter, Arc<FairMutex<()>>), Error> {
        let mut queues = self.0.lock().map_err(|_| Error::Busy)?;
        let queue = queues.entry(user_id).or_default();
        if queue.waiters >= LOCK_WAITING_OF_USER_MAX {
            return Err(Error::Busy);
        }
        queue.waiters += 1;
        let (queues, abandoned) = (Arc::clone(self), Arc::clone(&queue.abandoned));
        Ok((Waiter { queues, user_id, abandoned }, Arc::clone(&queue.permit)))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Ok(mut queues) = self.queues.0.lock() else { return };
        let Some(queue) = queues.get_mut(&self.user_id) else { return };
        queue.waiters -= 1;
        if queue.waiters == 0 {
            queues.remove(&self.user_id);
        }
    }
}

/// The right of one write to ask for the locks of its user.
struct LockRequest<'s> {
    store: &'s Store,
    user_id: Uuid,
    permit: Option<LockPermit>,
    deadline: Instant,
}

impl<'s> LockRequest<'s> {
    /// Waits for the permit of a user, for a write that has waited `since` then. On SQLite there is nothing to wait for
    /// but the one connection that writes.
    ///
    /// # Errors
    /// [`Error::Locked`] if those before have waited in vain, [`Error::Busy`] if too many wait.
    async fn begin(store: &'s Store, user_id: Uuid, since: Instant) -> Result<Self, Error> {
        let permit = match store.waiters {
            Some(_) => Some(store.lock_queues.enter(user_id).await?),
            None => None,
        };
        let deadline = (since + LOCK_WAIT_MAX).max(Instant::now() + LOCK_TURN_MAX);
        Ok(Self { store, user_id, permit, deadline })
    }

    /// Gives a transaction that holds its lock the permit: the next write of the user comes after it.
    fn granted(self, mut tx: Tx) -> Tx {
        tx.permit = self.permit;
        tx
    }

    /// Waits for a row that somebody else holds. Returns a transaction, and whether there is such a row: if so, the
    /// transaction holds its lock.
    ///
    /// # Errors
    /// [`Error::Locked`] if it was in vain.
    async fn wait_for(self, row: Lockable) -> Result<(Tx, bool), Error> {
        let abandoned = self.permit.as_ref().map(|permit| Arc::clone(&permit.waiter.abandoned));
        let waited = self.wait(row).await;
        if let (Err(Error::Locked), Some(abandoned)) = (&waited, abandoned) {
            abandoned.notify_waiters();
        }
        waited
    }

    async fn wait(self, row: Lockable) -> Result<(Tx, bool), Error> {
        let waiters = self.store.waiters.as_ref().ok_or(Error::Bug("on SQLite nobody waits for a row"))?;
        loop {
            let begun = timeout_at(self.deadline, Tx::begin(self.store, waiters)).await;
            let tx = begun.unwrap_or(Err(Error::Locked))?;
            match lock(&tx, self.user_id, row, "").await {
                Ok(is_there) => return Ok((self.granted(tx), is_there)),
                Err(error) if error.is_lock_timeout() && Instant::now() < self.deadline => {}
                Err(error) if error.is_lock_timeout() => return Err(Error::Locked),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Begins a transaction that holds the lock of a row, and tells whether there is such a row; `since` is when it began to
/// wait. On SQLite the transaction holds the lock of all rows.
///
/// # Errors
/// [`Error::Locked`] if somebody else holds it for too long, [`Error::Busy`] if too many wait for it.
pub(crate) async fn begin_locked(
    store: &Store,
    user_id: Uuid,
    row: Lockable,
    since: Instant,
) -> Result<(Tx, bool), Error> {
    let request = LockRequest::begin(store, user_id, since).await?;
    let tx = store.begin().await?;
    let is_there = lock(&tx, user_id, row, "SKIP LOCKED").await?;
    if is_there || tx.backend() != DbBackend::Postgres {
        return Ok((request.granted(tx), is_there));
    }
    tx.release().await?;
    request.wait_for(row).await
}

/// Locks a row until the end of the transaction; waits for it for as long as the connection allows. Returns whether
/// there is such a row.
///
/// # Errors
/// [`Error::Locked`] if somebody else holds it for too long.
pub(super) async fn lock_in_place(tx: &Tx, user_id: Uuid, row: Lockable) -> Result<bool, Error> {
    let locked = lock(tx, user_id, row, "").await;
    locked.map_err(|error| if error.is_lock_timeout() { Error::Locked } else { error })
}

async fn lock(tx: &Tx, user_id: Uuid, row: Lockable, unless_free: &str) -> Result<bool, Error> {
    let (sql, values) = match row {
        Lockable::Account => ("SELECT 1 FROM account WHERE user_id = $1", vec![user_id.into()]),
        Lockable::Import(id) => {
            ("SELECT 1 FROM import_job WHERE user_id = $1 AND id = $2", vec![user_id.into(), id.into()])
        }
    };
    // On SQLite whoever writes has the lock of all rows.
    let sql = match tx.backend() {
        DbBackend::Postgres if fault_injection::is_injected("plant-no-lock") => sql.to_owned(),
        DbBackend::Postgres => format!("{sql} FOR NO KEY UPDATE {unless_free}"),
        _ => sql.to_owned(),
    };
    let statement = Statement::from_sql_and_values(tx.backend(), sql, values);
    Ok(tx.inner.query_one_raw(statement).await?.is_some())
}
