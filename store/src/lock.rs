//! Locks a row of a user, and waits for it while another transaction holds it (decision 0059).
//!
//! A write that waits must not take connections that other users need. For each user one write at a time asks
//! for a lock, and the others queue in memory. A free lock is taken on any connection. A lock that is held is
//! awaited on three connections that exist for this, half a second at a time. So users whose locks come free
//! soon overtake those whose locks do not. After [`LOCK_WAIT_MS_MAX`] the write fails, and with it the writes
//! that queue here after it.
//!
//! A chunk of an import waits in another way: within its transaction, on its own connection, for as long as
//! the `lock_timeout` of that connection allows ([`lock_row_in_callers_transaction`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::{DbBackend, Statement};
use tokio::sync::{Mutex as FairMutex, Notify, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{Store, Tx};
use crate::error::Error;
use domain::fault_injection;
use domain::limits::{LOCK_ATTEMPT_MS_MAX, LOCK_WAIT_MS_MAX, LOCK_WAITING_OF_USER_MAX, RESPONSE_MS_MAX};

const LOCK_WAIT_MAX: Duration = Duration::from_millis(LOCK_WAIT_MS_MAX);
/// How long one attempt to lock a row may wait, on a connection that is reserved for waiting writes.
const LOCK_ATTEMPT_MAX: Duration = Duration::from_millis(LOCK_ATTEMPT_MS_MAX);
/// The longest that a write or a heavy read waits for the permit of its user in memory: as long as its client
/// waits for the response.
const QUEUE_WAIT_MAX: Duration = Duration::from_millis(RESPONSE_MS_MAX);

/// Which row of a user a transaction locks, before it changes the rows that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lockable {
    /// The account row of the user. It has the feed head and the revision.
    Account,
    /// The row of the user's import with this id.
    Import(Uuid),
}

/// The queues in the memory of this process, one for each user. One instance queues writes that need a lock
/// of the database, another one heavy reads. In each queue one write or read at a time has the permit.
#[derive(Debug, Default)]
pub(super) struct LockQueues(Mutex<HashMap<Uuid, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    permit: Arc<FairMutex<()>>,
    /// When it is notified, all writes that wait for the permit give up: the one before them could not lock
    /// the row in time.
    abandoned: Arc<Notify>,
    /// How many writes or heavy reads have the permit or wait for it.
    waiters: usize,
}

/// The permit to ask for a lock of one user, or to run a heavy read. A queue gives out one for each user at a
/// time; when it is dropped, the next in the queue gets it.
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
    /// Waits for the permit of a user, in order of arrival. This is in the memory of the process; the
    /// database is not used.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many writes or heavy reads of this user wait; [`Error::Locked`] if the wait
    /// takes too long, or if a write before this one could not get the lock.
    pub(super) async fn acquire_permit(self: &Arc<Self>, user_id: Uuid) -> Result<LockPermit, Error> {
        let (waiter, permit) = self.join_queue(user_id)?;
        let abandoned = Arc::clone(&waiter.abandoned);
        tokio::select! {
            biased;
            () = abandoned.notified() => Err(Error::Locked),
            permit = permit.lock_owned() => Ok(LockPermit { waiter, _permit: permit }),
            () = sleep(QUEUE_WAIT_MAX) => Err(Error::Locked),
        }
    }

    fn join_queue(self: &Arc<Self>, user_id: Uuid) -> Result<(Waiter, Arc<FairMutex<()>>), Error> {
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

/// A write that has the permit to lock a row of its user, and the time by which it must have the lock. On
/// SQLite there is no permit.
struct LockRequest<'s> {
    store: &'s Store,
    user_id: Uuid,
    permit: Option<LockPermit>,
    deadline: Instant,
}

impl<'s> LockRequest<'s> {
    /// Waits for the permit of a user, and locks no row yet. The time limit counts from `since`, when the
    /// write began to wait. SQLite needs no permit: all transactions wait for the same connection there.
    ///
    /// # Errors
    /// [`Error::Locked`] if the wait takes too long, or a write before this one could not get the lock;
    /// [`Error::Busy`] if too many writes wait.
    async fn wait_for_permit(store: &'s Store, user_id: Uuid, since: Instant) -> Result<Self, Error> {
        let permit = match store.waiters {
            Some(_) => Some(store.lock_queues.acquire_permit(user_id).await?),
            None => None,
        };
        let deadline = (since + LOCK_WAIT_MAX).max(Instant::now() + LOCK_ATTEMPT_MAX);
        Ok(Self { store, user_id, permit, deadline })
    }

    /// Moves the permit into the transaction that holds the lock. So the next write of the user gets the
    /// permit when that transaction ends.
    fn move_permit_into(self, mut tx: Tx) -> Tx {
        tx.permit = self.permit;
        tx
    }

    /// Begins a transaction and waits in it until it has locked a row that another transaction holds. Returns
    /// the transaction, and whether the row exists. If it does not, nothing is locked.
    ///
    /// # Errors
    /// [`Error::Locked`] if the lock did not come free in time; then the writes that queue after this one
    /// fail too. [`Error::Busy`] or [`Error::Database`] as in [`Store::begin`].
    async fn wait_and_begin_locked(self, row: Lockable) -> Result<(Tx, bool), Error> {
        let abandoned = self.permit.as_ref().map(|permit| Arc::clone(&permit.waiter.abandoned));
        let waited = self.retry_lock_until_deadline(row).await;
        if let (Err(Error::Locked), Some(abandoned)) = (&waited, abandoned) {
            abandoned.notify_waiters();
        }
        waited
    }

    async fn retry_lock_until_deadline(self, row: Lockable) -> Result<(Tx, bool), Error> {
        let waiters = self.store.waiters.as_ref().ok_or(Error::Bug("on SQLite no row lock is awaited"))?;
        loop {
            let tx = timeout_at(self.deadline, Tx::begin_on_postgres(self.store, waiters)).await;
            let tx = tx.unwrap_or(Err(Error::Locked))?;
            match lock_row(&tx, self.user_id, row, "").await {
                Ok(is_there) => return Ok((self.move_permit_into(tx), is_there)),
                Err(error) if error.is_lock_timeout() && Instant::now() < self.deadline => {}
                Err(error) if error.is_lock_timeout() => return Err(Error::Locked),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Begins a transaction, locks a row in it, and returns whether the row exists. If another transaction holds
/// the lock, it waits for a limited time; the time counts from `since`, when the write began to wait. On
/// SQLite every transaction that writes holds the lock of all rows.
///
/// # Errors
/// [`Error::Locked`] if another transaction holds the lock for too long; [`Error::Busy`] if too many writes
/// of the user wait for it, or no connection is free in time; [`Error::Database`] if the database fails.
pub(crate) async fn begin_and_lock_row(
    store: &Store,
    user_id: Uuid,
    row: Lockable,
    since: Instant,
) -> Result<(Tx, bool), Error> {
    let request = LockRequest::wait_for_permit(store, user_id, since).await?;
    let tx = store.begin().await?;
    let is_there = lock_row(&tx, user_id, row, "SKIP LOCKED").await?;
    if is_there || tx.backend() != DbBackend::Postgres {
        return Ok((request.move_permit_into(tx), is_there));
    }
    tx.roll_back().await?;
    request.wait_and_begin_locked(row).await
}

/// Locks a row until the end of the caller's transaction, and returns whether the row exists. It waits as
/// long as the `lock_timeout` of the connection allows. On SQLite the transaction holds the lock of all rows
/// already.
///
/// # Errors
/// [`Error::Locked`] if another transaction holds the lock for too long; [`Error::Database`] if the database
/// fails.
pub(super) async fn lock_row_in_callers_transaction(
    tx: &Tx,
    user_id: Uuid,
    row: Lockable,
) -> Result<bool, Error> {
    let locked = lock_row(tx, user_id, row, "").await;
    locked.map_err(|error| if error.is_lock_timeout() { Error::Locked } else { error })
}

/// Locks a row on PostgreSQL, and returns whether it exists. `if_held` is empty to wait for the lock, or
/// `SKIP LOCKED` to treat a row that is locked as missing. On SQLite it only looks whether the row exists.
///
/// It selects a column with 64 bits, because that is what [`Tx::find_integer`] reads.
///
/// Plan: one lookup in the primary key of `account` or `import_job`. `NO KEY` is the lock that an UPDATE
/// takes which changes no key column (PostgreSQL manual, section 13.3.2).
async fn lock_row(tx: &Tx, user_id: Uuid, row: Lockable, if_held: &str) -> Result<bool, Error> {
    let (sql, values) = match row {
        Lockable::Account => ("SELECT feed_head FROM account WHERE user_id = $1", vec![user_id.into()]),
        Lockable::Import(id) => (
            "SELECT lease_epoch FROM import_job WHERE user_id = $1 AND id = $2",
            vec![user_id.into(), id.into()],
        ),
    };
    // SQLite has no row locks: the transaction that writes holds the lock of all rows.
    let sql = match tx.backend() {
        DbBackend::Postgres if fault_injection::is_injected("plant-no-lock") => sql.to_owned(),
        DbBackend::Postgres => format!("{sql} FOR NO KEY UPDATE {if_held}"),
        _ => sql.to_owned(),
    };
    let statement = Statement::from_sql_and_values(tx.backend(), sql, values);
    Ok(tx.find_integer(statement).await?.is_some())
}
