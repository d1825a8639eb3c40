//! Fills derived columns of stored rows again after their rule has changed (decision 0069).
//!
//! It works in steps of some rows, while the server does its other work. Rows that are written in the
//! meantime have the new value already.
//!
//! A step reads some rows without a lock. For each user with rows to change it locks the account, as every
//! write does, and changes the rows that still have the version that was read. The checkpoint moves in the
//! same transaction, and only from where it was read. So if two processes do the same step, one of them
//! stores nothing.

use ::entity::backfill::{Column, Entity};
use rusqlite::Connection;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, Statement, Value,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::lock::{Lockable, begin_and_lock_row};
use super::row_reader::{Row, RowReader};
use super::{Store, Tx, run_to_completion};
use crate::error::Error;
use domain::case_folding::fold;
use domain::stats::measure::{self, Measured};

/// The most rows that one step of a backfill reads. With the longest notes they take a few tens of MiB.
pub const STEP_ROWS: usize = 250;

/// Columns that are derived from a text column of the same row. The table has the primary key `(user_id, id)` and a
/// `version` that every write increments.
struct Derived {
    name: &'static str,
    table: &'static str,
    source: &'static str,
    /// The names of the columns, with whether each holds a number instead of a text.
    targets: &'static [(&'static str, bool)],
    /// Returns a value for each column. Numbers are texts that Rust parses into the same number.
    derive: fn(&str) -> Vec<Option<String>>,
}

/// All derived columns. The migration that comes with a new rule adds a row with the same name to `backfill`.
static ALL: [Derived; 2] = [
    Derived {
        name: "event.notes_search",
        table: "event",
        source: "notes",
        targets: &[("notes_search", false)],
        derive: |notes| vec![Some(fold(notes))],
    },
    Derived {
        name: VALUES,
        table: "event",
        source: "properties",
        targets: &[("value", true), ("unit", false)],
        derive: |properties| match measure::promoted(properties) {
            Some(Measured { value, unit }) => vec![Some(value.to_string()), unit],
            None => vec![None, None],
        },
    },
];

/// The backfill of the numbers and units that statistics add up.
pub(crate) const VALUES: &str = "event.value";

/// A backfill of derived columns, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The table and the (first) column that it fills, as in `event.notes_search`.
    pub name: String,
    /// The checkpoint: the owner and the id of the last row that was checked.
    after: (Uuid, Uuid),
    /// How many rows were checked so far.
    pub rows: i64,
    /// Whether all rows were checked.
    pub is_done: bool,
}

impl Backfill {
    /// Whether `other` is the same backfill at the same checkpoint.
    #[must_use]
    pub fn has_same_checkpoint(&self, other: &Self) -> bool {
        (&self.name, self.after, self.is_done) == (&other.name, other.after, other.is_done)
    }

    /// The share of users whose rows were checked, from 0 to 1. It is estimated from the user id at the
    /// checkpoint, because user ids are spread evenly.
    #[must_use]
    pub fn estimate_progress(&self) -> f64 {
        if self.is_done {
            1.0
        } else {
            f64::from((self.after.0.as_u128() >> 96) as u32) / f64::from(u32::MAX)
        }
    }
}

/// The outcome of one step of a backfill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The step has checked this number of rows, and the backfill is now this far.
    Done(usize, Backfill),
    /// The step has ended early, because another process has moved the checkpoint, or the account of a user
    /// is locked. What it did before is kept.
    Conflict,
    /// No rows were left, and the backfill is recorded as done.
    AtEnd,
}

/// Reads the progress of all backfills that this program knows, in the order of their names.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn load_all(store: &Store) -> Result<Vec<Backfill>, Error> {
    let names = ALL.iter().map(|derived| derived.name);
    let rows = Entity::find().filter(Column::Name.is_in(names)).order_by_asc(Column::Name);
    let rows = rows.all(store.reader()).await?;
    Ok(rows
        .into_iter()
        .map(|row| Backfill {
            name: row.name,
            after: (row.after_user_id, row.after_id),
            rows: row.rows,
            is_done: row.is_done,
        })
        .collect())
}

/// Whether all rows were checked by the backfill with this name.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub(crate) async fn is_done(store: &Store, name: &str) -> Result<bool, Error> {
    let row = Entity::find().filter(Column::Name.eq(name)).one(store.reader()).await?;
    Ok(row.is_some_and(|row| row.is_done))
}

/// Checks the next rows after the checkpoint, up to [`STEP_ROWS`], and fills those whose derived columns are out
/// of date. Rows and checkpoint are committed user by user. It is safe to repeat a step after an error.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn run_step(store: &Store, backfill: &Backfill) -> Result<Step, Error> {
    let derived = ALL
        .iter()
        .find(|derived| derived.name == backfill.name)
        .ok_or(Error::Bug("a backfill is of a known column"))?;
    let rows = read_next_rows(store, derived, backfill.after).await?;
    if rows.is_empty() {
        let end = Backfill { is_done: true, ..backfill.clone() };
        let moved = try_commit_checkpoint(store.begin().await?, backfill, &end).await?;
        return Ok(if moved { Step::AtEnd } else { Step::Conflict });
    }
    let (store, backfill, mut done) = (store.clone(), backfill.clone(), backfill.clone());
    run_to_completion(async move {
        let mut checked = 0;
        let count = rows.len();
        for user_rows in group_by_user(rows) {
            checked += user_rows.len();
            let is_stale = user_rows.iter().any(|row| row.derived.is_some());
            if !is_stale && checked < count {
                continue;
            }
            let after = user_rows.last().map_or(done.after, CheckedRow::primary_key);
            let counted = backfill.rows + i64::try_from(checked).unwrap_or_default();
            let next = Backfill { after, rows: counted, ..done.clone() };
            let tx = if is_stale {
                match begin_and_lock_row(&store, after.0, Lockable::Account, Instant::now()).await {
                    Err(Error::Locked | Error::Busy) => return Ok(Step::Conflict),
                    locked => locked?.0,
                }
            } else {
                store.begin().await?
            };
            update_stale_rows(&tx, derived, user_rows).await?;
            if !try_commit_checkpoint(tx, &done, &next).await? {
                return Ok(Step::Conflict);
            }
            done = next;
        }
        Ok(Step::Done(checked, done))
    })
    .await
}

/// Sets all backfills back to their start, so that they also fill rows that an older version of the program
/// has written in the meantime. It fills nothing itself.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn restart_all(store: &Store) -> Result<(), Error> {
    let tx = store.begin().await?;
    let restart = Entity::update_many()
        .col_expr(Column::AfterUserId, Expr::value(Uuid::nil()))
        .col_expr(Column::AfterId, Expr::value(Uuid::nil()))
        .col_expr(Column::Rows, Expr::value(0_i64))
        .col_expr(Column::IsDone, Expr::value(false));
    tx.execute(&restart).await?;
    tx.commit().await
}

/// A row that was checked.
struct CheckedRow {
    user_id: Uuid,
    id: Uuid,
    version: i32,
    /// The values that the derived columns must have, if they have others now. `None` if nothing is to change.
    derived: Option<Vec<Option<String>>>,
}

impl CheckedRow {
    fn primary_key(&self) -> (Uuid, Uuid) {
        (self.user_id, self.id)
    }
}

/// Splits rows, which are sorted by user, into those of each user.
fn group_by_user(rows: Vec<CheckedRow>) -> Vec<Vec<CheckedRow>> {
    let mut groups: Vec<Vec<CheckedRow>> = Vec::new();
    for row in rows {
        match groups.last_mut() {
            Some(group) if group[0].user_id == row.user_id => group.push(row),
            _ => groups.push(vec![row]),
        }
    }
    groups
}

/// Reads the rows after the checkpoint, up to [`STEP_ROWS`], and derives their columns again.
///
/// Plan: it walks the primary key `(user_id, id)` from the checkpoint, and stops at the limit.
async fn read_next_rows(
    store: &Store,
    derived: &Derived,
    after: (Uuid, Uuid),
) -> Result<Vec<CheckedRow>, Error> {
    let Derived { table, source, targets, derive, .. } = derived;
    let columns: Vec<&str> = targets.iter().map(|(name, _)| *name).collect();
    let columns = columns.join(", ");
    let sql = format!(
        "SELECT user_id, id, version, {source}, {columns} FROM {table} WHERE (user_id, id) > ($1, $2) \
         ORDER BY user_id, id LIMIT {STEP_ROWS}"
    );
    let reader = store.reader();
    let statement = Statement::from_sql_and_values(reader.backend(), sql, [after.0.into(), after.1.into()]);
    let rows = reader.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            let mut reader = RowReader::new(Row::from_query_result(row)?, 0);
            let (user_id, id, version) = (reader.next()?, reader.next()?, reader.next()?);
            let source: Option<String> = reader.next()?;
            let stored = targets.iter().map(|(_, is_number)| match is_number {
                true => Ok(reader.next::<Option<f64>>()?.map(|number| number.to_string())),
                false => reader.next(),
            });
            let stored = stored.collect::<Result<Vec<Option<String>>, Error>>()?;
            let derived = source.map_or_else(|| vec![None; targets.len()], |source| derive(&source));
            let derived = Some(derived).filter(|derived| *derived != stored);
            Ok(CheckedRow { user_id, id, version, derived })
        })
        .collect()
}

/// Writes the new derived columns of one user's rows within `tx`.
///
/// Plan: it looks each row up by the primary key. A row with another version was written in the meantime, and
/// stays.
async fn update_stale_rows(tx: &Tx, derived: &'static Derived, rows: Vec<CheckedRow>) -> Result<(), Error> {
    let stale: Vec<CheckedRow> = rows.into_iter().filter(|row| row.derived.is_some()).collect();
    if stale.is_empty() {
        return Ok(());
    }
    match tx.backend() {
        DbBackend::Sqlite => {
            tx.run_on_sqlite(move |connection| update_rows_on_sqlite(connection, derived, &stale)).await
        }
        _ => tx.execute_statement(update_statement(derived, &stale)).await.map(drop),
    }
}

fn update_rows_on_sqlite(
    connection: &Connection,
    derived: &Derived,
    rows: &[CheckedRow],
) -> Result<(), Error> {
    let set: Vec<String> =
        derived.targets.iter().zip(4..).map(|((name, _), number)| format!("{name} = ?{number}")).collect();
    let sql = format!(
        "UPDATE {} SET {} WHERE user_id = ?1 AND id = ?2 AND version = ?3",
        derived.table,
        set.join(", ")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    for CheckedRow { user_id, id, version, derived: values } in rows {
        let mut parameters: Vec<rusqlite::types::Value> =
            vec![user_id.as_bytes().to_vec().into(), id.as_bytes().to_vec().into(), (*version).into()];
        for ((_, is_number), text) in derived.targets.iter().zip(values.iter().flatten()) {
            parameters.push(match text {
                Some(text) if *is_number => text.parse::<f64>().unwrap_or_default().into(),
                text => text.clone().into(),
            });
        }
        statement.execute(rusqlite::params_from_iter(parameters))?;
    }
    Ok(())
}

/// The statement of PostgreSQL that updates rows of one user. A text in its arrays is never null: a value has a
/// mark in front, and a null is the empty text.
fn update_statement(derived: &Derived, rows: &[CheckedRow]) -> Statement {
    let mut values: Vec<Value> = vec![
        rows[0].user_id.into(),
        rows.iter().map(|row| row.id).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.version).collect::<Vec<_>>().into(),
    ];
    let (mut arrays, mut names, mut set) = (String::new(), String::new(), Vec::new());
    for (at, (name, is_number)) in derived.targets.iter().enumerate() {
        let marked =
            rows.iter().map(|row| match row.derived.as_ref().and_then(|values| values[at].as_ref()) {
                Some(value) => format!("={value}"),
                None => String::new(),
            });
        values.push(marked.collect::<Vec<_>>().into());
        arrays += &format!(", ${}::text[]", at + 4);
        names += &format!(", {name}");
        let cast = if *is_number { "::double precision" } else { "" };
        set.push(format!("{name} = CASE WHEN w.{name} = '' THEN NULL ELSE substr(w.{name}, 2) END{cast}"));
    }
    let (table, set) = (derived.table, set.join(", "));
    let sql = format!(
        "UPDATE {table} SET {set} FROM unnest($2::uuid[], $3::integer[]{arrays}) AS w(id, version{names}) \
         WHERE {table}.user_id = $1 AND {table}.id = w.id AND {table}.version = w.version"
    );
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// Moves the checkpoint of a backfill and commits the transaction. If the checkpoint is no longer at `from`,
/// it rolls the transaction back and returns false.
async fn try_commit_checkpoint(tx: Tx, from: &Backfill, to: &Backfill) -> Result<bool, Error> {
    let advance = Entity::update_many()
        .col_expr(Column::AfterUserId, Expr::value(to.after.0))
        .col_expr(Column::AfterId, Expr::value(to.after.1))
        .col_expr(Column::Rows, Expr::value(to.rows))
        .col_expr(Column::IsDone, Expr::value(to.is_done))
        .filter(Column::Name.eq(&from.name))
        .filter(Column::AfterUserId.eq(from.after.0))
        .filter(Column::AfterId.eq(from.after.1))
        .filter(Column::IsDone.eq(false));
    let has_moved = tx.execute(&advance).await? > 0;
    if has_moved {
        tx.commit().await?
    } else {
        tx.roll_back().await?
    };
    Ok(has_moved)
}
