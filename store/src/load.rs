//! Does the first two steps of a write: locks the account of the user, and reads all rows that its items can
//! touch.
//!
//! A pessimistic write takes the lock in a statement of its own before it reads. A PostgreSQL statement does
//! not see what is committed after it began (READ COMMITTED, manual section 13.2.1).
//!
//! An optimistic write takes no lock. Every write increments the revision of the account, and the load
//! returns that revision. The write is stored only if the revision is still the same
//! ([`super::save::store_if_unchanged`]).

mod read_set;
mod sql;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use sea_orm::{DbBackend, Statement, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::dialect::{self, List};
use super::lock::{Lockable, begin_and_lock_row, lock_row_in_callers_transaction};
use super::model::{self, ColumnSet};
use super::pool::Pool;
use super::row_reader::{Row, RowReader};
use super::{Store, Tx, account, sqlite};
use crate::error::Error;
use domain::apply::{Entity, UnitOfWork};
use domain::limits::BATCH_ITEMS_MAX;
pub use read_set::ReadSet;
use read_set::{BodySource, Parameters};
pub(crate) use sql::{FIRST, Kind};
use sql::{Owners, Shape};

/// How a write reads on PostgreSQL: in a transaction that already holds the lock of the account, or without any lock.
#[derive(Debug, Clone, Copy)]
enum Locking<'a> {
    /// Reads in a transaction that holds the lock of the account already; reading does not take it. The
    /// transaction may hold the lock of one account only, because one that waits for a second account could
    /// deadlock.
    Pessimistic(&'a Tx),
    /// Reads without a transaction. Nothing is locked, and nothing is waited for.
    Optimistic(&'a Pool),
}

/// Which state of one user's rows a decision is based on: the feed head and the revision that were read.
#[derive(Debug, Default, Clone, Copy)]
pub struct ReadVersion {
    /// The newest position that the feed had assigned.
    pub feed_head: i64,
    /// The revision of the account row that was read.
    pub(super) revision: i64,
    /// True if the rows were read by several statements without a lock, and the user's data may have changed
    /// between them.
    pub(super) may_be_torn: bool,
}

/// The rows of one user that a write needs.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The state that was read.
    pub read_version: ReadVersion,
    /// The rows that were read.
    pub unit: UnitOfWork,
}

impl Loaded {
    /// The version of an account, and no rows yet. `lacks_bodies` says that events are added without their
    /// bodies, because the request has them.
    pub(crate) fn without_rows(feed_head: i64, revision: i64, lacks_bodies: bool) -> Self {
        let read_version = ReadVersion { feed_head, revision, may_be_torn: false };
        let unit = if lacks_bodies { UnitOfWork::new_without_event_bodies() } else { UnitOfWork::default() };
        Self { read_version, unit }
    }
}

/// Reads the rows in the read set of each user on PostgreSQL, without a lock. Users without an account row are
/// missing in the result.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails;
/// [`Error::Bug`] if a stored row breaks an invariant.
pub async fn load_read_sets(
    connections: &Pool,
    read_sets: &BTreeMap<Uuid, &ReadSet>,
) -> Result<BTreeMap<Uuid, Loaded>, Error> {
    load_on_postgres(Locking::Optimistic(connections), read_sets).await
}

/// As [`load_read_sets`], with or without the locks of the accounts.
async fn load_on_postgres(
    locking: Locking<'_>,
    read_sets: &BTreeMap<Uuid, &ReadSet>,
) -> Result<BTreeMap<Uuid, Loaded>, Error> {
    let mut loaded = load_all_but_bodies(locking, read_sets).await?;
    load_bodies(locking, read_sets, &mut loaded).await?;
    for (user_id, of_user) in &mut loaded {
        load_event_counts(locking, *user_id, read_sets[user_id], of_user).await?;
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

    /// Whether reads take place without the lock of the account.
    fn is_optimistic(self) -> bool {
        matches!(self, Self::Optimistic(_))
    }

    async fn read_rows(
        self,
        sql: impl Into<String>,
        values: impl IntoIterator<Item = Value>,
        mut on_row: impl FnMut(Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        match self {
            Self::Pessimistic(tx) => {
                let rows = tx.query_rows(statement).await?;
                rows.iter().try_for_each(|row| on_row(Row::Postgres(row)))
            }
            Self::Optimistic(connections) => {
                connections.read_rows(statement, |row| on_row(row).map(ControlFlow::Continue)).await
            }
        }
    }
}

/// Locks the account of one user in a running transaction, and reads the rows in a read set. On PostgreSQL it
/// waits for the lock, at most for the `lock_timeout` of the connection. If the account row is missing, it is
/// created again within the transaction.
///
/// # Errors
/// [`Error::Locked`] if another transaction holds the lock for too long; [`Error::Moved`] if the account row
/// is missing and this process does not know the identity of the user; [`Error::Database`] if the database
/// fails.
pub async fn lock_account_and_load(tx: &Tx, user_id: Uuid, read_set: &Arc<ReadSet>) -> Result<Loaded, Error> {
    let is_missing = match tx.backend() {
        // A transaction that writes to SQLite holds the lock of all rows.
        DbBackend::Sqlite => match load_on_sqlite(tx, user_id, read_set).await? {
            Some(loaded) => return Ok(loaded),
            None => true,
        },
        _ => !lock_row_in_callers_transaction(tx, user_id, Lockable::Account).await?,
    };
    if is_missing {
        account::recreate_account(tx, user_id).await?;
    }
    load_under_held_lock(tx, user_id, read_set).await
}

/// Reads the rows in a read set of one user, in a transaction that holds the lock of the account already.
///
/// # Errors
/// As [`load_read_sets`], and [`Error::Moved`] if the account row is missing.
async fn load_under_held_lock(tx: &Tx, user_id: Uuid, read_set: &Arc<ReadSet>) -> Result<Loaded, Error> {
    let loaded = match tx.backend() {
        DbBackend::Sqlite => load_on_sqlite(tx, user_id, read_set).await?,
        _ => {
            let read_sets = BTreeMap::from([(user_id, &**read_set)]);
            load_on_postgres(Locking::Pessimistic(tx), &read_sets).await?.remove(&user_id)
        }
    };
    loaded.ok_or_else(|| account::evict_user_and_build_error(&tx.store, user_id))
}

/// Returns `None` if the account row is missing.
async fn load_on_sqlite(tx: &Tx, user_id: Uuid, read_set: &Arc<ReadSet>) -> Result<Option<Loaded>, Error> {
    let read_set = Arc::clone(read_set);
    tx.run_on_sqlite(move |connection| sqlite::load_read_set(connection, user_id, &read_set)).await
}

/// Begins a transaction, locks a user's account in it, and reads the rows in a read set. It waits for a
/// limited time while another transaction holds the lock; the time counts from `since`, when the write began
/// to wait. If the account row is missing, it is created again.
///
/// # Errors
/// As [`lock_account_and_load`], and [`Error::Busy`] if too many writes of the user wait, or no connection is free in
/// time.
pub async fn begin_lock_and_load(
    store: &Store,
    user_id: Uuid,
    read_set: &Arc<ReadSet>,
    since: Instant,
) -> Result<(Tx, Loaded), Error> {
    if store.backend() == DbBackend::Sqlite {
        let tx = store.begin().await?;
        let loaded = lock_account_and_load(&tx, user_id, read_set).await?;
        return Ok((tx, loaded));
    }
    let (tx, is_there) = begin_and_lock_row(store, user_id, Lockable::Account, since).await?;
    if !is_there {
        account::recreate_account(&tx, user_id).await?;
    }
    let loaded = load_under_held_lock(&tx, user_id, read_set).await?;
    Ok((tx, loaded))
}

/// Reads feed heads, revisions, aliases, ids of imports, types, and events without their bodies, in one
/// statement ([`sql::sql_load_all_but_bodies`]).
async fn load_all_but_bodies(
    locking: Locking<'_>,
    read_sets: &BTreeMap<Uuid, &ReadSet>,
) -> Result<BTreeMap<Uuid, Loaded>, Error> {
    let Parameters { values, owners, by_key, by_name } = read_set::query_parameters(read_sets);
    let for_response = read_sets.values().any(|read_set| read_set.body_source() == BodySource::FromRequest);
    let shape = Shape { owners, by_key, by_name, for_response };
    let sql = sql::sql_load_all_but_bodies(shape);
    let mut loaded: BTreeMap<Uuid, Loaded> = BTreeMap::new();
    // The account rows come first. Rows of a user without an account row are skipped.
    let on_row = |row: Row<'_>| {
        let mut reader = RowReader::new(row, 0);
        let (kind, user_id): (i32, Uuid) = (reader.next()?, reader.next()?);
        if kind != Kind::HEAD {
            return match loaded.get_mut(&user_id) {
                Some(of_user) => add_row_to_unit(&mut of_user.unit, kind, row),
                None => Ok(()),
            };
        }
        let (_, _): (Option<Uuid>, Option<Uuid>) = (reader.next()?, reader.next()?);
        let (head, revision): (i64, i64) = (reader.next()?, reader.next()?);
        let is_without_bodies =
            read_sets.get(&user_id).is_some_and(|read_set| read_set.body_source() == BodySource::FromRequest);
        loaded.insert(user_id, Loaded::without_rows(head, revision, is_without_bodies));
        Ok(())
    };
    locking.read_rows(sql, values, on_row).await?;
    Ok(loaded)
}

pub(crate) fn add_row_to_unit(unit: &mut UnitOfWork, kind: i32, row: Row<'_>) -> Result<(), Error> {
    let mut reader = RowReader::new(row, 2);
    match kind {
        Kind::EVENT => {
            let (_id, import_job_id): (Uuid, _) = (reader.next()?, reader.next()?);
            unit.add_stored_event(model::read_event_without_body(row, FIRST, import_job_id)?);
        }
        Kind::TYPE => unit.add_stored_type(model::read_type_row(row, FIRST, ColumnSet::All)?),
        _ => {
            let (id, alias) = (reader.next()?, reader.next()?);
            match reader.next::<i64>()? {
                1 => unit.add_stored_alias(Entity::Event, alias, id),
                2 => unit.add_stored_alias(Entity::EventType, alias, id),
                _ => unit.add_stored_import_id(id),
            }
        }
    }
    Ok(())
}

/// Reads complete events and their types, and puts them into `loaded`. It does so only for users whose read
/// set asks for bodies, and only for events that `loaded` has already.
async fn load_bodies(
    locking: Locking<'_>,
    read_sets: &BTreeMap<Uuid, &ReadSet>,
    loaded: &mut BTreeMap<Uuid, Loaded>,
) -> Result<(), Error> {
    let backend = locking.backend();
    let of_users =
        loaded.iter().filter(|(user_id, _)| read_sets[user_id].body_source() == BodySource::FromDatabase);
    let events =
        of_users.flat_map(|(user_id, of_user)| of_user.unit.event_ids().map(move |id| (*user_id, id)));
    let (owners, ids): (Vec<Uuid>, Vec<Uuid>) = events.unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let (sql, values) = bodies_query(backend, owners, ids);
    let on_row = |row: Row<'_>| {
        let mut reader = RowReader::new(row, 0);
        let (user_id, revision): (Uuid, i64) = (reader.next()?, reader.next()?);
        let Some(of_user) = loaded.get_mut(&user_id) else { return Ok(()) };
        of_user.read_version.may_be_torn |=
            locking.is_optimistic() && revision != of_user.read_version.revision;
        add_event_with_type(&mut of_user.unit, row)
    };
    locking.read_rows(sql, values, on_row).await
}

/// Reads complete events of one user and their types in one statement, without a lock. There must be at least
/// one id, and the ids must be those of stored rows: aliases are not looked up.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn load_events_with_types(
    store: &Store,
    user_id: Uuid,
    ids: Vec<Uuid>,
) -> Result<UnitOfWork, Error> {
    // The connections that write plan the lookups by the keys alone.
    let connections = store.optimistic_pools().map_or(&store.reader.0, |pools| &pools.batches);
    let (sql, values) = bodies_query(connections.backend(), vec![user_id; ids.len()], ids);
    let mut unit = UnitOfWork::default();
    let on_row = |row: Row<'_>| add_event_with_type(&mut unit, row);
    Locking::Optimistic(connections).read_rows(sql, values, on_row).await?;
    Ok(unit)
}

/// The statement that reads these events with their types, and its parameters. There must be at least one id.
fn bodies_query(backend: DbBackend, owners: Vec<Uuid>, ids: Vec<Uuid>) -> (&'static str, Vec<Value>) {
    let is_one = backend == DbBackend::Postgres && owners.iter().all(|owner| *owner == owners[0]);
    let (owners, values) = if is_one {
        (Owners::One, vec![owners[0].into(), dialect::ids_parameter(backend, &ids)])
    } else {
        (Owners::Many, dialect::table_parameters(backend, vec![List::Ids(owners), List::Ids(ids)]))
    };
    (sql::sql_load_bodies(backend, owners), values)
}

fn add_event_with_type(unit: &mut UnitOfWork, row: Row<'_>) -> Result<(), Error> {
    // A response to an event contains its type, and an edit may leave the type as it is.
    let first_of_type = 2 + model::EVENT.len();
    if RowReader::new(row, first_of_type).next::<Option<Uuid>>()?.is_some() {
        unit.add_stored_type(model::read_type_row(row, first_of_type, ColumnSet::All)?);
    }
    unit.add_stored_event(model::read_event_row(row, 2, ColumnSet::All)?);
    Ok(())
}

/// Counts the living events of each type that the call deletes, and puts the counts into the unit of work. It
/// stops counting a type at one more than a call can delete.
///
/// Plan: each type is found by its primary key, and the events of each are counted in the index
/// `event_by_type (user_id, event_type_id, timestamp DESC, id DESC)` up to the limit. A tombstone has no
/// type.
async fn load_event_counts(
    locking: Locking<'_>,
    user_id: Uuid,
    read_set: &ReadSet,
    Loaded { read_version, unit, .. }: &mut Loaded,
) -> Result<(), Error> {
    let types = types_to_count(read_set, unit);
    if types.is_empty() {
        return Ok(());
    }
    read_version.may_be_torn = locking.is_optimistic();
    let backend = locking.backend();
    let types: Vec<Uuid> = types.into_iter().collect();
    let sql = format!(
        "SELECT t.id, (SELECT count(*) FROM (SELECT 1 FROM event e \
                       WHERE e.user_id = $1 AND e.event_type_id = t.id LIMIT $3) counted) AS events \
         FROM event_type t WHERE t.user_id = $1 AND t.id IN (SELECT w.id FROM {})",
        dialect::sql_id_table(backend, 2),
    );
    let values: [Value; 3] =
        [user_id.into(), dialect::ids_parameter(backend, &types), COUNTED_EVENTS_MAX.into()];
    let on_row = |row: Row<'_>| {
        let mut reader = RowReader::new(row, 0);
        unit.set_event_count_of_type(reader.next()?, reader.next()?);
        Ok(())
    };
    locking.read_rows(sql, values, on_row).await
}

/// How far the living events of a type are counted: one more than a call can delete.
pub(crate) const COUNTED_EVENTS_MAX: i64 = BATCH_ITEMS_MAX as i64 + 1;

/// The types whose living events must be counted. Only types that are loaded are returned.
pub(crate) fn types_to_count(read_set: &ReadSet, unit: &UnitOfWork) -> HashSet<Uuid> {
    if read_set.counted_types().is_empty() {
        return HashSet::new();
    }
    // An earlier item of the same call may make an unknown id the alias of a type that is found by its name.
    let by_id = read_set.counted_types().iter().filter_map(|id| unit.find_type(*id));
    let by_name = read_set.type_names().iter().filter_map(|name| unit.find_type_by_name(name));
    by_id.chain(by_name).map(|row| row.meta.id).collect()
}
