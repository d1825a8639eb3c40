//! Records that the imports of a user took: counted in the transaction that takes them, by the hour, so that they count on
//! the day they are taken, whatever becomes of their import.

use ::entity::import_usage::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, ExprTrait, QueryFilter, QuerySelect, Statement,
};
use uuid::Uuid;

use crate::error::Error;
use crate::{Store, Tx, dialect};

const HOUR_MS: i64 = 60 * 60 * 1000;
/// Rows that are removed at once.
const FORGOTTEN_MAX: u64 = 1_000;
/// Hours that a day's allowance counts, this one included.
const DAY_HOURS: i64 = 24;

/// Adds records to those of this hour.
///
/// # Errors
/// When the database fails.
pub async fn count_records(tx: &Tx, user_id: Uuid, records: i64) -> Result<(), Error> {
    let hour = dialect::now_ms_text(tx.backend());
    let sql = format!(
        "INSERT INTO import_usage (user_id, hour, records) VALUES ($1, {hour} / {HOUR_MS}, $2) \
         ON CONFLICT (user_id, hour) DO UPDATE SET records = import_usage.records + excluded.records"
    );
    let statement = Statement::from_sql_and_values(tx.backend(), sql, [user_id.into(), records.into()]);
    tx.inner.execute_raw(statement).await?;
    Ok(())
}

/// Records that the imports of a user took within a day.
///
/// # Errors
/// When the database fails.
pub async fn records_of_day(store: &Store, user_id: Uuid) -> Result<i64, Error> {
    let hour = || dialect::now_ms(store.backend()).div(HOUR_MS);
    let counted = Entity::find()
        .filter(Column::UserId.eq(user_id))
        .filter(Expr::col(Column::Hour).gt(hour().sub(DAY_HOURS)))
        // An hour to come is of a clock that was set back.
        .filter(Expr::col(Column::Hour).lte(hour()))
        .select_only()
        .column(Column::Records)
        .into_tuple::<i64>();
    Ok(counted.all(store.reader()).await?.into_iter().sum())
}

/// Removes some of what counts for no day any more.
///
/// # Errors
/// When the database fails.
pub async fn forget_usage(store: &Store) -> Result<(), Error> {
    let tx = store.begin().await?;
    let hour = dialect::now_ms_text(tx.backend());
    // Another sweeper may be at it.
    let lock = if tx.backend() == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
    let sql = format!(
        "DELETE FROM import_usage WHERE (user_id, hour) IN (SELECT user_id, hour FROM import_usage \
         WHERE hour < {hour} / {HOUR_MS} - 2 * {DAY_HOURS} LIMIT {FORGOTTEN_MAX} {lock})"
    );
    tx.inner.execute_unprepared(&sql).await?;
    tx.commit().await
}
