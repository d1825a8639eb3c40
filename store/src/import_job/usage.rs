//! Counts the records that the imports of a user take, for the daily allowance (decision 0063).
//!
//! The records of each hour are counted in the transaction that takes them. So they count on the day on which
//! they are taken, whatever becomes of their import.

use ::entity::import_usage::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbBackend, EntityTrait, ExprTrait, QueryFilter, QuerySelect, Statement};
use uuid::Uuid;

use crate::error::Error;
use crate::{Store, Tx, dialect};

const HOUR_MS: i64 = 60 * 60 * 1000;
/// The most rows that one call of [`remove_old_usage`] deletes.
const REMOVED_MAX: u64 = 1_000;
/// How many hours the daily allowance counts, including the present one.
const DAY_HOURS: i64 = 24;

/// Adds to how many records the imports of a user have taken in the present hour, within `tx`.
///
/// Plan: one lookup in the primary key `(user_id, hour)`.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn add_used_records(tx: &Tx, user_id: Uuid, records: i64) -> Result<(), Error> {
    let now_ms = dialect::sql_now_ms(tx.backend());
    let sql = format!(
        "INSERT INTO import_usage (user_id, hour, records) VALUES ($1, {now_ms} / {HOUR_MS}, $2) \
         ON CONFLICT (user_id, hour) DO UPDATE SET records = import_usage.records + excluded.records"
    );
    let statement = Statement::from_sql_and_values(tx.backend(), sql, [user_id.into(), records.into()]);
    tx.execute_statement(statement).await?;
    Ok(())
}

/// Returns how many records the imports of a user have taken in the present hour and the 23 hours before it.
///
/// Plan: it reads at most 24 entries of the primary key `(user_id, hour)`.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn count_records_of_last_day(store: &Store, user_id: Uuid) -> Result<i64, Error> {
    let hour = || dialect::now_ms_expr(store.backend()).div(HOUR_MS);
    let counted = Entity::find()
        .filter(Column::UserId.eq(user_id))
        .filter(Expr::col(Column::Hour).gt(hour().sub(DAY_HOURS)))
        // An hour in the future was counted before the clock of the database was set back.
        .filter(Expr::col(Column::Hour).lte(hour()))
        .select_only()
        .column(Column::Records)
        .into_tuple::<i64>();
    Ok(counted.all(store.reader()).await?.into_iter().sum())
}

/// Deletes up to 1 000 hourly counts of all users that are older than two days.
///
/// Plan: no index begins with the hour, so it reads the table in the order of the primary key until it has
/// found enough. The table has a row for each user and hour of the last days.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails.
pub async fn remove_old_usage(store: &Store) -> Result<(), Error> {
    let tx = store.begin().await?;
    let now_ms = dialect::sql_now_ms(tx.backend());
    // The sweeper of another process may remove the same rows.
    let lock = if tx.backend() == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
    let sql = format!(
        "DELETE FROM import_usage WHERE (user_id, hour) IN (SELECT user_id, hour FROM import_usage \
         WHERE hour < {now_ms} / {HOUR_MS} - 2 * {DAY_HOURS} LIMIT {REMOVED_MAX} {lock})"
    );
    tx.execute_statement(Statement::from_string(tx.backend(), sql)).await?;
    tx.commit().await
}
