//! The first two steps of a write: the head of its user is locked, and everything that its items can touch is read.
//! The lock comes first, in a statement of its own, because a statement does not see what is committed after it began.
//!
//! A write needs no lock: every write also increments the revision of the account. The load returns that revision, and
//! the write is stored only if it has not changed ([`super::save::store_if_unchanged`]).

mod read_set;
mod sql;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::dialect::{self, List};
use super::lock::{Lockable, begin_locked, lock_in_place};
use super::model::{self, ColumnSet};
use super::pool::Pool;
use super::row_reader::{Row, RowReader};
use super::{Store, Tx, account};
use crate::error::Error;
use domain::apply::{Entity, UnitOfWork};
use domain::limits::BATCH_ITEMS_MAX;
use read_set::Bodies;
pub use read_set::ReadSet;
use sql::{Kind, Shape};

/// Where a write reads.
#[derive(Debug, Clone, Copy)]
pub enum Locking<'a> {
    /// In a transaction that holds the head. On PostgreSQL of one user only: nobody waits for a head while holding
    /// another.
    Pessimistic(&'a Tx),
    /// Statement by statement, on PostgreSQL. Nothing is locked or waited for.
    Optimistic(&'a Pool),
}

/// What a decision stands on.
#[derive(Debug, Default, Clone, Copy)]
pub struct ReadVersion {
    /// The newest position handed out.
    pub feed_head: i64,
    /// The revision of the account row that was read.
    pub(super) revision: i64,
    /// Statements have read without a lock, and not surely the same.
    pub(super) may_be_torn: bool,
}

/// What is known of one user.
#[derive(Debug, Default)]
pub struct Loaded {
    /// How it is known.
    pub read_version: ReadVersion,
    /// What was read_sets.
    pub unit: UnitOfWork,
}

/// Reads what is wanted of each user. Users of whom there is no row are left out.
///
/// # Errors
/// When the database fails.
pub async fn load(
    locking: Locking<'_>,
    read_sets: &BTreeMap<Uuid, &ReadSet>,
) -> Result<BTreeMap<Uuid, Loaded>, Error> {
    let all: Vec<Uuid> = read_sets.keys().copied().collect();
    let mut loaded = load_heads(locking, &all, read_sets).await?;
    load_bodies(locking, read_sets, &mut loaded).await?;
    for (user_id, of_user) in &mut loaded {
        load_usages(locking, *user_id, read_sets[user_id], of_user).await?;
    }
    Ok(loaded)
}

impl Locking<'_> {
    fn backend(self) -> DbBackend {
        match self {
            Self::Pessimistic(tx) => tx.backend(),
            Self::Optimistic(connections) => connections.backend(),
        }
    }

    /// Whether nothing is locked.
    pub fn is_optimistic(self) -> bool {
        matches!(self, Self::Optimistic(_))
    }

    async fn read(
        self,
        sql: impl Into<String>,
        values: impl IntoIterator<Item = Value>,
        mut show: impl FnMut(Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        match self {
            Self::Pessimistic(tx) => {
                let rows = tx.inner.query_all_raw(statement).await?;
                rows.iter().try_for_each(|row| show(Row::of(row)?))
            }
            Self::Optimistic(connections) => {
                connections.read(statement, |row| show(row).map(ControlFlow::Continue)).await
            }
        }
    }
}

/// The same for one user, in a transaction that takes the lock of their head. Whoever else holds it is waited for, as
/// long as the connection of the transaction allows. If the user's row is gone it is made.
///
/// # Errors
/// [`Error::Locked`] if somebody else holds the head for too long; when the database fails, or nobody knows whose row
/// is gone.
pub async fn load_one(tx: &Tx, user_id: Uuid, read_set: &ReadSet) -> Result<Loaded, Error> {
    if !lock_in_place(tx, user_id, Lockable::Account).await? {
        account::make_anew(tx, user_id).await?;
    }
    load_locked(tx, user_id, read_set).await
}

/// The same for one user, in a transaction that holds the lock of their head.
///
/// # Errors
/// As [`load`], and if the user's row is gone.
pub(crate) async fn load_locked(tx: &Tx, user_id: Uuid, read_set: &ReadSet) -> Result<Loaded, Error> {
    let mut loaded = load(Locking::Pessimistic(tx), &BTreeMap::from([(user_id, read_set)])).await?;
    loaded.remove(&user_id).ok_or_else(|| account::forget(&tx.store, user_id))
}

/// Begins a transaction that holds the head of a user, and loads what is read_sets. If somebody else holds the head it
/// is waited for; `since` is when that began.
///
/// # Errors
/// As [`load_one`].
pub async fn begin_and_load(
    store: &Store,
    user_id: Uuid,
    read_set: &ReadSet,
    since: Instant,
) -> Result<(Tx, Loaded), Error> {
    let (tx, is_there) = begin_locked(store, user_id, Lockable::Account, since).await?;
    if !is_there {
        account::make_anew(&tx, user_id).await?;
    }
    let loaded = load_locked(&tx, user_id, read_set).await?;
    Ok((tx, loaded))
}

async fn load_heads(
    locking: Locking<'_>,
    users: &[Uuid],
    read_sets: &BTreeMap<Uuid, &ReadSet>,
) -> Result<BTreeMap<Uuid, Loaded>, Error> {
    let backend = locking.backend();
    let (values, by_key, by_name) = read_set::tables(backend, users, read_sets);
    let for_response = read_sets.values().any(|read_set| read_set.bodies() == Bodies::Sent);
    let shape = Shape { by_key, by_name, for_response };
    let sql = sql::load(backend, shape);
    let mut loaded: BTreeMap<Uuid, Loaded> = BTreeMap::new();
    // The heads come first; what follows is of users whose heads came, or passed over.
    let show = |row: Row<'_>| {
        let mut cells = RowReader::new(row, 0);
        let (kind, user_id): (i32, Uuid) = (cells.next()?, cells.next()?);
        if kind != Kind::HEAD {
            return match loaded.get_mut(&user_id) {
                Some(of_user) => add(&mut of_user.unit, kind, row),
                None => Ok(()),
            };
        }
        let (_, _): (Option<Uuid>, Option<Uuid>) = (cells.next()?, cells.next()?);
        let (head, revision): (i64, i64) = (cells.next()?, cells.next()?);
        let is_without_bodies =
            read_sets.get(&user_id).is_some_and(|read_set| read_set.bodies() == Bodies::Sent);
        let unit = if is_without_bodies { UnitOfWork::without_bodies() } else { UnitOfWork::default() };
        let read_version = ReadVersion { feed_head: head, revision, may_be_torn: false };
        loaded.insert(user_id, Loaded { read_version, unit });
        Ok(())
    };
    locking.read(sql, values, show).await?;
    Ok(loaded)
}

fn add(unit: &mut UnitOfWork, kind: i32, row: Row<'_>) -> Result<(), Error> {
    let mut cells = RowReader::new(row, 2);
    match kind {
        Kind::EVENT => {
            let (_id, import_job_id): (Uuid, _) = (cells.next()?, cells.next()?);
            unit.load_event(model::event_head(row, sql::FIRST, import_job_id)?);
        }
        Kind::TYPE => unit.load_type(model::type_row(row, sql::FIRST, ColumnSet::All)?),
        _ => {
            let (id, alias) = (cells.next()?, cells.next()?);
            match cells.next::<i64>()? {
                1 => unit.load_alias(Entity::Event, alias, id),
                2 => unit.load_alias(Entity::EventType, alias, id),
                _ => unit.load_import_id(id),
            }
        }
    }
    Ok(())
}

/// Reads what the events that were found say, where that is read_sets.
async fn load_bodies(
    locking: Locking<'_>,
    read_sets: &BTreeMap<Uuid, &ReadSet>,
    loaded: &mut BTreeMap<Uuid, Loaded>,
) -> Result<(), Error> {
    let backend = locking.backend();
    let of_users = loaded.iter().filter(|(user_id, _)| read_sets[user_id].bodies() == Bodies::Read);
    let found =
        of_users.flat_map(|(user_id, of_user)| of_user.unit.event_ids().map(move |id| (*user_id, id)));
    let (owners, ids): (Vec<Uuid>, Vec<Uuid>) = found.unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let values = dialect::table(backend, [List::Ids(owners), List::Ids(ids)]);
    let show = |row: Row<'_>| {
        let mut cells = RowReader::new(row, 0);
        let (user_id, revision): (Uuid, i64) = (cells.next()?, cells.next()?);
        let Some(of_user) = loaded.get_mut(&user_id) else { return Ok(()) };
        of_user.read_version.may_be_torn |=
            locking.is_optimistic() && revision != of_user.read_version.revision;
        // An answer tells of an event's type as well, and an edit may keep it.
        let first_of_type = 2 + model::EVENT.len();
        if RowReader::new(row, first_of_type).next::<Option<Uuid>>()?.is_some() {
            of_user.unit.load_type(model::type_row(row, first_of_type, ColumnSet::All)?);
        }
        of_user.unit.load_event(model::event_row(row, 2, ColumnSet::All)?);
        Ok(())
    };
    locking.read(sql::load_bodies(backend), values, show).await
}

/// Counts the living events of types that are to be deleted, up to one more than a call can take away.
async fn load_usages(
    locking: Locking<'_>,
    user_id: Uuid,
    read_set: &ReadSet,
    Loaded { read_version, unit, .. }: &mut Loaded,
) -> Result<(), Error> {
    if read_set.usages().is_empty() {
        return Ok(());
    }
    // An id that is not known yet may become an alias of a type found by name, earlier in the same call.
    let by_id = read_set.usages().iter().filter_map(|id| unit.event_type(*id));
    let by_name = read_set.type_names().iter().filter_map(|name| unit.type_by_name(name));
    let types: HashSet<Uuid> = by_id.chain(by_name).map(|row| row.meta.id).collect();
    if types.is_empty() {
        return Ok(());
    }
    read_version.may_be_torn = locking.is_optimistic();
    let backend = locking.backend();
    let types: Vec<Uuid> = types.into_iter().collect();
    let sql = format!(
        "SELECT t.id, (SELECT count(*) FROM (SELECT 1 FROM event e WHERE e.user_id = $1 AND e.event_type_id = t.id \
         LIMIT $3) few) AS events FROM event_type t WHERE t.user_id = $1 AND t.id IN (SELECT w.id FROM {})",
        dialect::id_rows(backend, 2),
    );
    let most = i64::try_from(BATCH_ITEMS_MAX).unwrap_or(i64::MAX) + 1;
    let values: [Value; 3] = [user_id.into(), dialect::ids(backend, &types), most.into()];
    let show = |row: Row<'_>| {
        let mut cells = RowReader::new(row, 0);
        unit.load_usage(cells.next()?, cells.next()?);
        Ok(())
    };
    locking.read(sql, values, show).await
}
