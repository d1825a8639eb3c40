//! The write path: decides one user's write over the rows that are stored, and stores what it changes.
//!
//! Under the lock, a write has four steps:
//!
//! 1. **Lock** the account row of the user. It holds the feed head, so writes of one user exclude each other.
//! 2. **Load** the rows that the write can touch: its read set.
//! 3. **Decide** over those rows, in memory. The decision is a pure function and returns an answer and the
//!    changes.
//! 4. **Store** the changes, and move the feed head.
//!
//! On PostgreSQL two shortcuts avoid the lock:
//!
//! - A write first loads without a lock, decides, and stores only if the account row is still free and has the
//!   revision that was loaded. If that fails, it takes all four steps, in one transaction.
//! - A create of events is decided even before anything is loaded, as if all of the events were new. One
//!   statement looks them up, and stores them if they are new.
//!
//! ```text
//!                all events are new
//!  assumed new ──────────────────────────────────────> stored
//!      │
//!      │ something is known already
//!      v         account row unchanged and unlocked
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
//! - **assumed new -> stored.** This is one round trip to PostgreSQL ([`store::new_events`], decision 0074).
//!   Most creates bring something new. If they do not, the same statement has loaded what the decision needs.
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
//! - All writes to SQLite, whose only writer holds the lock of all rows. A group of them is one function that
//!   runs on the thread of that writer (decision 0075).
//! - Batches that need the bodies of stored events. Most of them also create events, need a second statement
//!   to store, and would be decided twice (decision 0053).
//! - Chunks of imports and rollbacks ([`write_in_callers_transaction`]). They are part of a larger
//!   transaction that has locked the row of the import before, and they wait for the account in that
//!   transaction.
//! - New imports. They count the other imports of the user under the lock.
//!
//! The write path relies on one rule: a transaction that writes what a decision reads (events, types,
//! aliases, ids of imports) also writes the account row.

pub mod group;
mod new_events;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use crate::notifier::{Notification, Notifier};
use domain::apply::{Changes, UnitOfWork};
use domain::fault_injection;
pub use new_events::SetEventTypes;
use new_events::decide_as_new;
pub(crate) use new_events::has_only_new_events;
use store::error::Error;
use store::load::{Loaded, ReadSet, ReadVersion, begin_lock_and_load, load_read_sets, lock_account_and_load};
use store::new_events::{Attempt, store_if_all_new};
use store::pool::Pool;
use store::save::{
    Decision, can_store_without_lock, save_feed_head, save_rows, save_rows_and_heads, store_if_unchanged,
};
use store::{Store, Tx};

/// Runs one write of a user: loads the rows of `read_set`, decides, and stores the changes in one
/// transaction. Notifies the readers of the user's feed if it moved.
///
/// `decide` must be pure. It runs again, over newly loaded rows, whenever an attempt could not be stored.
/// `complete` adds what only the response needs, and checks its size, before anything is stored.
///
/// # Errors
/// Nothing is written if one of these comes back, except as said for [`Error::Database`]:
/// - any error that `decide` or `complete` returns;
/// - [`Error::Locked`] if other transactions hold the account row for too long;
/// - [`Error::Busy`] if too many writes of this user wait for their lock, or no connection is free in time;
/// - [`Error::Moved`] if the account row is gone and this process does not know the user's identity;
/// - [`Error::Bug`] if the database contradicts the decision: a row that should be new exists, or another
///   number of rows is written than decided;
/// - [`Error::Database`] if the database fails. If it fails while it commits, the changes may be stored.
pub async fn load_decide_and_store<T: SetEventTypes, C: Future<Output = Result<T, Error>>>(
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

/// Tries the write without waiting for the lock of the account row. The changes are stored only if that row
/// is unlocked and unchanged since the load; then the feed readers are notified.
///
/// Returns `None` if the write needs the lock, and always on SQLite. Then nothing is stored.
async fn try_write_optimistically<T: SetEventTypes, C: Future<Output = Result<T, Error>>>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: &ReadSet,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
    complete: impl Fn(T) -> C,
) -> Result<Option<T>, Error> {
    let Some(pools) = store.optimistic_pools() else { return Ok(None) };
    let loaded = match try_store_as_new(&pools.batches, user_id, read_set, &decide, &complete).await? {
        Tried::Stored(answer) => {
            notifier.notify(Notification::Feed(user_id));
            return Ok(Some(answer));
        }
        Tried::Loaded(loaded) => Some((loaded.read_version, loaded.unit)),
        Tried::NeedsLoad => load_read_set_optimistically(store, user_id, read_set).await?,
        Tried::Unknown => {
            // If it is stored, the load finds its events, and the answer is that they are duplicates.
            notifier.notify(Notification::Feed(user_id));
            load_read_set_optimistically(store, user_id, read_set).await?
        }
    };
    let Some((read_version, mut unit)) = loaded else { return Ok(None) };
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

/// What became of a write that was decided as if all of its events were new.
enum Tried<T> {
    /// It is stored, and this is its answer.
    Stored(T),
    /// It is not stored. These are the rows that it depends on.
    Loaded(Box<Loaded>),
    /// It cannot be decided in this way, or depends on further rows, which must be loaded. Nothing is stored.
    NeedsLoad,
    /// The connection was lost, so it is unknown whether it is stored.
    Unknown,
}

/// Decides a write as if all of its events were new, and stores it if they are.
async fn try_store_as_new<T: SetEventTypes, C: Future<Output = Result<T, Error>>>(
    connections: &Pool,
    user_id: Uuid,
    read_set: &ReadSet,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
    complete: impl Fn(T) -> C,
) -> Result<Tried<T>, Error> {
    let Some((answer, events)) = decide_as_new(user_id, read_set, decide) else {
        return Ok(Tried::NeedsLoad);
    };
    let Ok(mut answer) = complete(answer).await else { return Ok(Tried::NeedsLoad) };
    let mut attempts = match store_if_all_new(connections, vec![events]).await {
        Err(error) if error.is_lost_statement() => return Ok(Tried::Unknown),
        attempts => attempts?,
    };
    Ok(match attempts.remove(&user_id) {
        Some(Attempt::Stored(unit)) => {
            answer.set_event_types(&unit);
            Tried::Stored(answer)
        }
        Some(Attempt::Loaded(loaded)) => Tried::Loaded(Box::new(loaded)),
        None => Tried::NeedsLoad,
    })
}

/// Loads the rows of a user's read set without a lock. Also returns the version of the account row at that
/// time, which must be unchanged when the decision is stored.
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
    let mut loaded = load_read_sets(&pools.batches, &BTreeMap::from([(user_id, read_set)])).await?;
    Ok(loaded.remove(&user_id).map(|Loaded { read_version, unit, .. }| (read_version, unit)))
}

/// Runs the write in one transaction that waits for the lock of the account row, commits, and notifies the
/// feed readers.
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
    let read_set = Arc::new(read_set);
    let attempt =
        || try_write_under_lock(store, notifier, user_id, &read_set, waiting_since, &decide, &complete);
    match attempt().await {
        Err(error) if error.is_transaction_conflict() => attempt().await,
        other => other,
    }
}

/// Makes one attempt at a write in a transaction of its own: locks the account row, loads, decides,
/// completes, stores, commits, and notifies the feed readers. If nothing changes, it rolls back.
async fn try_write_under_lock<T, C: Future<Output = Result<T, Error>>>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: &Arc<ReadSet>,
    waiting_since: Instant,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
    complete: impl Fn(T) -> C,
) -> Result<T, Error> {
    if fault_injection::is_injected("plant-late-lock") {
        return write_with_late_lock(store, user_id, read_set, decide).await;
    }
    let (tx, mut loaded) = begin_lock_and_load(store, user_id, read_set, waiting_since).await?;
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
    /// Whether the write has stored any change.
    pub has_changes: bool,
    /// Whether the feed head moves with the commit. If so, the caller must notify the feed readers after it.
    pub moves_feed: bool,
}

/// Runs one write within a transaction of the caller: locks the account row of the user, loads, decides, and
/// stores the changes. It neither commits nor notifies feed readers.
///
/// The transaction must not hold the account row of any user yet.
///
/// # Errors
/// [`Error::Locked`], [`Error::Moved`], [`Error::Bug`] and [`Error::Database`] as
/// [`load_decide_and_store()`]. The caller must not commit the transaction then.
pub async fn write_in_callers_transaction<T>(
    tx: &Tx,
    user_id: Uuid,
    read_set: ReadSet,
    decide: impl FnOnce(&mut UnitOfWork) -> T,
) -> Result<(T, Stored), Error> {
    let mut loaded = lock_account_and_load(tx, user_id, &Arc::new(read_set)).await?;
    let answer = decide(&mut loaded.unit);
    let changes = loaded.unit.into_changes(loaded.read_version.feed_head);
    Ok((answer, store_changes_if_any(tx, user_id, loaded.read_version, changes).await?))
}

/// Stores the changes and moves the feed head, in a transaction that holds the lock of the account row. Does
/// not commit. Without changes it writes nothing.
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

/// A broken write, for the injected fault `plant-late-lock`: it moves the feed head in one transaction, and
/// stores the rows in a later one.
async fn write_with_late_lock<T>(
    store: &Store,
    user_id: Uuid,
    read_set: &Arc<ReadSet>,
    decide: impl FnOnce(&mut UnitOfWork) -> Result<T, Error>,
) -> Result<T, Error> {
    let (tx, mut loaded) = begin_lock_and_load(store, user_id, read_set, Instant::now()).await?;
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
