//! Records that the imports of a user took: counted in the transaction that takes them, by the hour, so that they count on
//! the day they are taken, whatever becomes of their import.

use ::entity::import_usage::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QuerySelect, Statement};
use uuid::Uuid;

use crate::error::Error;
use crate::store::{Store, Tx, dialect};

const HOUR_MS: i64 = 60 * 60 * 1000;
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
    let oldest = dialect::now_ms(store.backend()).div(HOUR_MS).sub(DAY_HOURS);
    let counted = Entity::find()
        .filter(Column::UserId.eq(user_id))
        .filter(Expr::col(Column::Hour).gt(oldest))
        .select_only()
        .column(Column::Records)
        .into_tuple::<i64>();
    Ok(counted.all(store.reader()).await?.into_iter().sum())
}

/// Removes what counts for no day any more.
///
/// # Errors
/// When the database fails.
pub async fn forget_usage(store: &Store) -> Result<(), Error> {
    let oldest = dialect::now_ms(store.backend()).div(HOUR_MS).sub(2 * DAY_HOURS);
    let tx = store.begin().await?;
    Entity::delete_many().filter(Expr::col(Column::Hour).lt(oldest)).exec(&tx.inner).await?;
    tx.commit().await
}
