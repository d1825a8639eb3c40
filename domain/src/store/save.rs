//! The fourth step of a write: the net rows, each once, and every count as decided.

use ::entity::{event, id_alias};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter,
};
use uuid::Uuid;

use super::{Tx, account, model};
use crate::error::Error;
use crate::rules::apply::{Entity, Net};

/// Rows of one INSERT: 27 columns of an event stay within SQLite's 32 766 parameters.
const INSERT_ROWS_MAX: usize = 1_000;

/// Writes what was decided over the head `from`.
///
/// # Errors
/// When the database fails, or wrote another number of rows than decided: then the lock was not
/// held, or the decision was wrong.
pub async fn save(tx: &Tx, user_id: Uuid, from: i64, net: Net) -> Result<(), Error> {
    let head = net.head;
    save_rows(tx, user_id, net).await?;
    if head == from { Ok(()) } else { account::advance(tx, user_id, from, head).await }
}

/// Writes the rows and aliases, but not the head.
///
/// # Errors
/// As [`save`].
pub async fn save_rows(tx: &Tx, user_id: Uuid, net: Net) -> Result<(), Error> {
    let types = net.new_types.into_iter().map(|row| model::type_model(user_id, row));
    insert(tx, types.collect()).await?;
    let events = net.new_events.into_iter().map(|row| model::event_model(user_id, row));
    insert(tx, events.collect()).await?;
    for row in net.changed_events {
        let id = row.frame.id;
        let written = event::Entity::update_many()
            .set(model::event_model(user_id, row))
            .filter(event::Column::UserId.eq(user_id))
            .filter(event::Column::Id.eq(id))
            .exec(&tx.inner)
            .await?;
        count(1, written.rows_affected)?;
    }
    let aliases = net.aliases.into_iter().map(|(entity, alias_id, id)| id_alias::ActiveModel {
        user_id: Set(user_id),
        entity: Set(if entity == Entity::Event { 1 } else { 2 }),
        alias_id: Set(alias_id),
        id: Set(id),
    });
    insert(tx, aliases.collect()).await
}

async fn insert<Row>(tx: &Tx, rows: Vec<Row>) -> Result<(), Error>
where
    Row: ActiveModelTrait + ActiveModelBehavior + Clone + Send,
    <Row::Entity as EntityTrait>::Model: IntoActiveModel<Row>,
{
    for chunk in rows.chunks(INSERT_ROWS_MAX) {
        let written = Row::Entity::insert_many(chunk.to_vec())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&tx.inner)
            .await?;
        count(chunk.len() as u64, written)?;
    }
    Ok(())
}

fn count(decided: u64, written: u64) -> Result<(), Error> {
    if decided == written {
        return Ok(());
    }
    metrics::counter!("idem_decisions_contradicted_total").increment(1);
    tracing::error!(decided, written, "the database contradicts the decision");
    Err(Error::Bug("the rows written are not the rows decided"))
}
