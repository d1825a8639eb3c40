//! Reads the counts and newest instants that a client shows as the status of its sync.

use sea_orm::{FromQueryResult, Statement};
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use domain::limits::SOURCES_MAX;

/// The totals of one user.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Totals {
    /// How many living events the user has.
    pub events_live: i64,
    /// How many deleted events are still kept as tombstones.
    pub events_deleted: i64,
    /// How many living event types the user has.
    pub types_live: i64,
    /// How many deleted event types are still kept as tombstones.
    pub types_deleted: i64,
    /// When an event or event type of the user last changed or was deleted, in epoch milliseconds.
    pub last_change_at: Option<i64>,
    /// The latest start of a living event, in epoch milliseconds.
    pub last_event_at: Option<i64>,
    /// How many imports wait for a worker.
    pub imports_queued: i64,
    /// How many imports are running or being rolled back.
    pub imports_running: i64,
    /// How many imports the user has paused.
    pub imports_paused: i64,
    /// How many imports have failed.
    pub imports_failed: i64,
}

/// The totals of one source of events.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct SourceTotals {
    /// The name of the source.
    pub source_type: String,
    /// How many living events come from it.
    pub count: i64,
    /// The latest start of a living event of this source, in epoch milliseconds.
    pub last_event_at: Option<i64>,
    /// When a living event of this source was last created, in epoch milliseconds.
    pub last_received_at: Option<i64>,
}

/// Counts the events, event types and imports of a user.
///
/// Plan: it reads all rows of the user in each of the three tables, so it is a heavy read. A tombstone has
/// neither timestamp nor name.
///
/// # Errors
/// [`Error::Busy`] or [`Error::Locked`] if other heavy reads of the user take too long; [`Error::Database`]
/// if the database fails.
pub async fn load_totals(store: &Store, user_id: Uuid) -> Result<Totals, Error> {
    let sql = "SELECT e.live AS events_live, e.dead AS events_deleted, \
               t.live AS types_live, t.dead AS types_deleted, \
               CASE WHEN t.changed > e.changed OR e.changed IS NULL THEN t.changed ELSE e.changed END \
                 AS last_change_at, \
               e.newest AS last_event_at, \
               i.queued AS imports_queued, i.running AS imports_running, \
               i.paused AS imports_paused, i.failed AS imports_failed \
         FROM (SELECT count(timestamp) AS live, count(deleted_at) AS dead, max(updated_at) AS changed, \
               max(timestamp) AS newest FROM event WHERE user_id = $1) e, \
              (SELECT count(name) AS live, count(deleted_at) AS dead, max(updated_at) AS changed \
               FROM event_type WHERE user_id = $1) t, \
              (SELECT count(CASE WHEN state = 'QUEUED' THEN 1 END) AS queued, \
                      count(CASE WHEN state IN ('RUNNING', 'ROLLING_BACK') THEN 1 END) AS running, \
                      count(CASE WHEN state = 'PAUSED' THEN 1 END) AS paused, \
                      count(CASE WHEN state = 'FAILED' THEN 1 END) AS failed \
               FROM import_job WHERE user_id = $1) i";
    let statement = Statement::from_sql_and_values(store.reader.backend(), sql, [user_id.into()]);
    let heavy = store.acquire_heavy_reader(user_id).await?;
    Totals::find_by_statement(statement)
        .one(&heavy.reader)
        .await?
        .ok_or(Error::Bug("an aggregate returns one row"))
}

/// Counts the living events of each source, for the first [`SOURCES_MAX`] sources by name.
///
/// Plan: it reads all events of the user, and groups them by source. So it is a heavy read.
///
/// # Errors
/// [`Error::Busy`] or [`Error::Locked`] if other heavy reads of the user take too long; [`Error::Database`]
/// if the database fails.
pub async fn load_source_totals(store: &Store, user_id: Uuid) -> Result<Vec<SourceTotals>, Error> {
    let sql = format!(
        "SELECT source_type, count(*) AS count, max(timestamp) AS last_event_at, \
                max(created_at) AS last_received_at \
         FROM event WHERE user_id = $1 AND timestamp IS NOT NULL \
         GROUP BY source_type ORDER BY source_type LIMIT {SOURCES_MAX}"
    );
    let statement = Statement::from_sql_and_values(store.reader.backend(), sql, [user_id.into()]);
    let heavy = store.acquire_heavy_reader(user_id).await?;
    Ok(SourceTotals::find_by_statement(statement).all(&heavy.reader).await?)
}
