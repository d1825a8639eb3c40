//! The fourth step of a write: the net rows, each once, and every count as decided.

use ::entity::{event, event_type, id_alias};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait,
    IntoActiveModel, Iterable, QueryFilter, SqlErr,
};
use uuid::Uuid;

use super::bulk::{self, Existing};
use super::{Tx, account, model};
use crate::error::Error;
use crate::rules::apply::{Entity, Net};
use crate::rules::row::{DeletedBy, TypeRow};

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
    replace(tx, types.collect()).await?;
    let types = net.new_types.into_iter().map(|row| model::type_model(user_id, row));
    insert(tx, types.collect()).await?;
    let events = net.changed_events.into_iter().map(|row| model::event_model(user_id, row));
    replace(tx, events.collect()).await?;
    let events = net.new_events.into_iter().map(|row| model::event_model(user_id, row));
    insert(tx, events.collect()).await?;
    for (entity, id, edit_id) in net.remembered {
        remember(tx, user_id, entity, id, edit_id).await?;
    }
    finish(tx, user_id, net.finished).await?;
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

/// Writes rows that are not stored yet.
/// Makes the deletions of events a person's, and changes nothing else of them.
async fn finish(tx: &Tx, user_id: Uuid, events: Vec<Uuid>) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let decided = events.len() as u64;
    let written = event::Entity::update_many()
        .col_expr(event::Column::DeletedBy, DeletedBy::User.name().into())
        .filter(event::Column::UserId.eq(user_id))
        .filter(event::Column::Id.is_in(events))
        .exec(&tx.inner)
        .await?;
    count(decided, written.rows_affected)
}

async fn insert<Row>(tx: &Tx, rows: Vec<Row>) -> Result<(), Error>
where
    Row: ActiveModelTrait + ActiveModelBehavior + Send,
    <Row::Entity as EntityTrait>::Model: IntoActiveModel<Row>,
{
    write(tx, rows, Existing::None).await
}

/// Writes rows that are stored already, all of each.
async fn replace<Row>(tx: &Tx, rows: Vec<Row>) -> Result<(), Error>
where
    Row: ActiveModelTrait + ActiveModelBehavior + Send,
    <Row::Entity as EntityTrait>::Model: IntoActiveModel<Row>,
{
    write(tx, rows, Existing::Replace).await
}

async fn write<Row>(tx: &Tx, mut rows: Vec<Row>, existing: Existing) -> Result<(), Error>
where
    Row: ActiveModelTrait + ActiveModelBehavior + Send,
    <Row::Entity as EntityTrait>::Model: IntoActiveModel<Row>,
{
    if rows.is_empty() {
        return Ok(());
    }
    if tx.backend() == DbBackend::Postgres {
        let decided = rows.len() as u64;
        let written = tx.inner.execute_raw(bulk::insert(rows, existing)?).await.map_err(contradicted)?;
        return count(decided, written.rows_affected());
    }
    while !rows.is_empty() {
        let chunk: Vec<Row> = rows.drain(..rows.len().min(INSERT_ROWS_MAX)).collect();
        let decided = chunk.len() as u64;
        let mut statement = Row::Entity::insert_many(chunk);
        if existing == Existing::Replace {
            let replaced = OnConflict::columns(["user_id", "id"])
                .update_columns(<Row::Entity as EntityTrait>::Column::iter())
                .to_owned();
            statement = statement.on_conflict(replaced);
        }
        let written = statement.exec_without_returning(&tx.inner).await.map_err(contradicted)?;
        count(decided, written)?;
    }
    Ok(())
}

/// A key that is there already contradicts the decision; anything else is the database's own trouble.
fn contradicted(error: DbErr) -> Error {
    if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
        metrics::counter!("idem_decisions_contradicted_total").increment(1);
        tracing::error!(%error, "the database contradicts the decision");
        return Error::Bug("a row that is new by the decision is there");
    }
    error.into()
}

fn count(decided: u64, written: u64) -> Result<(), Error> {
    if decided == written {
        return Ok(());
    }
    metrics::counter!("idem_decisions_contradicted_total").increment(1);
    tracing::error!(decided, written, "the database contradicts the decision");
    Err(Error::Bug("the rows written are not the rows decided"))
}
