//! Every write is four steps in one transaction: lock, load, decide, store.

use uuid::Uuid;

use crate::bell::{Bell, Ring};
use crate::error::Error;
use crate::plant;
use crate::rules::apply::World;
use crate::store::load::{Wants, load};
use crate::store::save::{save, save_rows};
use crate::store::{Store, Tx, account};

/// Runs one decision in a transaction of its own.
///
/// # Errors
/// When the database fails, or the decision; then nothing was written.
pub async fn write<T>(
    store: &Store,
    bell: &dyn Bell,
    user_id: Uuid,
    wants: &Wants,
    decide: impl FnOnce(&mut World) -> Result<T, Error>,
) -> Result<T, Error> {
    let tx = store.begin().await?;
    if plant::is_planted("plant-late-lock") {
        return write_with_late_lock(store, tx, user_id, wants, decide).await;
    }
    let (answer, moved) = write_within(&tx, user_id, wants, decide).await?;
    let answer = answer?;
    tx.commit().await?;
    if moved {
        bell.ring(Ring::Feed(user_id));
    }
    Ok(answer)
}

/// Runs one decision within a transaction that holds no head yet; tells as well whether the feed moves
/// with the commit.
///
/// # Errors
/// When the database fails; then the transaction must not be committed.
pub async fn write_within<T>(
    tx: &Tx,
    user_id: Uuid,
    wants: &Wants,
    decide: impl FnOnce(&mut World) -> T,
) -> Result<(T, bool), Error> {
    // Load locks as well in the planted fault, and then nothing is locked before it.
    let early =
        if plant::is_planted("plant-one-statement") { Some(load(tx, user_id, wants).await?) } else { None };
    let head = account::lock(tx, user_id).await?;
    let mut world = match early {
        Some(world) => world,
        None => load(tx, user_id, wants).await?,
    };
    let answer = decide(&mut world);
    let net = world.net(head.feed_head);
    let moved = net.head != head.feed_head;
    if !net.is_empty() {
        save(tx, user_id, head.feed_head, net).await?;
    }
    Ok((answer, moved))
}

/// The planted fault: positions are taken in a transaction of their own, committed before the rows.
async fn write_with_late_lock<T>(
    store: &Store,
    tx: Tx,
    user_id: Uuid,
    wants: &Wants,
    decide: impl FnOnce(&mut World) -> Result<T, Error>,
) -> Result<T, Error> {
    let head = account::lock(&tx, user_id).await?;
    let mut world = load(&tx, user_id, wants).await?;
    let answer = decide(&mut world)?;
    let net = world.net(head.feed_head);
    if net.head != head.feed_head {
        account::advance(&tx, user_id, head.feed_head, net.head).await?;
    }
    tx.commit().await?;
    let tx = store.begin().await?;
    save_rows(&tx, user_id, net).await?;
    tx.commit().await?;
    Ok(answer)
}
