//! Derived columns of rows that were stored by an older rule: they are filled anew, some rows at a time, beside all
//! other work. Rows that are written meanwhile have the new value already.
//!
//! A step reads some rows without a lock. Where one of them is to be changed it takes the lock of the user, as every
//! write does, and changes the rows that are still of the version that was read. The place up to which all is done is
//! moved in the same transaction, and only if it is still where it was: of two processes at one place, one is in vain.

use ::entity::backfill::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use super::cells::{Cells, Row};
use super::lock::{Lockable, begin_locked};
use super::{Store, Tx, to_its_end};
use crate::error::Error;
use crate::rules::folded::fold;

/// Rows that a step looks at.
pub const STEP_ROWS: usize = 1_000;

/// A column of text that is derived from another one of the same row. The table has the key `(user_id, id)` and a
/// `version` that every write counts.
struct Derived {
    name: &'static str,
    table: &'static str,
    source: &'static str,
    target: &'static str,
    derive: fn(&str) -> String,
}

/// All of them, by name; the migration that makes a rule new adds the row of its name to `backfill`.
static ALL: [Derived; 1] = [Derived {
    name: "event.notes_search",
    table: "event",
    source: "notes",
    target: "notes_search",
    derive: fold,
}];

/// How far a backfill is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The table and the column.
    pub name: String,
    /// The last row that was looked at, by its owner and its id.
    after: (Uuid, Uuid),
    /// Rows looked at.
    pub rows: i64,
    /// All rows were looked at.
    pub is_done: bool,
}

impl Backfill {
    /// The share of all users whose rows were looked at, from 0 to 1. Their ids are spread evenly.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.is_done {
            1.0
        } else {
            f64::from((self.after.0.as_u128() >> 96) as u32) / f64::from(u32::MAX)
        }
    }
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many rows were looked at.
    Done(usize),
    /// Another process is at it, or a user's row is locked.
    InVain,
    /// There was nothing left.
    AtEnd,
}

/// All backfills that this program knows, in the order of their names.
///
/// # Errors
/// When the database fails.
pub async fn all(store: &Store) -> Result<Vec<Backfill>, Error> {
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

/// Looks at the next rows, and fills those whose derived text is an older one.
///
/// # Errors
/// When the database fails. It is safe to do the step again.
pub async fn step(store: &Store, backfill: &Backfill) -> Result<Step, Error> {
    let derived =
        ALL.iter().find(|derived| derived.name == backfill.name).ok_or(Error::Bug("it is one of all"))?;
    let mut rows = read(store, derived, backfill.after).await?;
    let Some(first) = rows.iter().position(|row| row.text.is_some()) else {
        return advance(store, None, backfill, rows.last().map(Stale::key), rows.len()).await;
    };
    // One transaction is of one user: what comes before is as it should be, and what comes after is for the next step.
    let user_id = rows[first].user_id;
    let end = rows[first..].iter().position(|row| row.user_id != user_id).map_or(rows.len(), |at| first + at);
    rows.truncate(end);
    let (store, backfill) = (store.clone(), backfill.clone());
    to_its_end(async move {
        let (tx, _) = match begin_locked(&store, user_id, Lockable::Account, Instant::now()).await {
            Err(Error::Locked | Error::Busy) => return Ok(Step::InVain),
            begun => begun?,
        };
        let last = rows.last().map(Stale::key);
        let looked_at = rows.len();
        for row in rows {
            fill(&tx, derived, row).await?;
        }
        advance(&store, Some(tx), &backfill, last, looked_at).await
    })
    .await
}

/// Begins all of them anew, for rows that an older program has written since.
///
/// # Errors
/// When the database fails.
pub async fn begin_anew(store: &Store) -> Result<(), Error> {
    let tx = store.begin().await?;
    Entity::update_many()
        .col_expr(Column::AfterUserId, Expr::value(Uuid::nil()))
        .col_expr(Column::AfterId, Expr::value(Uuid::nil()))
        .col_expr(Column::Rows, Expr::value(0_i64))
        .col_expr(Column::IsDone, Expr::value(false))
        .exec(&tx.inner)
        .await?;
    tx.commit().await
}

/// A row that was looked at.
struct Stale {
    user_id: Uuid,
    id: Uuid,
    version: i32,
    /// The text that it should have, if it has another one.
    text: Option<String>,
}

impl Stale {
    fn key(&self) -> (Uuid, Uuid) {
        (self.user_id, self.id)
    }
}

async fn read(store: &Store, derived: &Derived, after: (Uuid, Uuid)) -> Result<Vec<Stale>, Error> {
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
            let mut cells = Cells::new(Row::of(row)?, 0);
            let (user_id, id, version) = (cells.next()?, cells.next()?, cells.next()?);
            let (source, target): (Option<String>, Option<String>) = (cells.next()?, cells.next()?);
            let text = source.map(|source| derive(&source)).filter(|text| Some(text) != target.as_ref());
            Ok(Stale { user_id, id, version, text })
        })
        .collect()
}

async fn fill(tx: &Tx, derived: &Derived, row: Stale) -> Result<(), Error> {
    let Some(text) = row.text else { return Ok(()) };
    let Derived { table, target, .. } = derived;
    let sql = format!("UPDATE {table} SET {target} = $1 WHERE user_id = $2 AND id = $3 AND version = $4");
    let values = [text.into(), row.user_id.into(), row.id.into(), row.version.into()];
    tx.inner.execute_raw(Statement::from_sql_and_values(tx.backend(), sql, values)).await?;
    Ok(())
}

/// Moves the place on to the last row that was looked at, or to the end if there was none.
async fn advance(
    store: &Store,
    tx: Option<Tx>,
    backfill: &Backfill,
    last: Option<(Uuid, Uuid)>,
    rows: usize,
) -> Result<Step, Error> {
    let tx = match tx {
        Some(tx) => tx,
        None => store.begin().await?,
    };
    let (user_id, id) = last.unwrap_or(backfill.after);
    let moved = Entity::update_many()
        .col_expr(Column::AfterUserId, Expr::value(user_id))
        .col_expr(Column::AfterId, Expr::value(id))
        .col_expr(Column::Rows, Expr::value(backfill.rows + i64::try_from(rows).unwrap_or_default()))
        .col_expr(Column::IsDone, Expr::value(last.is_none()))
        .filter(Column::Name.eq(&backfill.name))
        .filter(Column::AfterUserId.eq(backfill.after.0))
        .filter(Column::AfterId.eq(backfill.after.1))
        .filter(Column::IsDone.eq(false))
        .exec(&tx.inner)
        .await?;
    if moved.rows_affected == 0 {
        tx.release().await?;
        return Ok(Step::InVain);
    }
    tx.commit().await?;
    Ok(if last.is_some() { Step::Done(rows) } else { Step::AtEnd })
}
