//! Derived columns of rows that were stored by an older rule: they are filled anew, some rows at a time, beside all
//! other work. Rows that are written meanwhile have the new value already.
//!
//! A step reads some rows without a lock. For each user who has rows to be changed among them it takes the lock of that
//! user, as every write does, and changes the rows that are still of the version that was read. The place up to which
//! all is done is moved in the same transaction, and only if it is still where it was: of two processes at one place,
//! one stores nothing.

use ::entity::backfill::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use super::dialect::{self, List};
use super::lock::{Lockable, begin_locked};
use super::row_reader::{Row, RowReader};
use super::{Store, Tx, to_its_end};
use crate::error::Error;
use domain::folded::fold;

/// Rows that a step looks at. With the longest notes that are a few tens of MiB.
pub const STEP_ROWS: usize = 250;

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
    /// Whether it is as far as another reading of it.
    #[must_use]
    pub fn is_at(&self, other: &Self) -> bool {
        (&self.name, self.after, self.is_done) == (&other.name, other.after, other.is_done)
    }

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// So many rows were looked at, and it is so far now.
    Done(usize, Backfill),
    /// Another process has moved it on meanwhile, or the row of a user is locked.
    Conflict,
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
    let rows = read(store, derived, backfill.after).await?;
    if rows.is_empty() {
        let end = Backfill { is_done: true, ..backfill.clone() };
        let moved = advance(store.begin().await?, backfill, &end).await?;
        return Ok(if moved { Step::AtEnd } else { Step::Conflict });
    }
    let (store, backfill, mut done) = (store.clone(), backfill.clone(), backfill.clone());
    to_its_end(async move {
        let mut looked_at = 0;
        for of_user in rows.chunk_by(|one, other| one.user_id == other.user_id) {
            looked_at += of_user.len();
            let is_stale = of_user.iter().any(|row| row.text.is_some());
            if !is_stale && looked_at < rows.len() {
                continue;
            }
            let after = of_user.last().map_or(done.after, Stale::key);
            let counted = backfill.rows + i64::try_from(looked_at).unwrap_or_default();
            let next = Backfill { after, rows: counted, ..done.clone() };
            let tx = if is_stale {
                match begin_locked(&store, after.0, Lockable::Account, Instant::now()).await {
                    Err(Error::Locked | Error::Busy) => return Ok(Step::Conflict),
                    begun => begun?.0,
                }
            } else {
                store.begin().await?
            };
            fill(&tx, derived, of_user).await?;
            if !advance(tx, &done, &next).await? {
                return Ok(Step::Conflict);
            }
            done = next;
        }
        Ok(Step::Done(looked_at, done))
    })
    .await
}

/// Begins all of them anew, for rows that an older program has written since.
///
/// # Errors
/// When the database fails.
pub async fn restart(store: &Store) -> Result<(), Error> {
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
            let mut cells = RowReader::new(Row::of(row)?, 0);
            let (user_id, id, version) = (cells.next()?, cells.next()?, cells.next()?);
            let (source, target): (Option<String>, Option<String>) = (cells.next()?, cells.next()?);
            let text = source.map(|source| derive(&source)).filter(|text| Some(text) != target.as_ref());
            Ok(Stale { user_id, id, version, text })
        })
        .collect()
}

/// Fills those of one user's rows that are stale, in one statement.
async fn fill(tx: &Tx, derived: &Derived, rows: &[Stale]) -> Result<(), Error> {
    let stale: Vec<(&Stale, &str)> =
        rows.iter().filter_map(|row| Some((row, row.text.as_deref()?))).collect();
    let Some((first, _)) = stale.first() else { return Ok(()) };
    let Derived { table, target, .. } = derived;
    let backend = tx.backend();
    let wanted = dialect::rows(backend, &mut 2, &[("id", "uuid"), ("version", "text"), ("text", "text")]);
    let sql = format!(
        "UPDATE {table} SET {target} = w.text FROM {wanted} \
         WHERE {table}.user_id = $1 AND {table}.id = w.id AND {table}.version = CAST(w.version AS integer)"
    );
    let versions: Vec<String> = stale.iter().map(|(row, _)| row.version.to_string()).collect();
    let columns = [
        List::Ids(stale.iter().map(|(row, _)| row.id).collect()),
        List::Texts(versions.iter().map(String::as_str).collect()),
        List::Texts(stale.iter().map(|(_, text)| *text).collect()),
    ];
    let mut values = vec![first.user_id.into()];
    values.extend(dialect::table(backend, columns));
    tx.inner.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(())
}

/// Moves the place on with what else is in the transaction; `false`, and nothing is stored, if it is no longer where it
/// was.
async fn advance(tx: Tx, from: &Backfill, to: &Backfill) -> Result<bool, Error> {
    let moved = Entity::update_many()
        .col_expr(Column::AfterUserId, Expr::value(to.after.0))
        .col_expr(Column::AfterId, Expr::value(to.after.1))
        .col_expr(Column::Rows, Expr::value(to.rows))
        .col_expr(Column::IsDone, Expr::value(to.is_done))
        .filter(Column::Name.eq(&from.name))
        .filter(Column::AfterUserId.eq(from.after.0))
        .filter(Column::AfterId.eq(from.after.1))
        .filter(Column::IsDone.eq(false))
        .exec(&tx.inner)
        .await?;
    let has_moved = moved.rows_affected > 0;
    if has_moved {
        tx.commit().await?
    } else {
        tx.release().await?
    };
    Ok(has_moved)
}
