//! The first two steps of a write: the heads of its users are locked, and everything that its items can
//! touch is read.
//!
//! Both are one statement, though one that waited for a lock does not see what was committed while it
//! waited. So it tells as well whether a head is another than the one that it saw; then it is run again,
//! under the lock. That is enough because whoever writes what is read here moves the row of the account.

mod sql;
mod wants;

use std::collections::{BTreeMap, HashSet};

use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};
use uuid::Uuid;

use super::cells::Row;
use super::dialect::{self, List};
use super::model::{self, Extent};
use super::{Tx, account};
use crate::error::Error;
use crate::limits::BATCH_ITEMS_MAX;
use crate::plant;
use crate::rules::apply::{Entity, World};
use sql::{Kind, Shape};
use wants::Bodies;
pub use wants::Wants;

/// What to do about a head that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lock {
    /// It is waited for.
    Wait,
    /// Its user is left out.
    Skip,
}

/// What is known of one user under the lock.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The newest position handed out.
    pub head: i64,
    /// What was wanted.
    pub world: World,
    is_stale: bool,
}

/// Locks the heads of users until the end of the transaction and reads what is wanted of each. Users whose
/// heads are not to be had are left out: those of whom there is no row, and with [`Lock::Skip`] those that
/// somebody else holds.
///
/// # Errors
/// When the database fails.
pub async fn load(
    tx: &Tx,
    wanted: &BTreeMap<Uuid, &Wants>,
    lock: Lock,
) -> Result<BTreeMap<Uuid, Loaded>, Error> {
    let all: Vec<Uuid> = wanted.keys().copied().collect();
    let mut loaded = attempt(tx, &all, wanted, lock).await?;
    let is_stale = loaded.values().any(|of_user| of_user.is_stale);
    if is_stale && !plant::is_planted("plant-one-statement") {
        // What is held by now, and nothing more: another head might be stale in its turn.
        let held: Vec<Uuid> = loaded.keys().copied().collect();
        loaded = attempt(tx, &held, wanted, lock).await?;
    }
    load_bodies(tx, wanted, &mut loaded).await?;
    for (user_id, of_user) in &mut loaded {
        load_usages(tx, *user_id, wanted[user_id], &mut of_user.world).await?;
    }
    Ok(loaded)
}

/// The same for one user, whose head is waited for. Where their row is gone it is made.
///
/// # Errors
/// When the database fails, or nobody knows whose row is gone.
pub async fn load_one(tx: &Tx, user_id: Uuid, wants: &Wants) -> Result<Loaded, Error> {
    let wanted = BTreeMap::from([(user_id, wants)]);
    if let Some(loaded) = load(tx, &wanted, Lock::Wait).await?.remove(&user_id) {
        return Ok(loaded);
    }
    account::make_anew(tx, user_id).await?;
    let mut loaded = load(tx, &wanted, Lock::Wait).await?;
    loaded.remove(&user_id).ok_or_else(|| account::forget(&tx.store, user_id))
}

async fn attempt(
    tx: &Tx,
    users: &[Uuid],
    wanted: &BTreeMap<Uuid, &Wants>,
    lock: Lock,
) -> Result<BTreeMap<Uuid, Loaded>, Error> {
    let backend = tx.backend();
    let (values, by_key, by_name) = wants::tables(backend, users, wanted);
    let is_told = wanted.values().any(|wants| wants.bodies() == Bodies::Sent);
    let sql = sql::lock_and_load(backend, Shape { lock, by_key, by_name, is_told });
    let mut loaded: BTreeMap<Uuid, Loaded> = BTreeMap::new();
    let rows = tx.inner.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    // The heads come first; what follows is of users whose heads are held, or passed over.
    for row in rows {
        let user_id: Uuid = row.try_get_by_index(1)?;
        match row.try_get_by_index::<i32>(0)? {
            Kind::HEAD => {
                let is_stale = row.try_get_by_index::<i32>(5)? != 0;
                let head = row.try_get_by_index(4)?;
                let is_of_heads = wanted.get(&user_id).is_some_and(|wants| wants.bodies() == Bodies::Sent);
                let world = if is_of_heads { World::of_heads() } else { World::default() };
                loaded.insert(user_id, Loaded { head, is_stale, world });
            }
            kind => {
                if let Some(of_user) = loaded.get_mut(&user_id) {
                    add(&mut of_user.world, kind, &row, is_told)?;
                }
            }
        }
    }
    Ok(loaded)
}

fn add(world: &mut World, kind: i32, row: &QueryResult, is_told: bool) -> Result<(), Error> {
    match kind {
        Kind::EVENT => world.load_event(model::event_head(Row::of(row)?, sql::FIRST_OF_EVENT, is_told)?),
        Kind::TYPE => world.load_type(model::type_row(Row::of(row)?, sql::FIRST_OF_TYPE, Extent::Whole)?),
        _ => {
            let (id, alias) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            match row.try_get_by_index::<i64>(4)? {
                1 => world.load_alias(Entity::Event, alias, id),
                2 => world.load_alias(Entity::EventType, alias, id),
                _ => world.load_import_id(id),
            }
        }
    }
    Ok(())
}

/// Reads what the events that were found say, where that is wanted.
async fn load_bodies(
    tx: &Tx,
    wanted: &BTreeMap<Uuid, &Wants>,
    loaded: &mut BTreeMap<Uuid, Loaded>,
) -> Result<(), Error> {
    let backend = tx.backend();
    let of_users = loaded.iter().filter(|(user_id, _)| wanted[user_id].bodies() == Bodies::Read);
    let found =
        of_users.flat_map(|(user_id, of_user)| of_user.world.event_ids().map(move |id| (*user_id, id)));
    let (owners, ids): (Vec<Uuid>, Vec<Uuid>) = found.unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let values = dialect::table(backend, [List::Ids(owners), List::Ids(ids)]);
    let statement = Statement::from_sql_and_values(backend, sql::load_bodies(backend), values);
    for row in tx.inner.query_all_raw(statement).await? {
        let Some(of_user) = loaded.get_mut(&row.try_get_by_index(0)?) else { continue };
        // An answer tells of an event's type as well, and an edit may keep it.
        let first_of_type = 1 + model::EVENT.len();
        if row.try_get_by_index::<Option<Uuid>>(first_of_type)?.is_some() {
            of_user.world.load_type(model::type_row(Row::of(&row)?, first_of_type, Extent::Whole)?);
        }
        of_user.world.load_event(model::event_row(Row::of(&row)?, 1, Extent::Whole)?);
    }
    Ok(())
}

/// Counts the living events of types that are to be deleted, up to one more than a call can take away.
async fn load_usages(tx: &Tx, user_id: Uuid, wants: &Wants, world: &mut World) -> Result<(), Error> {
    if wants.usages().is_empty() {
        return Ok(());
    }
    // An id that is not known yet may become an alias of a type found by name, earlier in the same call.
    let by_id = wants.usages().iter().filter_map(|id| world.event_type(*id));
    let by_name = wants.type_names().iter().filter_map(|name| world.type_by_name(name));
    let types: HashSet<Uuid> = by_id.chain(by_name).map(|row| row.frame.id).collect();
    if types.is_empty() {
        return Ok(());
    }
    let backend = tx.backend();
    let types: Vec<Uuid> = types.into_iter().collect();
    let sql = format!(
        "SELECT t.id, (SELECT count(*) FROM (SELECT 1 FROM event e WHERE e.user_id = $1 AND e.event_type_id = t.id \
         LIMIT $3) few) AS events FROM event_type t WHERE t.user_id = $1 AND t.id IN (SELECT w.id FROM {})",
        dialect::id_rows(backend, 2),
    );
    let most = i64::try_from(BATCH_ITEMS_MAX).unwrap_or(i64::MAX) + 1;
    let values: [Value; 3] = [user_id.into(), dialect::ids(backend, &types), most.into()];
    for row in tx.inner.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        world.load_usage(row.try_get("", "id")?, row.try_get("", "events")?);
    }
    Ok(())
}
