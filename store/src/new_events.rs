//! Stores new events with one statement of PostgreSQL, which checks by itself that they are new.
//!
//! Most creates bring what is not stored yet. So they are decided before anything is read, as if all of their
//! events were new and all of the types living. The statement looks up everything that this depends on, and
//! stores the events of those users for whom it is true. For the others it returns what it found, and their
//! writes are decided again over that, as after a load (decision 0074).
//!
//! The statement reads everything from one snapshot. It then locks the account row, if the row is free and
//! still has the revision of the snapshot: then nothing of the user has changed since.

mod body;
mod one_event;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::LazyLock;

use ::entity::event;
use sea_orm::{DbBackend, IdenStatic, Iterable, Statement, Value};
use uuid::Uuid;

use crate::Tx;
use crate::bulk;
use crate::error::Error;
use crate::load::{Loaded, add_row_to_unit};
use crate::model::{self, sql_columns_of, sql_null_columns};
use crate::pool::Pool;
use crate::row_reader::{Row, RowReader};
use crate::save::convert_and_report_checked_write_error;
use body::{read_body_into, sql_body_if_different};
use domain::apply::UnitOfWork;
use domain::fault_injection;
use domain::row::EventRow;

/// The events that the creates of one user store if all of them are new, and all of their types are living.
#[derive(Debug)]
pub struct NewEvents {
    /// The owner of the events.
    pub user_id: Uuid,
    /// The events, at least one. Their positions are 1, 2, 3, …
    pub events: Vec<EventRow>,
    /// All types that the creates of the user name, also those of items that bring no new event, with the name
    /// that each must have. An empty name means that any name will do. Only [`NewEventsStatement`] checks names.
    pub types: HashMap<Uuid, String>,
}

/// What became of the events of one user.
#[derive(Debug)]
pub enum Attempt {
    /// All of them are stored. The unit has their types, and nothing else.
    Stored(UnitOfWork),
    /// None of them is stored. These are the rows that the creates depend on.
    Loaded(Loaded),
}

/// What was read of one user.
#[derive(Debug, Default)]
struct Found {
    loaded: Loaded,
    is_stored: bool,
    /// Whether an id is used for something else, or an external key is known. Then more rows must be loaded.
    needs_load: bool,
    type_ids: HashSet<Uuid>,
}

/// Stores the events of each user whose events are all new, whose types are all living, and whose account row
/// is neither locked nor changed since the statement read it.
///
/// Users whose writes depend on further rows are missing in the result: they need an ordinary load. Nothing of
/// them is stored.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time. [`Error::Database`] if the database fails or does not
/// answer; then it is unknown whether anything is stored. [`Error::Bug`] if the database has a row that the
/// statement did not find, or would store another number of rows than it moves the feed heads by; then nothing
/// is stored.
pub async fn store_if_all_new(
    connections: &Pool,
    mut all: Vec<NewEvents>,
) -> Result<BTreeMap<Uuid, Attempt>, Error> {
    if all.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut found: BTreeMap<Uuid, Found> = BTreeMap::new();
    let sent = match &mut all[..] {
        [NewEvents { user_id, events, types }] if events.len() == 1 && types.len() == 1 => {
            let (user_id, statement) = (*user_id, one_event::build_statement(*user_id, events.remove(0))?);
            let of_user = found.entry(user_id).or_default();
            let on_row = |row: Row<'_>| one_event::read_row(row, of_user).map(ControlFlow::Continue);
            connections.run_write(statement, on_row).await
        }
        _ => {
            let statement = build_statement(&mut all)?;
            connections.run_write(statement, |row| read_row(row, &mut found).map(ControlFlow::Continue)).await
        }
    };
    sent.map_err(convert_and_report_checked_write_error)?;
    let attempts = all.into_iter().filter_map(|NewEvents { user_id, types, .. }| {
        let found = found.remove(&user_id)?;
        if found.is_stored {
            return Some((user_id, Attempt::Stored(found.loaded.unit)));
        }
        // A type that is not found under its id may have an alias.
        let is_complete = !found.needs_load && types.keys().all(|id| found.type_ids.contains(id));
        is_complete.then_some((user_id, Attempt::Loaded(found.loaded)))
    });
    Ok(attempts.collect())
}

/// The statement that stores new events of one user, and its parameters.
#[derive(Debug)]
pub struct NewEventsStatement(Statement);

impl NewEventsStatement {
    /// Builds the text and the parameters for any number of events, without a connection. This takes a
    /// considerable part of the time of the write, so that it pays off to do it ahead.
    ///
    /// # Errors
    /// [`Error::Bug`] if a column of a row is not set.
    pub fn build(events: NewEvents) -> Result<Self, Error> {
        build_statement(&mut [events]).map(Self)
    }

    /// Stores the events within a transaction, if all of them are new, their types are living and have their
    /// names, and the account row is neither locked by another transaction nor changed. Returns false if it has
    /// stored nothing.
    ///
    /// # Errors
    /// [`Error::Database`] if the database fails or does not answer. [`Error::Bug`] if the database contradicts
    /// the statement, or on SQLite. The caller must not commit the transaction then.
    pub async fn store_in_transaction(self, tx: &Tx) -> Result<bool, Error> {
        let rows = tx.query_rows(self.0).await.map_err(convert_and_report_checked_write_error)?;
        for row in &rows {
            if RowReader::new(Row::Postgres(row), 0).next::<i32>()? == Kind::STORED {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Adds a row of the statement for many events to what was found.
fn read_row(row: Row<'_>, found: &mut BTreeMap<Uuid, Found>) -> Result<(), Error> {
    let mut reader = RowReader::new(row, 0);
    let (kind, user_id): (i32, Uuid) = (reader.next()?, reader.next()?);
    if kind == Kind::ACCOUNT {
        let (_, _): (Option<Uuid>, Option<Uuid>) = (reader.next()?, reader.next()?);
        let loaded = Loaded::without_rows(reader.next()?, reader.next()?, true);
        found.insert(user_id, Found { loaded, ..Found::default() });
        return Ok(());
    }
    // The account rows come first. Rows of a user without an account row are skipped.
    let Some(of_user) = found.get_mut(&user_id) else { return Ok(()) };
    match kind {
        Kind::STORED => of_user.is_stored = true,
        Kind::OTHER => of_user.needs_load = true,
        crate::load::Kind::EVENT => {
            let (_id, import_job_id): (Uuid, _) = (reader.next()?, reader.next()?);
            add_event(&mut of_user.loaded.unit, row, crate::load::FIRST, import_job_id)?;
        }
        _ => {
            of_user.type_ids.insert(reader.next()?);
            add_row_to_unit(&mut of_user.loaded.unit, kind, row)?;
        }
    }
    Ok(())
}

/// Adds a stored event whose columns begin at index `at`. If it differs from the event that was sent, its body follows
/// after the columns of an event type.
fn add_event(
    unit: &mut UnitOfWork,
    row: Row<'_>,
    at: usize,
    import_job_id: Option<Uuid>,
) -> Result<(), Error> {
    let mut event = model::read_event_without_body(row, at, import_job_id)?;
    if read_body_into(&mut event, row, at + model::TYPE.len())? {
        unit.add_stored_event_with_body(event);
    } else {
        unit.add_stored_event(event);
    }
    Ok(())
}

/// What a row of the statement stands for, besides the kinds of [`crate::load::Kind`]: the number in its first
/// column. The row of the account comes first.
struct Kind;

impl Kind {
    /// The account as it was read.
    const ACCOUNT: i32 = 0;
    /// The events of the user are stored.
    const STORED: i32 = 4;
    /// An id or an external key belongs to another row.
    const OTHER: i32 = 5;
}

/// Builds the statement for many events, and takes them out of `all`.
fn build_statement(all: &mut [NewEvents]) -> Result<Statement, Error> {
    let count = |of_user: &NewEvents| i64::try_from(of_user.events.len()).unwrap_or(i64::MAX);
    let (template, mut values): (&str, Vec<Value>) = match &*all {
        [of_user] => {
            let (types, names): (Vec<Uuid>, Vec<String>) = of_user.types.clone().into_iter().unzip();
            (&ONE_USER, vec![of_user.user_id.into(), count(of_user).into(), types.into(), names.into()])
        }
        _ => {
            let (users, counts): (Vec<Uuid>, Vec<i64>) =
                all.iter().map(|of_user| (of_user.user_id, count(of_user))).unzip();
            let (owners, types): (Vec<Uuid>, Vec<Uuid>) =
                all.iter().flat_map(|of_user| of_user.types.keys().map(|id| (of_user.user_id, *id))).unzip();
            (&MANY_USERS, vec![users.into(), counts.into(), owners.into(), types.into()])
        }
    };
    let rows = all.iter_mut().flat_map(|of_user| {
        let user_id = of_user.user_id;
        std::mem::take(&mut of_user.events).into_iter().map(move |row| model::to_event_model(user_id, row))
    });
    let items = bulk::sql_select_rows(rows.collect(), &mut values)?;
    Ok(Statement::from_sql_and_values(DbBackend::Postgres, template.replace("{items}", &items), values))
}

static ONE_USER: LazyLock<String> =
    LazyLock::new(|| fill_template(include_str!("new_events/one_user.sql"), "$1"));
static MANY_USERS: LazyLock<String> =
    LazyLock::new(|| fill_template(include_str!("new_events/many_users.sql"), "w.\"user_id\""));

/// Fills in everything but the events, and leaves the comments out. `owner` is the expression for the owner of
/// an event.
///
/// Plan: each lateral subquery is one lookup in a unique index for each event, as in the statements of
/// [`crate::load`].
fn fill_template(template: &str, owner: &str) -> String {
    let postgres = DbBackend::Postgres;
    let (event_read, event_row) = model::sql_event_columns_without_body(postgres, true);
    let type_row = sql_columns_of("f", &model::TYPE);
    let names: Vec<String> = event::Column::iter().map(|column| format!("\"{}\"", column.as_str())).collect();
    let cells = event::Column::iter().map(|column| match column {
        event::Column::UserId => owner.to_owned(),
        event::Column::ChangeSeq => "m.feed_head + w.\"change_seq\"".to_owned(),
        other => format!("w.\"{}\"", other.as_str()),
    });
    remove_comments(template)
        .replace("{type_read}", &format!("f.user_id{type_row}"))
        .replace("{type_row}", &type_row)
        .replace("{event_read}", &format!("f.user_id{event_read}, f.import_job_id"))
        .replace("{event_row}", &event_row)
        .replace("{body}", &sql_body_if_different("w.content_hash", "w.event_type_id"))
        .replace("{no_row}", &sql_null_columns(postgres, &model::TYPE))
        .replace("{columns}", &names.join(", "))
        .replace("{cells}", &cells.collect::<Vec<_>>().join(", "))
        .replace("{is_unchanged}", is_unchanged())
}

/// The lines of a template that are not comments.
fn remove_comments(template: &str) -> String {
    let lines: Vec<&str> = template.lines().filter(|line| !line.starts_with("--")).collect();
    lines.join("\n")
}

/// The condition that the account row has the revision of the snapshot.
fn is_unchanged() -> &'static str {
    if fault_injection::is_injected("plant-head-alone") { "true" } else { "f.revision = s.revision" }
}
