//! The fourth step of a write: the changes rows, each once, and every count as decided.
//!
//! On PostgreSQL what can be is one statement (`parts`).

mod parts;

use std::collections::HashSet;

use ::entity::{event, event_type, id_alias};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, DbBackend, DbErr, EntityName, EntityTrait,
    IntoActiveModel, Iterable, QueryFilter, SqlErr,
};
use uuid::Uuid;

use super::bulk::{Existing, Owners};
use super::load::ReadVersion;
use super::pool::Pool;
use super::{Tx, account, model};
use crate::error::Error;
use domain::apply::{Alias, Changes, Entity, RecordedEdit};
use domain::row::{DeletedBy, TypeRow};
use parts::Parts;

/// Rows of one INSERT: 27 columns of an event stay within SQLite's 32 766 parameters.
const INSERT_ROWS_MAX: usize = 1_000;

/// What was decided for one user.
#[derive(Debug)]
pub struct Decision {
    /// Whose rows they are.
    pub user_id: Uuid,
    /// What it was decided over.
    pub read_version: ReadVersion,
    /// The rows.
    pub changes: Changes,
}

/// Writes what was decided. Wherever anything is written the row of the account is as well, be its head the
/// same: by that whoever waits for it learns that what they have read is old.
///
/// # Errors
/// When the database fails, or wrote another number of rows than decided: then the lock was not
/// held, or the decision was wrong.
pub async fn save(tx: &Tx, all: Vec<Decision>) -> Result<(), Error> {
    let heads = all
        .iter()
        .map(|decided| (decided.user_id, decided.read_version.feed_head, decided.changes.head))
        .collect();
    let mut writer = save_all(tx, all).await?;
    writer.heads(heads).await?;
    writer.finish().await
}

/// Writes the rows and aliases, but not the heads.
///
/// # Errors
/// As [`save`].
pub async fn save_rows(tx: &Tx, all: Vec<Decision>) -> Result<(), Error> {
    save_all(tx, all).await?.finish().await
}

/// Moves a head and writes nothing else.
///
/// # Errors
/// As [`save`].
pub async fn save_head(tx: &Tx, user_id: Uuid, from: i64, to: i64) -> Result<(), Error> {
    let mut writer = Writer::new(tx);
    writer.heads(vec![(user_id, from, to)]).await?;
    writer.finish().await
}

/// Whether what was decided without a lock can be answered and stored without one: it was read at one moment or
/// will be stored only if nothing has changed since the first, and then by one statement.
#[must_use]
pub fn can_be_optimistic(read_version: ReadVersion, changes: &Changes) -> bool {
    if changes.is_empty() { !read_version.may_be_torn } else { parts::is_one_statement(changes) }
}

/// Stores what was decided without a lock ([`can_be_optimistic`]) of those users of whom nothing has changed since
/// it was read, and nobody holds the head. Returns them.
///
/// # Errors
/// When the database did not answer; it may be stored all the same. When it contradicts the decision: a row that
/// should be new is there, or another number of rows than decided would be written; then nothing is stored.
pub async fn store_if_unchanged(connections: &Pool, all: Vec<Decision>) -> Result<HashSet<Uuid>, Error> {
    if all.is_empty() { Ok(HashSet::new()) } else { parts::send_if_unchanged(connections, all).await }
}

/// The rows of all users, a list a table and way.
#[derive(Default)]
struct Models {
    changed_types: Vec<event_type::ActiveModel>,
    changed_events: Vec<event::ActiveModel>,
    new_types: Vec<event_type::ActiveModel>,
    new_events: Vec<event::ActiveModel>,
    aliases: Vec<id_alias::ActiveModel>,
}

impl Models {
    fn of(all: Vec<Decision>) -> Self {
        let mut models = Self::default();
        for Decision { user_id, changes, .. } in all {
            let of_type = |row| model::type_model(user_id, row);
            let of_event = |row| model::event_model(user_id, row);
            models.changed_types.extend(changes.changed_types.into_iter().map(of_type));
            models.new_types.extend(changes.new_types.into_iter().map(of_type));
            models.changed_events.extend(changes.changed_events.into_iter().map(of_event));
            models.new_events.extend(changes.new_events.into_iter().map(of_event));
            models.aliases.extend(changes.aliases.into_iter().map(|Alias { entity, alias_id, id }| {
                id_alias::ActiveModel {
                    user_id: Set(user_id),
                    entity: Set(if entity == Entity::Event { 1 } else { 2 }),
                    alias_id: Set(alias_id),
                    id: Set(id),
                }
            }));
        }
        models
    }
}

async fn save_all(tx: &Tx, all: Vec<Decision>) -> Result<Writer<'_>, Error> {
    for Decision { user_id, changes, .. } in &all {
        release_names(tx, *user_id, &changes.changed_types).await?;
        for RecordedEdit { entity, id, edit_id } in &changes.recorded_edit_ids {
            record_edit_id(tx, *user_id, *entity, *id, *edit_id).await?;
        }
        finalize_deletions(tx, *user_id, &changes.finalized_deletions).await?;
    }
    let (mut writer, models) = (Writer::new(tx), Models::of(all));
    writer.rows(models.changed_types, Existing::Replace).await?;
    writer.rows(models.changed_events, Existing::Replace).await?;
    writer.rows(models.new_types, Existing::None).await?;
    writer.rows(models.new_events, Existing::None).await?;
    writer.rows(models.aliases, Existing::None).await?;
    Ok(writer)
}

/// Clears the names of types that change: the unique index is checked row by row, and two types may
/// exchange their names in one call.
async fn release_names(tx: &Tx, user_id: Uuid, types: &[TypeRow]) -> Result<(), Error> {
    if types.is_empty() {
        return Ok(());
    }
    let cleared = event_type::Entity::update_many()
        .col_expr(event_type::Column::Name, Expr::value(None::<String>))
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(event_type::Column::Id.is_in(types.iter().map(|row| row.meta.id)))
        .exec(&tx.inner)
        .await?;
    count(types.len() as u64, cleared.rows_affected)
}

/// Keeps the last edit of a row and changes nothing else of it.
async fn record_edit_id(
    tx: &Tx,
    user_id: Uuid,
    entity: Entity,
    id: Uuid,
    edit_id: Uuid,
) -> Result<(), Error> {
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

/// Makes the deletions of events a person's, and changes nothing else of them.
async fn finalize_deletions(tx: &Tx, user_id: Uuid, events: &[Uuid]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let decided = events.len() as u64;
    let written = event::Entity::update_many()
        .col_expr(event::Column::DeletedBy, DeletedBy::User.name().into())
        .filter(event::Column::UserId.eq(user_id))
        .filter(event::Column::Id.is_in(events.iter().copied()))
        .exec(&tx.inner)
        .await?;
    count(decided, written.rows_affected)
}

/// Writes rows, on PostgreSQL as late and as many tables at once as it can.
struct Writer<'a> {
    tx: &'a Tx,
    /// The statement that is to come.
    parts: Parts,
}

impl<'a> Writer<'a> {
    fn new(tx: &'a Tx) -> Self {
        Self { tx, parts: Parts::default() }
    }

    /// Rows that are all there already, or all not.
    async fn rows<Row>(&mut self, mut rows: Vec<Row>, existing: Existing) -> Result<(), Error>
    where
        Row: ActiveModelTrait + ActiveModelBehavior + Send,
        <Row::Entity as EntityTrait>::Model: IntoActiveModel<Row>,
    {
        if self.tx.backend() == DbBackend::Postgres {
            if !rows.is_empty() && self.parts.has(Row::Entity::default().table_name()) {
                self.parts.send(self.tx).await?;
            }
            return self.parts.rows(rows, existing, Owners::All);
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
            let written = statement.exec_without_returning(&self.tx.inner).await.map_err(contradicted)?;
            count(decided, written)?;
        }
        Ok(())
    }

    /// Heads: user, from, to.
    async fn heads(&mut self, heads: Vec<(Uuid, i64, i64)>) -> Result<(), Error> {
        if self.tx.backend() == DbBackend::Postgres {
            self.parts.heads(heads);
            return Ok(());
        }
        for (user_id, from, to) in heads {
            count(1, account::advance(self.tx, user_id, from, to).await?)?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Error> {
        if self.parts.is_empty() { Ok(()) } else { self.parts.send(self.tx).await }
    }
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
    tracing::error!(decided, written, "another number of rows than decided");
    Err(miscounted())
}

/// Another number of rows was written than was decided.
fn miscounted() -> Error {
    metrics::counter!("idem_decisions_contradicted_total").increment(1);
    tracing::error!("the database contradicts the decision");
    Error::Bug("the rows written are not the rows decided")
}
