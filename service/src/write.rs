//! The write path: decides one user's write over the rows that are stored, and stores what it changes.
//!
//! Every write has four steps:
//!
//! 1. **Lock** the account row of the user. It holds the feed head, so writes of one user exclude each other.
//! 2. **Load** the rows that the write can touch: its read set.
//! 3. **Decide** over those rows, in memory. The decision is a pure function and returns an answer and the
//!    changes.
//! 4. **Store** the changes, and move the feed head.
//!
//! On PostgreSQL a write first tries to do without step 1. It loads without a lock, decides, and stores only
//! if the account row is still free and has the revision that was loaded. If that fails, it takes all four
//! steps, in one transaction.
//!
//! ```text
//!                account row unchanged and unlocked
//!  optimistic ───────────────────────────────────────> stored
//!      │
//!      │ (1)
//!      v
//!  contended ─────> locked ──────────────────────────> stored
//!                     │
//!                     │ (2) writes of a group only
//!                     v
//!                 one by one, locked ────────────────> stored | failed alone
//! ```
//!
//! - **optimistic -> stored.** This is two round trips to PostgreSQL instead of four. Together with our own
//!   connection pool, one create at a time reached 0.41 to 0.56 of pgbench instead of 0.33 to 0.37
//!   (docs/performance.md).
//! - **(1) optimistic -> contended**, for any of these reasons:
//!   - Another transaction holds the account row, or has changed it since the load. Every statement that
//!     writes anything of a user increments `account.revision`, so a changed row means that the decision may
//!     be outdated.
//!   - The changes need more than one statement.
//!   - Nothing is to be stored, but the rows were loaded by several statements, and the account may have
//!     changed between them. No store step would detect that.
//!   - PostgreSQL ended the statement because of another transaction (`serialization_failure`,
//!     `deadlock_detected`).
//!   - The write shares a group with others, and its decision or the statement of the whole group failed.
//! - **contended -> locked.** The write waits for the account row for a limited time
//!   ([`LOCK_WAIT_MS_MAX`](domain::limits::LOCK_WAIT_MS_MAX)), and decides again under the lock, where the
//!   loaded rows cannot change. It holds up no write of another user.
//! - **(2) locked -> one by one.** The [`group`] writer stores several writes of one user together. If they
//!   fail together, each is written in its own transaction, so that one bad write harms no other.
//!
//! Some writes begin with the lock:
//!
//! - All writes to SQLite. A round trip there is a function call, and the only writer holds the lock of all
//!   rows, so nothing would be gained.
//! - Batches that need the bodies of stored events. Most of them also create events, need a second statement
//!   to store, and would be decided twice (decision 0053).
//! - Chunks of imports, rollbacks and new imports ([`write_in_transaction`]). They are part of a larger
//!   transaction that has locked the row of the import before, and they wait for the account in that
//!   transaction.
//!
//! The write path relies on one rule: a transaction that writes what a decision reads (events, types,
//! aliases, ids of imports) also writes the account row.

pub mod group;

use std::collections::BTreeMap;

use tokio::time::Instant;
use uuid::Uuid;

use crate::notifier::{Notification, Notifier};
use domain::apply::{Changes, UnitOfWork};
use domain::fault_injection;
use store::error::Error;
use store::load::{
    Loaded, Locking, ReadSet, ReadVersion, begin_lock_and_load, load_read_sets, lock_and_load,
};
use store::save::{
    Decision, can_store_without_lock, save_feed_head, save_rows, save_rows_and_heads, store_if_unchanged,
};
use store::{Store, Tx};

/// Loads the read set of a user, decides, stores the changes and notifies the readers of the feed.
///
/// `decide` is pure. It runs again, over newly loaded rows, whenever an attempt could not be stored.
/// `complete` adds what only the response needs, and checks its size, before anything is stored.
///
/// # Errors
/// Nothing is written, with one exception, if one of these comes back:
/// - any error that `decide` or `complete` returns;
/// - [`Error::Locked`] if other transactions hold the account row for too long;
/// - [`Error::Busy`] if too many writes of this user wait for their lock, or no connection is free in time;
/// - [`Error::Moved`] if the account row is gone and this process does not know the user's identity;
/// - [`Error::Bug`] if the database contradicts the decision;
/// - [`Error::Database`] if the database fails. If it fails during the commit, the changes may be stored.
pub async fn load_decide_and_store<T, C: Future<Output = Result<T, Error>>>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: ReadSet,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
    complete: impl Fn(T) -> C,
) -> Result<T, Error> {
    if fault_injection::is_injected("plant-late-lock") {
        return write_under_lock(store, notifier, user_id, read_set, Instant::now(), decide, complete).await;
    }
    match try_write_optimistically(store, notifier, user_id, &read_set, &decide, &complete).await {
        Ok(Some(answer)) => Ok(answer),
        Err(error) if !error.is_transaction_conflict() => Err(error),
        // PostgreSQL ended the statement because of another transaction. Under the lock it can succeed.
        Ok(None) | Err(_) => {
            write_under_lock(store, notifier, user_id, read_set, Instant::now(), decide, complete).await
        }
    }
}

/// Runs the write optimistically. Returns `None` if it needs the lock; then nothing is stored.
async fn try_write_optimistically<T, C: Future<Output = Result<T, Error>>>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: &ReadSet,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
    complete: impl Fn(T) -> C,
) -> Result<Option<T>, Error> {
    let (Some(pools), Some((read_version, mut unit))) =
        (store.optimistic_pools(), load_read_set_optimistically(store, user_id, read_set).await?)
    else {
        return Ok(None);
    };
    let answer = decide(&mut unit)?;
    let changes = unit.into_changes(read_version.feed_head);
    if !can_store_without_lock(read_version, &changes) {
        return Ok(None);
    }
    let answer = complete(answer).await?;
    if changes.is_empty() {
        return Ok(Some(answer));
    }
    let moves_feed = changes.head != read_version.feed_head;
    let stored =
        store_if_unchanged(&pools.batches, vec![Decision { user_id, read_version, changes }]).await?;
    if !stored.contains(&user_id) {
        return Ok(None);
    }
    if moves_feed {
        notifier.notify(Notification::Feed(user_id));
    }
    Ok(Some(answer))
}

/// Loads the read set of a user without a lock, with the version that was read.
///
/// Returns `None` if the write needs the lock: on SQLite, if the read set needs the bodies of events, and if
/// the user has no account row.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time, [`Error::Database`] if the database fails.
pub(crate) async fn load_read_set_optimistically(
    store: &Store,
    user_id: Uuid,
    read_set: &ReadSet,
) -> Result<Option<(ReadVersion, UnitOfWork)>, Error> {
    let Some(pools) = store.optimistic_pools().filter(|_| read_set.needs_no_bodies()) else {
        return Ok(None);
    };
    let mut loaded =
        load_read_sets(Locking::Optimistic(&pools.batches), &BTreeMap::from([(user_id, read_set)])).await?;
    Ok(loaded.remove(&user_id).map(|Loaded { read_version, unit, .. }| (read_version, unit)))
}

/// Runs the write in one transaction, which waits for the lock of the account row.
///
/// The time limit of the wait begins at `waiting_since`. If PostgreSQL ends the transaction because of
/// another one (`serialization_failure` or `deadlock_detected`), it runs once more.
///
/// # Errors
/// As [`load_decide_and_store()`].
async fn write_under_lock<T, C: Future<Output = Result<T, Error>>>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: ReadSet,
    waiting_since: Instant,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
    complete: impl Fn(T) -> C,
) -> Result<T, Error> {
    match try_write_under_lock(store, notifier, user_id, read_set.clone(), waiting_since, &decide, &complete)
        .await
    {
        Err(error) if error.is_transaction_conflict() => {
            try_write_under_lock(store, notifier, user_id, read_set, waiting_since, &decide, &complete).await
        }
        other => other,
    }
}

/// Makes one attempt under the lock: lock, load, decide, complete, store, commit.
async fn try_write_under_lock<T, C: Future<Output = Result<T, Error>>>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: ReadSet,
    waiting_since: Instant,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
    complete: impl Fn(T) -> C,
) -> Result<T, Error> {
    if fault_injection::is_injected("plant-late-lock") {
        return write_with_late_lock(store, user_id, read_set, decide).await;
    }
    let (tx, mut loaded) = begin_lock_and_load(store, user_id, &read_set, waiting_since).await?;
    let answer = complete(decide(&mut loaded.unit)?).await?;
    let changes = loaded.unit.into_changes(loaded.read_version.feed_head);
    if changes.is_empty() {
        tx.roll_back().await?;
        return Ok(answer);
    }
    let stored = store_changes_if_any(&tx, user_id, loaded.read_version, changes).await?;
    tx.commit().await?;
    if stored.moves_feed {
        notifier.notify(Notification::Feed(user_id));
    }
    Ok(answer)
}

/// What a write has stored in a transaction that is not committed yet.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stored {
    /// Whether the write changed anything.
    pub has_changes: bool,
    /// Whether the feed head moves with the commit. If so, the caller notifies after it.
    pub moves_feed: bool,
}

/// Takes the four steps within a transaction of the caller, which must not hold the account row of any user
/// yet.
///
/// # Errors
/// As [`load_decide_and_store()`], without the errors of a decision. The caller must not commit the transaction then.
pub async fn write_in_transaction<T>(
    tx: &Tx,
    user_id: Uuid,
    read_set: ReadSet,
    decide: impl FnOnce(&mut UnitOfWork) -> T,
) -> Result<(T, Stored), Error> {
    let mut loaded = lock_and_load(tx, user_id, &read_set).await?;
    let answer = decide(&mut loaded.unit);
    let changes = loaded.unit.into_changes(loaded.read_version.feed_head);
    Ok((answer, store_changes_if_any(tx, user_id, loaded.read_version, changes).await?))
}

/// Stores the changes under the lock, if there are any.
async fn store_changes_if_any(
    tx: &Tx,
    user_id: Uuid,
    read_version: ReadVersion,
    changes: Changes,
) -> Result<Stored, Error> {
    let stored =
        Stored { has_changes: !changes.is_empty(), moves_feed: changes.head != read_version.feed_head };
    if stored.has_changes {
        save_rows_and_heads(tx, vec![Decision { user_id, read_version, changes }]).await?;
    }
    Ok(stored)
}

/// The injected fault `plant-late-lock`: moves the feed head in one transaction, and stores the rows in a
/// later one.
async fn write_with_late_lock<T>(
    store: &Store,
    user_id: Uuid,
    read_set: ReadSet,
    decide: impl FnOnce(&mut UnitOfWork) -> Result<T, Error>,
) -> Result<T, Error> {
    let (tx, mut loaded) = begin_lock_and_load(store, user_id, &read_set, Instant::now()).await?;
    let answer = decide(&mut loaded.unit)?;
    let read_version = loaded.read_version;
    let changes = loaded.unit.into_changes(read_version.feed_head);
    if changes.head != read_version.feed_head {
        save_feed_head(&tx, user_id, read_version.feed_head, changes.head).await?;
    }
    tx.commit().await?;
    let tx = store.begin().await?;
    save_rows(&tx, vec![Decision { user_id, read_version, changes }]).await?;
    tx.commit().await?;
    Ok(answer)
}
