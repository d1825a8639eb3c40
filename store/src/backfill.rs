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
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use super::dialect::{self, List};
use super::lock::{Lockable, begin_and_lock_row};
use super::row_reader::{Row, RowReader};
use super::{Store, Tx, run_to_completion};
use crate::error::Error;
use domain::case_folding::fold;

/// The most rows that one step of a backfill reads. With the longest notes they take a few tens of MiB.
pub const STEP_ROWS: usize = 250;

/// A text column that is derived from another column of the same row. The table has the primary key
/// `(user_id, id)` and a `version` that every write increments.
struct Derived {
    name: &'static str,
    table: &'static str,
    source: &'static str,
    target: &'static str,
    derive: fn(&str) -> String,
}

/// All derived columns. The migration that comes with a new rule adds a row with the same name to `backfill`.
static ALL: [Derived; 1] = [Derived {
    name: "event.notes_search",
    table: "event",
    source: "notes",
    target: "notes_search",
    derive: fold,
}];

/// A backfill of one derived column, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The table and the column that it fills, as in `event.notes_search`.
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

/// Checks the next rows after the checkpoint, up to [`STEP_ROWS`], and fills those whose derived text is out
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
        for user_rows in rows.chunk_by(|one, other| one.user_id == other.user_id) {
            checked += user_rows.len();
            let is_stale = user_rows.iter().any(|row| row.text.is_some());
            if !is_stale && checked < rows.len() {
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
    /// The text that the derived column must have, if it has another one now. `None` if nothing is to change.
    text: Option<String>,
}

impl CheckedRow {
    fn primary_key(&self) -> (Uuid, Uuid) {
        (self.user_id, self.id)
    }
}

/// Reads the rows after the checkpoint, up to [`STEP_ROWS`], and derives their texts again.
///
/// Plan: it walks the primary key `(user_id, id)` from the checkpoint, and stops at the limit.
async fn read_next_rows(
    store: &Store,
    derived: &Derived,
    after: (Uuid, Uuid),
) -> Result<Vec<CheckedRow>, Error> {
    let Derived { table, source, target, derive, .. } = derived;
    let sql = format!(
        "SELECT user_id, id, version, {source}, {target} FROM {table} WHERE (user_id, id) > ($1, $2) \
         ORDER BY user_id, id LIMIT {STEP_ROWS}"
    );
    let reader = store.reader();
    let statement = Statement::from_sql_and_values(reader.backend(), sql, [after.0.into(), after.1.into()]);
    let rows = reader.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            let mut reader = RowReader::new(Row::from_query_result(row)?, 0);
            let (user_id, id, version) = (reader.next()?, reader.next()?, reader.next()?);
            let (source, target): (Option<String>, Option<String>) = (reader.next()?, reader.next()?);
            let text = source.map(|source| derive(&source)).filter(|text| Some(text) != target.as_ref());
            Ok(CheckedRow { user_id, id, version, text })
        })
        .collect()
}

/// Writes the new derived texts of one user's rows, with one statement within `tx`.
///
/// Plan: it looks each row up by the primary key. A row with another version was written in the meantime, and
/// stays.
async fn update_stale_rows(tx: &Tx, derived: &Derived, rows: &[CheckedRow]) -> Result<(), Error> {
    let stale: Vec<(&CheckedRow, &str)> =
        rows.iter().filter_map(|row| Some((row, row.text.as_deref()?))).collect();
    let Some((first, _)) = stale.first() else { return Ok(()) };
    let Derived { table, target, .. } = derived;
    let backend = tx.backend();
    let wanted = dialect::sql_parameter_table(
        backend,
        &mut 2,
        &[("id", "uuid"), ("version", "text"), ("text", "text")],
    );
    let sql = format!(
        "UPDATE {table} SET {target} = w.text FROM {wanted} \
         WHERE {table}.user_id = $1 AND {table}.id = w.id AND {table}.version = CAST(w.version AS integer)"
    );
    let versions: Vec<String> = stale.iter().map(|(row, _)| row.version.to_string()).collect();
    let columns = vec![
        List::Ids(stale.iter().map(|(row, _)| row.id).collect()),
        List::Texts(versions.iter().map(String::as_str).collect()),
        List::Texts(stale.iter().map(|(_, text)| *text).collect()),
    ];
    let mut values = vec![first.user_id.into()];
    values.extend(dialect::table_parameters(backend, columns));
    tx.execute_statement(Statement::from_sql_and_values(backend, sql, values)).await.map(drop)
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
