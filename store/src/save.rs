//! Does the last step of a write: stores the changed rows, each once, and checks every count against the
//! decision.
//!
//! On PostgreSQL the rows of all tables are written by one statement where that is possible (`parts`). SQLite
//! writes row by row (`sqlite/save.rs`).

mod parts;

use std::collections::HashSet;

use ::entity::{event, event_type, id_alias};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, DbBackend, EntityName, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::bulk::{Existing, Owners};
use super::load::ReadVersion;
use super::pool::Pool;
use super::{Tx, model, sqlite};
use crate::error::Error;
use domain::apply::{Alias, Changes, Entity, RecordedEdit};
use domain::row::{DeletedBy, TypeRow};
use parts::Parts;

/// The changes to store for one user, and the state that they were decided on.
#[derive(Debug)]
pub struct Decision {
    /// The owner of the rows.
    pub user_id: Uuid,
    /// The state that the decision is based on.
    pub read_version: ReadVersion,
    /// The rows to write.
    pub changes: Changes,
}

/// Stores decisions and moves the feed heads within `tx`, which must hold the locks of the accounts already.
/// It does not commit.
///
/// It writes the account row of each user even if the feed head stays, because that increments the revision.
/// By the revision optimistic writes learn that their reads are out of date.
///
/// # Errors
/// [`Error::Database`] if the database fails. [`Error::Bug`] if a row that should be new exists, or another
/// number of rows was written than decided; then the lock was not held or the decision was wrong.
pub async fn save_rows_and_heads(tx: &Tx, all: Vec<Decision>) -> Result<(), Error> {
    if tx.backend() == DbBackend::Sqlite {
        return tx.run_on_sqlite(move |connection| sqlite::save_rows_and_heads(connection, &all)).await;
    }
    let heads = all
        .iter()
        .map(|decided| (decided.user_id, decided.read_version.feed_head, decided.changes.head))
        .collect();
    let mut writer = write_or_collect_all_rows(tx, all).await?;
    writer.collect_feed_heads(heads);
    writer.finish_writing().await
}

/// Stores rows and aliases within `tx`, but neither moves the feed heads nor increments the revisions of the
/// accounts. Only an injected fault uses it.
///
/// # Errors
/// As [`save_rows_and_heads`].
pub async fn save_rows(tx: &Tx, all: Vec<Decision>) -> Result<(), Error> {
    if tx.backend() == DbBackend::Sqlite {
        return tx.run_on_sqlite(move |connection| sqlite::save_rows(connection, &all)).await;
    }
    write_or_collect_all_rows(tx, all).await?.finish_writing().await
}

/// Moves the feed head of one user from `from` to `to`, increments the revision of the account, and stores
/// nothing else. If `from` equals `to`, only the revision changes. `tx` must hold the lock of the account.
///
/// # Errors
/// As [`save_rows_and_heads`].
pub async fn save_feed_head(tx: &Tx, user_id: Uuid, from: i64, to: i64) -> Result<(), Error> {
    if tx.backend() == DbBackend::Sqlite {
        return tx
            .run_on_sqlite(move |connection| sqlite::save_feed_head(connection, user_id, from, to))
            .await;
    }
    let mut writer = Writer::new(tx);
    writer.collect_feed_heads(vec![(user_id, from, to)]);
    writer.finish_writing().await
}

/// Whether a decision that was made without a lock can also be stored and answered without one. It looks only
/// at the arguments: whether the account is still unchanged, [`store_if_unchanged`] checks.
///
/// A decision that changes nothing is safe if its reads saw one state. A decision that changes rows must fit
/// into one statement, which stores it only if the revision is still the one that was read first.
#[must_use]
pub fn can_store_without_lock(read_version: ReadVersion, changes: &Changes) -> bool {
    if changes.is_empty() { !read_version.may_be_torn } else { parts::fits_one_statement(changes) }
}

/// Stores decisions that were made without a lock, with one statement of PostgreSQL that commits by itself.
/// It stores those of users whose account has not changed since it was read and is not locked now, and
/// returns these users. Of the others nothing is stored. [`can_store_without_lock`] must hold for each
/// decision.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time. [`Error::Database`] if the database fails or does not
/// answer; then it is unknown whether anything is stored. [`Error::Bug`] if a row that should be new exists,
/// or another number of rows would be written than decided; then nothing is stored.
pub async fn store_if_unchanged(connections: &Pool, all: Vec<Decision>) -> Result<HashSet<Uuid>, Error> {
    if all.is_empty() {
        Ok(HashSet::new())
    } else {
        parts::store_if_revisions_unchanged(connections, all).await
    }
}

/// The rows of all users: one list for each table, with new and changed rows apart.
#[derive(Default)]
struct Models {
    changed_types: Vec<event_type::ActiveModel>,
    changed_events: Vec<event::ActiveModel>,
    new_types: Vec<event_type::ActiveModel>,
    new_events: Vec<event::ActiveModel>,
    aliases: Vec<id_alias::ActiveModel>,
}

impl Models {
    fn from_decisions(all: Vec<Decision>) -> Self {
        let mut models = Self::default();
        for Decision { user_id, changes, .. } in all {
            let of_type = |row| model::to_type_model(user_id, row);
            let of_event = |row| model::to_event_model(user_id, row);
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

/// Writes the rows and aliases of decisions within `tx`, which stays open. Some of them are only collected;
/// [`Writer::finish_writing`] must then write them.
async fn write_or_collect_all_rows(tx: &Tx, all: Vec<Decision>) -> Result<Writer<'_>, Error> {
    for Decision { user_id, changes, .. } in &all {
        clear_type_names(tx, *user_id, &changes.changed_types).await?;
        for RecordedEdit { entity, id, edit_id } in &changes.recorded_edit_ids {
            record_edit_id(tx, *user_id, *entity, *id, *edit_id).await?;
        }
        attribute_deletions_to_user(tx, *user_id, &changes.finalized_deletions).await?;
    }
    let (mut writer, models) = (Writer::new(tx), Models::from_decisions(all));
    writer.write_or_collect_rows(models.changed_types, Existing::Replace).await?;
    writer.write_or_collect_rows(models.changed_events, Existing::Replace).await?;
    writer.write_or_collect_rows(models.new_types, Existing::None).await?;
    writer.write_or_collect_rows(models.new_events, Existing::None).await?;
    writer.write_or_collect_rows(models.aliases, Existing::None).await?;
    Ok(writer)
}

/// Sets the names of these stored types to NULL, before the types are written with their new names. The
/// unique index is checked row by row, and two types may exchange their names in one call.
async fn clear_type_names(tx: &Tx, user_id: Uuid, types: &[TypeRow]) -> Result<(), Error> {
    if types.is_empty() {
        return Ok(());
    }
    let clear = event_type::Entity::update_many()
        .col_expr(event_type::Column::Name, Expr::value(None::<String>))
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(event_type::Column::Id.is_in(types.iter().map(|row| row.meta.id)));
    check_row_count(types.len() as u64, tx.execute(&clear).await?)
}

/// Writes the id of the last edit into a stored event or type, and changes nothing else of the row.
async fn record_edit_id(
    tx: &Tx,
    user_id: Uuid,
    entity: Entity,
    id: Uuid,
    edit_id: Uuid,
) -> Result<(), Error> {
    let written = match entity {
        Entity::Event => {
            let update = event::Entity::update_many()
                .col_expr(event::Column::WriterEditId, edit_id.into())
                .filter(event::Column::UserId.eq(user_id))
                .filter(event::Column::Id.eq(id));
            tx.execute(&update).await?
        }
        Entity::EventType => {
            let update = event_type::Entity::update_many()
                .col_expr(event_type::Column::WriterEditId, edit_id.into())
                .filter(event_type::Column::UserId.eq(user_id))
                .filter(event_type::Column::Id.eq(id));
            tx.execute(&update).await?
        }
    };
    check_row_count(1, written)
}

/// Marks events that the rollback of an import deleted as deleted by the user instead, and changes nothing
/// else (decision 0024).
async fn attribute_deletions_to_user(tx: &Tx, user_id: Uuid, events: &[Uuid]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let decided = events.len() as u64;
    let update = event::Entity::update_many()
        .col_expr(event::Column::DeletedBy, DeletedBy::User.deleted_by_text().into())
        .filter(event::Column::UserId.eq(user_id))
        .filter(event::Column::Id.is_in(events.iter().copied()));
    check_row_count(decided, tx.execute(&update).await?)
}

/// Writes rows on PostgreSQL, within a transaction of the caller. It collects rows, to write several tables
/// with one statement.
struct Writer<'a> {
    tx: &'a Tx,
    /// The statement that is being collected.
    parts: Parts,
}

impl<'a> Writer<'a> {
    fn new(tx: &'a Tx) -> Self {
        Self { tx, parts: Parts::default() }
    }

    /// Adds rows of one table to the statement that is being collected; if that has rows of the table already,
    /// it is run first. Either all of the rows exist, or none does.
    async fn write_or_collect_rows<Row: ActiveModelTrait>(
        &mut self,
        rows: Vec<Row>,
        existing: Existing,
    ) -> Result<(), Error> {
        if !rows.is_empty() && self.parts.has_table(Row::Entity::default().table_name()) {
            self.parts.run_and_check(self.tx).await?;
        }
        self.parts.add_rows(rows, existing, Owners::All)
    }

    /// Adds moves of feed heads to the statement that is being collected. They are given as user, old head and
    /// new head. The revisions of the accounts are incremented with them.
    fn collect_feed_heads(&mut self, heads: Vec<(Uuid, i64, i64)>) {
        self.parts.add_feed_head_moves(heads);
    }

    /// Runs the statement that was collected, if there is one. It does not commit.
    async fn finish_writing(mut self) -> Result<(), Error> {
        if self.parts.is_empty() { Ok(()) } else { self.parts.run_and_check(self.tx).await }
    }
}

/// Converts an error of a statement that writes. A unique violation contradicts the decision: it is counted
/// and logged, and becomes [`Error::Bug`]. Any other error stays as it is, and is not logged.
pub(super) fn convert_and_report_write_error(error: Error) -> Error {
    if error.is_unique_violation() {
        metrics::counter!("idem_decisions_contradicted_total").increment(1);
        let error = error.to_string_with_cause();
        tracing::error!(error, "a written row violates a unique index, which contradicts the decision");
        return Error::Bug("a row that is new by the decision does not exist yet");
    }
    error
}

/// Returns [`Error::Bug`] if another number of rows was written than decided, and counts and logs that.
pub(super) fn check_row_count(decided: u64, written: u64) -> Result<(), Error> {
    if decided == written {
        return Ok(());
    }
    tracing::error!(decided, written, "a write wrote another number of rows than was decided");
    Err(count_wrong_row_count())
}

/// Converts an error of a statement that divides by zero if it would write another number of rows than was
/// decided. Such an error, and a unique violation, is counted and logged, and becomes [`Error::Bug`].
pub(super) fn convert_and_report_checked_write_error(error: Error) -> Error {
    if error.is_division_by_zero() { report_wrong_row_count() } else { convert_and_report_write_error(error) }
}

/// Counts (as a metric) and logs that a statement was about to write another number of rows than was decided,
/// and wrote nothing. Returns the error for it.
fn report_wrong_row_count() -> Error {
    tracing::error!("a statement would have written another number of rows than was decided, and wrote none");
    count_wrong_row_count()
}

fn count_wrong_row_count() -> Error {
    metrics::counter!("idem_decisions_contradicted_total").increment(1);
    Error::Bug("the rows written are the rows decided")
}
