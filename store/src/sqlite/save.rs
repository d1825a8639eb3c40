//! Stores the changed rows of a write on SQLite, row by row, with statements that are prepared once.

use rusqlite::types::ToSql;
use rusqlite::{CachedStatement, Connection, params};
use uuid::Uuid;

use crate::error::Error;
use crate::save::{Decision, check_row_count, convert_and_report_write_error};
use domain::apply::{Alias, Entity, RecordedEdit};
use domain::case_folding;
use domain::row::{DeletedBy, EventRow, RowMeta, TypeRow};
use domain::stats::measure;

const INSERT_EVENT: &str = include_str!("sql/insert_event.sql");
const UPDATE_EVENT: &str = include_str!("sql/update_event.sql");
const INSERT_TYPE: &str = include_str!("sql/insert_type.sql");
const UPDATE_TYPE: &str = include_str!("sql/update_type.sql");
const CLEAR_NAME: &str = "UPDATE event_type SET name = NULL WHERE user_id = ?1 AND id = ?2";
const RECORD_EVENT_EDIT: &str = "UPDATE event SET writer_edit_id = ?3 WHERE user_id = ?1 AND id = ?2";
const RECORD_TYPE_EDIT: &str = "UPDATE event_type SET writer_edit_id = ?3 WHERE user_id = ?1 AND id = ?2";
const ATTRIBUTE_DELETION: &str = "UPDATE event SET deleted_by = ?3 WHERE user_id = ?1 AND id = ?2";
const INSERT_ALIAS: &str = "INSERT INTO id_alias (user_id, entity, alias_id, id) VALUES (?1, ?2, ?3, ?4)";
const MOVE_HEAD: &str = "UPDATE account SET feed_head = ?3, revision = revision + 1 \
    WHERE user_id = ?1 AND feed_head = ?2";

/// Stores decisions and moves the feed heads, in a transaction that the caller ends. Every statement must
/// write exactly one row.
///
/// # Errors
/// [`Error::Database`] if the database fails. [`Error::Bug`] if a row that should be new exists, or one that
/// should exist does not.
pub(crate) fn save_rows_and_heads(connection: &Connection, all: &[Decision]) -> Result<(), Error> {
    save_rows(connection, all)?;
    for Decision { user_id, read_version, changes } in all {
        save_feed_head(connection, *user_id, read_version.feed_head, changes.head)?;
    }
    Ok(())
}

/// Moves the feed head of one user from position `from` to `to`, and increments the revision of the account.
///
/// # Errors
/// [`Error::Database`] if the database fails. [`Error::Bug`] if the head is not at `from`.
pub(crate) fn save_feed_head(
    connection: &Connection,
    user_id: Uuid,
    from: i64,
    to: i64,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(MOVE_HEAD)?;
    execute(&mut statement, &[&user_id.as_bytes(), &from, &to])
}

/// Stores rows and aliases, but moves no feed head.
///
/// # Errors
/// As [`save_rows_and_heads`].
pub(crate) fn save_rows(connection: &Connection, all: &[Decision]) -> Result<(), Error> {
    for Decision { user_id, changes, .. } in all {
        let owner = user_id.as_bytes();
        // The unique index is checked row by row, and two types may exchange their names in one call.
        for row in &changes.changed_types {
            execute(&mut connection.prepare_cached(CLEAR_NAME)?, &[&owner, &row.meta.id.as_bytes()])?;
        }
        for RecordedEdit { entity, id, edit_id } in &changes.recorded_edit_ids {
            let sql = if *entity == Entity::Event { RECORD_EVENT_EDIT } else { RECORD_TYPE_EDIT };
            let parameters: [&dyn ToSql; 3] = [&owner, &id.as_bytes(), &edit_id.as_bytes()];
            execute(&mut connection.prepare_cached(sql)?, &parameters)?;
        }
        for id in &changes.finalized_deletions {
            let parameters: [&dyn ToSql; 3] = [&owner, &id.as_bytes(), &DeletedBy::User.deleted_by_text()];
            execute(&mut connection.prepare_cached(ATTRIBUTE_DELETION)?, &parameters)?;
        }
        save_types(connection, UPDATE_TYPE, *user_id, &changes.changed_types)?;
        save_events(connection, UPDATE_EVENT, *user_id, &changes.changed_events)?;
        save_types(connection, INSERT_TYPE, *user_id, &changes.new_types)?;
        save_events(connection, INSERT_EVENT, *user_id, &changes.new_events)?;
        for Alias { entity, alias_id, id } in &changes.aliases {
            let entity = if *entity == Entity::Event { 1 } else { 2 };
            let parameters: [&dyn ToSql; 4] = [&owner, &entity, &alias_id.as_bytes(), &id.as_bytes()];
            execute(&mut connection.prepare_cached(INSERT_ALIAS)?, &parameters)?;
        }
    }
    Ok(())
}

fn execute(statement: &mut CachedStatement<'_>, parameters: &[&dyn ToSql]) -> Result<(), Error> {
    let written =
        statement.execute(parameters).map_err(|error| convert_and_report_write_error(error.into()))?;
    check_row_count(1, written as u64)
}

/// Writes whole events. The parameters of `sql` are the columns of the table in their order.
fn save_events(connection: &Connection, sql: &str, user_id: Uuid, rows: &[EventRow]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(sql)?;
    for EventRow { meta, source_type, external_id, content } in rows {
        let body = content.as_ref().map(|content| &content.body);
        let notes = body.and_then(|body| body.notes.as_deref());
        let place = body.and_then(|body| body.location.as_ref());
        let measured = body.and_then(|body| measure::promoted(&body.properties));
        let RowMeta { id, version, change_seq, writer, created_at, updated_at, deletion } = meta;
        execute(
            &mut statement,
            params![
                user_id.as_bytes(),
                id.as_bytes(),
                content.as_ref().map(|content| content.event_type_id.into_bytes()),
                body.map(|body| body.timestamp),
                body.and_then(|body| body.end_date),
                body.map(|body| body.is_all_day),
                body.and_then(|body| body.time_zone.as_deref()),
                notes,
                notes.map(case_folding::fold),
                source_type,
                external_id,
                place.map(|place| place.latitude),
                place.map(|place| place.longitude),
                place.and_then(|place| place.name.as_deref()),
                body.map(|body| body.properties.as_str()),
                content.as_ref().map(|content| content.hash),
                version,
                content.as_ref().and_then(|content| content.import_version),
                change_seq,
                writer.client_id,
                writer.run_start,
                writer.edit_id.map(Uuid::into_bytes),
                content.as_ref().and_then(|content| content.import_job_id).map(Uuid::into_bytes),
                created_at,
                updated_at,
                deletion.map(|deletion| deletion.at),
                deletion.map(|deletion| deletion.by.deleted_by_text()),
                measured.as_ref().map(|measured| measured.value),
                measured.as_ref().and_then(|measured| measured.unit.as_deref()),
            ],
        )?;
    }
    Ok(())
}

/// Writes whole event types. The parameters of `sql` are the columns of the table in their order.
fn save_types(connection: &Connection, sql: &str, user_id: Uuid, rows: &[TypeRow]) -> Result<(), Error> {
    for TypeRow { meta, content } in rows {
        let RowMeta { id, version, change_seq, writer, created_at, updated_at, deletion } = meta;
        execute(
            &mut connection.prepare_cached(sql)?,
            params![
                user_id.as_bytes(),
                id.as_bytes(),
                content.as_ref().map(|content| content.name.as_str()),
                content.as_ref().and_then(|content| content.color.as_deref()),
                content.as_ref().and_then(|content| content.icon.as_deref()),
                content.as_ref().map(|content| content.hash),
                version,
                change_seq,
                writer.client_id,
                writer.run_start,
                writer.edit_id.map(Uuid::into_bytes),
                created_at,
                updated_at,
                deletion.map(|deletion| deletion.at),
                deletion.map(|deletion| deletion.by.deleted_by_text()),
            ],
        )?;
    }
    Ok(())
}
