//! Loads the rows that a write needs on SQLite, each by a lookup of its own, with statements that are prepared
//! once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rusqlite::types::ToSql;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use sea_orm::DbBackend;
use uuid::Uuid;

use crate::error::Error;
use crate::load::{COUNTED_EVENTS_MAX, Loaded, ReadSet, types_to_count};
use crate::model::{self, ColumnSet};
use crate::row_reader::{Row, RowReader};
use domain::apply::{Entity, UnitOfWork};
use domain::row::EventRow;

const ACCOUNT: &str = "SELECT feed_head, revision FROM account WHERE user_id = ?1";
const ALIAS: &str = "SELECT entity, id FROM id_alias WHERE user_id = ?1 AND alias_id = ?2";
const IMPORT: &str = "SELECT 1 FROM import_job WHERE user_id = ?1 AND id = ?2";
const COUNT_EVENTS: &str = "SELECT count(*) FROM (SELECT 1 FROM event WHERE user_id = ?1 \
    AND event_type_id = ?2 LIMIT ?3)";
/// Each of these finds out whether a table has any row of the user between two ids.
const ANY_ALIAS: &str = "SELECT 1 FROM id_alias WHERE user_id = ?1 AND alias_id BETWEEN ?2 AND ?3 LIMIT 1";
const ANY_IMPORT: &str = "SELECT 1 FROM import_job WHERE user_id = ?1 AND id BETWEEN ?2 AND ?3 LIMIT 1";
const ANY_TYPE: &str = "SELECT 1 FROM event_type WHERE user_id = ?1 AND id BETWEEN ?2 AND ?3 LIMIT 1";

/// The statements that look up events and event types, each by one unique index. The first column is the import
/// of the event, or NULL. The columns of the row follow.
struct LookupStatements {
    event_by_id: String,
    event_by_key: String,
    type_by_id: String,
    type_by_name: String,
}

impl LookupStatements {
    /// The statements for a write that reads this much of an event.
    fn for_detail(detail: Detail) -> &'static Self {
        static KEYS: LazyLock<LookupStatements> = LazyLock::new(|| LookupStatements::build(Detail::Keys));
        static RESPONSE: LazyLock<LookupStatements> =
            LazyLock::new(|| LookupStatements::build(Detail::Response));
        static BODIES: LazyLock<LookupStatements> = LazyLock::new(|| LookupStatements::build(Detail::Bodies));
        match detail {
            Detail::Keys => &KEYS,
            Detail::Response => &RESPONSE,
            Detail::Bodies => &BODIES,
        }
    }

    fn build(detail: Detail) -> Self {
        let (import, event) = match detail {
            Detail::Keys => ("NULL", model::sql_event_columns_without_body(DbBackend::Sqlite, false).1),
            Detail::Response => {
                ("f.import_job_id", model::sql_event_columns_without_body(DbBackend::Sqlite, true).1)
            }
            Detail::Bodies => ("NULL", model::sql_columns_of("f", &model::EVENT)),
        };
        let event = format!("SELECT {import}{event} FROM event f WHERE f.user_id = ?1");
        let event_type = model::sql_columns_of("f", &model::TYPE);
        let event_type = format!("SELECT NULL{event_type} FROM event_type f WHERE f.user_id = ?1");
        Self {
            event_by_id: format!("{event} AND f.id = ?2"),
            event_by_key: format!("{event} AND f.source_type = ?2 AND f.external_id = ?3"),
            type_by_id: format!("{event_type} AND f.id = ?2"),
            type_by_name: format!("{event_type} AND f.name = ?2"),
        }
    }
}

/// How much of each event is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Keys, hash and version.
    Keys,
    /// Keys, hash and version, and the times and the import that a response shows.
    Response,
    /// The whole event, and its type.
    Bodies,
}

/// Reads the rows in the read set of each user, in a transaction that writes. Users without an account row are
/// missing in the result.
///
/// # Errors
/// [`Error::Database`] if the database fails; [`Error::Bug`] if a stored row breaks an invariant.
pub(crate) fn load_read_sets(
    connection: &Connection,
    read_sets: &BTreeMap<Uuid, ReadSet>,
) -> Result<BTreeMap<Uuid, Loaded>, Error> {
    let mut all = BTreeMap::new();
    for (user_id, read_set) in read_sets {
        if let Some(loaded) = load_read_set(connection, *user_id, read_set)? {
            all.insert(*user_id, loaded);
        }
    }
    Ok(all)
}

/// Reads the rows in the read set of one user. Returns `None` if the user has no account row.
///
/// # Errors
/// As [`load_read_sets`].
pub(crate) fn load_read_set(
    connection: &Connection,
    user_id: Uuid,
    read_set: &ReadSet,
) -> Result<Option<Loaded>, Error> {
    let read_version = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let account =
        connection.prepare_cached(ACCOUNT)?.query_row([user_id.as_bytes()], read_version).optional()?;
    let Some((feed_head, revision)) = account else { return Ok(None) };
    let detail = read_set.detail();
    let loaded = Loaded::without_rows(feed_head, revision, detail == Detail::Response);
    let texts = LookupStatements::for_detail(detail);
    let event_by_id = connection.prepare_cached(&texts.event_by_id)?;
    let event_by_key = connection.prepare_cached(&texts.event_by_key)?;
    let mut loader = Loader { connection, user_id, detail, texts, event_by_id, event_by_key, loaded };
    loader.add_ids(read_set)?;
    for (source_type, external_id, id) in read_set.keys() {
        // An event that is stored under the id beside it needs no lookup by its key.
        if loader.unit().find_event(*id).is_none() {
            loader.add_event_by_key(source_type, external_id)?;
        }
    }
    for name in read_set.type_names() {
        loader.add_type(&loader.texts.type_by_name, name)?;
    }
    loader.add_event_counts(read_set)?;
    Ok(Some(loader.loaded))
}

/// Looks up rows of one user, and adds those that exist.
struct Loader<'c> {
    connection: &'c Connection,
    user_id: Uuid,
    detail: Detail,
    texts: &'static LookupStatements,
    /// Kept here, because a large write runs them so often that even the statement cache costs time.
    event_by_id: CachedStatement<'c>,
    event_by_key: CachedStatement<'c>,
    loaded: Loaded,
}

impl Loader<'_> {
    fn unit(&mut self) -> &mut UnitOfWork {
        &mut self.loaded.unit
    }

    /// Adds the rows that have one of the ids. An id stands for one row only (decision 0047).
    fn add_ids(&mut self, read_set: &ReadSet) -> Result<(), Error> {
        let mut ids: Vec<Uuid> = read_set.ids().iter().copied().collect();
        // Sorted, so that the lookups walk the index in its order.
        ids.sort_unstable();
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(()) };
        // Most ids of a large write are those of new events. They are not looked up in tables that have no id
        // between the first and the last one.
        let has_any =
            |sql| self.exists(sql, params![self.user_id.as_bytes(), first.as_bytes(), last.as_bytes()]);
        let (has_aliases, has_imports, has_types) =
            (has_any(ANY_ALIAS)?, has_any(ANY_IMPORT)?, has_any(ANY_TYPE)?);
        for id in &ids {
            let is_known = (read_set.is_type_of_new_event(*id) && self.add_type_by_id(*id)?)
                || self.add_event_by_id(*id)?
                || (has_aliases && self.add_alias(*id)?)
                || (has_types && self.add_type_by_id(*id)?);
            if !is_known
                && has_imports
                && self.exists(IMPORT, params![self.user_id.as_bytes(), id.as_bytes()])?
            {
                self.unit().add_stored_import_id(*id);
            }
        }
        Ok(())
    }

    fn exists(&self, sql: &str, parameters: &[&dyn ToSql]) -> Result<bool, Error> {
        Ok(self.connection.prepare_cached(sql)?.exists(parameters)?)
    }

    /// Adds the alias with this id, and the row that it stands for.
    fn add_alias(&mut self, alias: Uuid) -> Result<bool, Error> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?));
        let parameters = params![self.user_id.as_bytes(), alias.as_bytes()];
        let found = self.connection.prepare_cached(ALIAS)?.query_row(parameters, read).optional()?;
        let Some((entity, id)) = found else { return Ok(false) };
        let id = Uuid::from_bytes(id);
        if entity == 1 {
            self.unit().add_stored_alias(Entity::Event, alias, id);
            self.add_event_by_id(id)?;
        } else {
            self.unit().add_stored_alias(Entity::EventType, alias, id);
            self.add_type_by_id(id)?;
        }
        Ok(true)
    }

    fn add_event_by_id(&mut self, id: Uuid) -> Result<bool, Error> {
        let parameters = params![self.user_id.as_bytes(), id.as_bytes()];
        let found = read_event(&mut self.event_by_id, parameters, self.detail)?;
        self.add_event(found)
    }

    fn add_event_by_key(&mut self, source_type: &str, external_id: &str) -> Result<bool, Error> {
        let parameters = params![self.user_id.as_bytes(), source_type, external_id];
        let found = read_event(&mut self.event_by_key, parameters, self.detail)?;
        self.add_event(found)
    }

    /// Adds an event if it was found. Adds its type as well if bodies are read: a response to an event contains
    /// its type, and an edit may leave the type as it is.
    fn add_event(&mut self, found: Option<EventRow>) -> Result<bool, Error> {
        let Some(event) = found else { return Ok(false) };
        let type_id = event.content.as_ref().map(|content| content.event_type_id);
        self.unit().add_stored_event(event);
        if let Some(type_id) = type_id
            && self.detail == Detail::Bodies
            && self.unit().find_type(type_id).is_none()
        {
            self.add_type_by_id(type_id)?;
        }
        Ok(true)
    }

    fn add_type_by_id(&mut self, id: Uuid) -> Result<bool, Error> {
        self.add_type(&self.texts.type_by_id, &id.as_bytes())
    }

    fn add_type(&mut self, sql: &str, key: &dyn ToSql) -> Result<bool, Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.user_id.as_bytes(), key])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        self.loaded.unit.add_stored_type(model::read_type_row(Row::Rusqlite(row), 1, ColumnSet::All)?);
        Ok(true)
    }

    /// Counts the living events of each type that the call deletes, up to a limit.
    fn add_event_counts(&mut self, read_set: &ReadSet) -> Result<(), Error> {
        for id in types_to_count(read_set, &self.loaded.unit) {
            let parameters = params![self.user_id.as_bytes(), id.as_bytes(), COUNTED_EVENTS_MAX];
            let mut statement = self.connection.prepare_cached(COUNT_EVENTS)?;
            let events = statement.query_row(parameters, |row| row.get(0))?;
            self.unit().set_event_count_of_type(id, events);
        }
        Ok(())
    }
}

fn read_event(
    statement: &mut CachedStatement<'_>,
    parameters: &[&dyn ToSql],
    detail: Detail,
) -> Result<Option<EventRow>, Error> {
    let mut rows = statement.query(parameters)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let row = Row::Rusqlite(row);
    Ok(Some(match detail {
        Detail::Bodies => model::read_event_row(row, 1, ColumnSet::All)?,
        Detail::Keys | Detail::Response => {
            model::read_event_without_body(row, 1, RowReader::new(row, 0).next()?)?
        }
    }))
}
