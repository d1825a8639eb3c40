//! Every write is four steps: lock, load, decide, store.
//!
//! On PostgreSQL single writes, and batches that read nothing of what events say, are tried without the lock first:
//! load, decide, and store if nothing of the user has changed meanwhile, in two round trips. Where something has, or
//! more than one statement is needed, it is all four in one transaction. On SQLite it always is.

pub mod group;

use std::collections::BTreeMap;

use tokio::time::Instant;
use uuid::Uuid;

use crate::notifier::{Notification, Notifier};
use domain::apply::{Changes, UnitOfWork};
use domain::fault_injection;
use store::error::Error;
use store::load::{Loaded, Locking, ReadSet, ReadVersion, begin_and_load, load, load_one};
use store::save::{Decision, can_be_optimistic, save, save_head, save_rows, store_if_unchanged};
use store::{Store, Tx};

/// Runs one decision, perhaps more than once.
///
/// # Errors
/// When the database fails, or the decision; then nothing was written.
pub async fn write<T>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: ReadSet,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
) -> Result<T, Error> {
    if fault_injection::is_injected("plant-late-lock") {
        return write_locked(store, notifier, user_id, read_set, Instant::now(), decide).await;
    }
    match try_optimistic(store, notifier, user_id, &read_set, &decide).await {
        Ok(Some(answer)) => Ok(answer),
        Err(error) if !error.is_conflict() => Err(error),
        Ok(None) | Err(_) => write_locked(store, notifier, user_id, read_set, Instant::now(), decide).await,
    }
}

/// Without a lock; none where that does not do.
async fn try_optimistic<T>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: &ReadSet,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let (Some(pools), Some((read_version, mut unit))) =
        (store.optimistic(), load_optimistic(store, user_id, read_set).await?)
    else {
        return Ok(None);
    };
    let answer = decide(&mut unit)?;
    let changes = unit.into_changes(read_version.feed_head);
    if !can_be_optimistic(read_version, &changes) {
        return Ok(None);
    }
    if changes.is_empty() {
        return Ok(Some(answer));
    }
    let moved = changes.head != read_version.feed_head;
    let stored =
        store_if_unchanged(&pools.batches, vec![Decision { user_id, read_version, changes }]).await?;
    if !stored.contains(&user_id) {
        return Ok(None);
    }
    if moved {
        notifier.notify(Notification::Feed(user_id));
    }
    Ok(Some(answer))
}

/// What a user has at one moment, of which nothing is locked. None on SQLite, where nothing would be won, and
/// where more would have to be read than keys and hashes.
///
/// # Errors
/// When the database fails.
pub(crate) async fn load_optimistic(
    store: &Store,
    user_id: Uuid,
    read_set: &ReadSet,
) -> Result<Option<(ReadVersion, UnitOfWork)>, Error> {
    let Some(pools) = store.optimistic().filter(|_| read_set.needs_no_bodies()) else { return Ok(None) };
    let mut loaded =
        load(Locking::Optimistic(&pools.batches), &BTreeMap::from([(user_id, read_set)])).await?;
    Ok(loaded.remove(&user_id).map(|Loaded { read_version, unit, .. }| (read_version, unit)))
}

/// Runs one decision in a transaction of its own, which waits for the lock; `since` is when it began to wait. A
/// transaction that PostgreSQL has ended for the sake of another one is tried once more.
///
/// # Errors
/// As [`write()`].
async fn write_locked<T>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: ReadSet,
    since: Instant,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
) -> Result<T, Error> {
    match try_locked(store, notifier, user_id, read_set.clone(), since, &decide).await {
        Err(error) if error.is_conflict() => {
            try_locked(store, notifier, user_id, read_set, since, &decide).await
        }
        other => other,
    }
}

async fn try_locked<T>(
    store: &Store,
    notifier: &dyn Notifier,
    user_id: Uuid,
    read_set: ReadSet,
    since: Instant,
    decide: impl Fn(&mut UnitOfWork) -> Result<T, Error>,
) -> Result<T, Error> {
    if fault_injection::is_injected("plant-late-lock") {
        return write_with_late_lock(store, user_id, read_set, decide).await;
    }
    let (tx, mut loaded) = begin_and_load(store, user_id, &read_set, since).await?;
    let answer = decide(&mut loaded.unit)?;
    let changes = loaded.unit.into_changes(loaded.read_version.feed_head);
    if changes.is_empty() {
        tx.release().await?;
        return Ok(answer);
    }
    let stored = store_changes(&tx, user_id, loaded.read_version, changes).await?;
    tx.commit().await?;
    if stored.moves_feed {
        notifier.notify(Notification::Feed(user_id));
    }
    Ok(answer)
}

/// What a decision within a transaction has come to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stored {
    /// Something is written.
    pub is_anything: bool,
    /// With the commit the feed moves.
    pub moves_feed: bool,
}

/// Runs one decision, which is taken once, within a transaction that holds no head yet.
///
/// # Errors
/// When the database fails; then the transaction must not be committed.
pub async fn write_within<T>(
    tx: &Tx,
    user_id: Uuid,
    read_set: ReadSet,
    decide: impl FnOnce(&mut UnitOfWork) -> T,
) -> Result<(T, Stored), Error> {
    let mut loaded = load_one(tx, user_id, &read_set).await?;
    let answer = decide(&mut loaded.unit);
    let changes = loaded.unit.into_changes(loaded.read_version.feed_head);
    Ok((answer, store_changes(tx, user_id, loaded.read_version, changes).await?))
}

/// The last step.
async fn store_changes(
    tx: &Tx,
    user_id: Uuid,
    read_version: ReadVersion,
    changes: Changes,
) -> Result<Stored, Error> {
    let stored =
        Stored { is_anything: !changes.is_empty(), moves_feed: changes.head != read_version.feed_head };
    if stored.is_anything {
        save(tx, vec![Decision { user_id, read_version, changes }]).await?;
    }
    Ok(stored)
}

/// The injected fault: positions are taken in a transaction of their own, committed before the rows.
async fn write_with_late_lock<T>(
    store: &Store,
    user_id: Uuid,
    read_set: ReadSet,
    decide: impl FnOnce(&mut UnitOfWork) -> Result<T, Error>,
) -> Result<T, Error> {
    let (tx, mut loaded) = begin_and_load(store, user_id, &read_set, Instant::now()).await?;
    let answer = decide(&mut loaded.unit)?;
    let read_version = loaded.read_version;
    let changes = loaded.unit.into_changes(read_version.feed_head);
    if changes.head != read_version.feed_head {
        save_head(&tx, user_id, read_version.feed_head, changes.head).await?;
    }
    tx.commit().await?;
    let tx = store.begin().await?;
    save_rows(&tx, vec![Decision { user_id, read_version, changes }]).await?;
    tx.commit().await?;
    Ok(answer)
}
