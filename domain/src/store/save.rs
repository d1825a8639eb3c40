//! The fourth step of a write: the net rows, each once, and every count as decided.

use ::entity::{event, event_type, id_alias};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, Iterable, QueryFilter,
};
use uuid::Uuid;

use super::{Tx, account, model};
use crate::error::Error;
use crate::rules::apply::{Entity, Net};
use crate::rules::row::TypeRow;

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
    give_up_names(tx, user_id, &net.changed_types).await?;
    let types = net.changed_types.into_iter().map(|row| model::type_model(user_id, row));
    replace(tx, types.collect(), [event_type::Column::UserId, event_type::Column::Id]).await?;
    let types = net.new_types.into_iter().map(|row| model::type_model(user_id, row));
    insert(tx, types.collect()).await?;
    let events = net.changed_events.into_iter().map(|row| model::event_model(user_id, row));
    replace(tx, events.collect(), [event::Column::UserId, event::Column::Id]).await?;
    let events = net.new_events.into_iter().map(|row| model::event_model(user_id, row));
    insert(tx, events.collect()).await?;
    for (entity, id, edit_id) in net.remembered {
        remember(tx, user_id, entity, id, edit_id).await?;
    }
    let aliases = net.aliases.into_iter().map(|(entity, alias_id, id)| id_alias::ActiveModel {
        user_id: Set(user_id),
        entity: Set(if entity == Entity::Event { 1 } else { 2 }),
        alias_id: Set(alias_id),
        id: Set(id),
    });
    insert(tx, aliases.collect()).await
}

/// Clears the names of types that change: the unique index is checked row by row, and two types may
/// exchange their names in one call.
async fn give_up_names(tx: &Tx, user_id: Uuid, types: &[TypeRow]) -> Result<(), Error> {
    if types.is_empty() {
        return Ok(());
    }
    let cleared = event_type::Entity::update_many()
        .col_expr(event_type::Column::Name, Expr::value(None::<String>))
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(event_type::Column::Id.is_in(types.iter().map(|row| row.frame.id)))
        .exec(&tx.inner)
        .await?;
    count(types.len() as u64, cleared.rows_affected)
}

/// Keeps the last edit of a row and changes nothing else of it.
async fn remember(tx: &Tx, user_id: Uuid, entity: Entity, id: Uuid, edit_id: Uuid) -> Result<(), Error> {
    let written = match entity {
        Entity::Event => {
            event::Entity::update_many()
                .col_expr(event::Column::WriterEditId, edit_id.into())
                .filter(event::Column::UserId.eq(user_id))
                .filter(event::Column::Id.eq(id))
                .exec(&tx.inner)
                .await?
        }
        Entity::EventType => {
            event_type::Entity::update_many()
                .col_expr(event_type::Column::WriterEditId, edit_id.into())
                .filter(event_type::Column::UserId.eq(user_id))
                .filter(event_type::Column::Id.eq(id))
                .exec(&tx.inner)
                .await?
        }
    };
    count(1, written.rows_affected)
}

async fn insert<Row>(tx: &Tx, rows: Vec<Row>) -> Result<(), Error>
where
    Row: ActiveModelTrait + ActiveModelBehavior + Clone + Send,
    <Row::Entity as EntityTrait>::Model: IntoActiveModel<Row>,
{
    write(tx, rows, OnConflict::new().do_nothing().to_owned()).await
}

/// Writes rows that are stored already, all of each.
async fn replace<Row>(
    tx: &Tx,
    rows: Vec<Row>,
    key: [<Row::Entity as EntityTrait>::Column; 2],
) -> Result<(), Error>
where
    Row: ActiveModelTrait + ActiveModelBehavior + Clone + Send,
    <Row::Entity as EntityTrait>::Model: IntoActiveModel<Row>,
{
    let columns = <Row::Entity as EntityTrait>::Column::iter();
    write(tx, rows, OnConflict::columns(key).update_columns(columns).to_owned()).await
}

async fn write<Row>(tx: &Tx, rows: Vec<Row>, on_conflict: OnConflict) -> Result<(), Error>
where
    Row: ActiveModelTrait + ActiveModelBehavior + Clone + Send,
    <Row::Entity as EntityTrait>::Model: IntoActiveModel<Row>,
{
    for chunk in rows.chunks(INSERT_ROWS_MAX) {
        let written = Row::Entity::insert_many(chunk.to_vec())
            .on_conflict(on_conflict.clone())
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
