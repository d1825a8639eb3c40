//! Every write is four steps in one transaction: lock, load, decide, store.

pub mod group;

use uuid::Uuid;

use crate::bell::{Bell, Ring};
use crate::error::Error;
use crate::plant;
use crate::rules::apply::World;
use crate::store::load::{Loaded, Wants, load_one};
use crate::store::save::{Decided, save, save_head, save_rows};
use crate::store::{Store, Tx};

/// Runs one decision in a transaction of its own.
///
/// # Errors
/// When the database fails, or the decision; then nothing was written.
pub async fn write<T>(
    store: &Store,
    bell: &dyn Bell,
    user_id: Uuid,
    mut wants: Wants,
    decide: impl Fn(&mut World) -> Result<T, Error>,
) -> Result<T, Error> {
    let tx = store.begin().await?;
    if plant::is_planted("plant-late-lock") {
        return write_with_late_lock(store, tx, user_id, wants, decide).await;
    }
    let mut loaded = load_one(&tx, user_id, &wants).await?;
    let mut answer = decide(&mut loaded.world)?;
    if loaded.world.lacks_bodies() {
        wants.read_bodies();
        loaded = load_one(&tx, user_id, &wants).await?;
        answer = decide(&mut loaded.world)?;
    }
    let moved = store_net(&tx, user_id, loaded).await?;
    tx.commit().await?;
    if moved {
        bell.ring(Ring::Feed(user_id));
    }
    Ok(answer)
}

/// Runs one decision, which is taken once, within a transaction that holds no head yet; tells as well whether
/// the feed moves with the commit.
///
/// # Errors
/// When the database fails; then the transaction must not be committed.
pub async fn write_within<T>(
    tx: &Tx,
    user_id: Uuid,
    wants: Wants,
    decide: impl FnOnce(&mut World) -> T,
) -> Result<(T, bool), Error> {
    let mut loaded = load_one(tx, user_id, &wants).await?;
    let answer = decide(&mut loaded.world);
    Ok((answer, store_net(tx, user_id, loaded).await?))
}

/// The last step; tells whether the feed moves.
async fn store_net(tx: &Tx, user_id: Uuid, Loaded { head, world, .. }: Loaded) -> Result<bool, Error> {
    let net = world.net(head);
    let moved = net.head != head;
    if !net.is_empty() {
        save(tx, vec![Decided { user_id, from: head, net }]).await?;
    }
    Ok(moved)
}

/// The planted fault: positions are taken in a transaction of their own, committed before the rows.
async fn write_with_late_lock<T>(
    store: &Store,
    tx: Tx,
    user_id: Uuid,
    wants: Wants,
    decide: impl FnOnce(&mut World) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut loaded = load_one(&tx, user_id, &wants).await?;
    let answer = decide(&mut loaded.world)?;
    let from = loaded.head;
    let net = loaded.world.net(from);
    if net.head != from {
        save_head(&tx, user_id, from, net.head).await?;
    }
    tx.commit().await?;
    let tx = store.begin().await?;
    save_rows(&tx, vec![Decided { user_id, from, net }]).await?;
    tx.commit().await?;
    Ok(answer)
}
