//! Counts and adds up the events of a user for statistics.
//!
//! A result belongs to one state of the database, and names the feed position of that state. First the
//! first and the last event are looked up, to know for which time cells are needed ([`domain::stats::cells`]).
//! PostgreSQL then adds up the events of each cell, from an index alone if it can. SQLite runs within this process,
//! so there the events are added up here; so are those whose numbers have no columns.

mod cell_sums;
mod cost;
mod postgres;
mod sqlite;
mod statement;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::DbBackend;
use tokio::time::timeout;
use uuid::Uuid;

use super::event::Filter;
use super::{Store, account, backfill, event_type, feed};
use crate::error::Error;
pub(crate) use cost::EventCount;
pub use cost::count_event_points;
use domain::cursor::Cursor;
use domain::limits::STATS_MS_MAX;
use domain::stats::cells::TimestampRanges;
use domain::stats::table::StatsResult;
use domain::stats::{Exceeded, SelectedFields, StatsQuery};

/// How often a result is computed anew, at most, because an event came that lies outside of the time for which
/// cells were made.
const ATTEMPTS_MAX: u32 = 5;

/// Statistics, and the state of the feed that they belong to.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// The result.
    pub result: StatsResult,
    /// The cursor at the feed position that the result is true for.
    pub as_of: Cursor,
}

/// A query about the events of one user.
#[derive(Debug)]
struct Request {
    user_id: Uuid,
    query: Arc<StatsQuery>,
    filter: Filter,
    /// The types of the filter, by their ids. `None` is all types.
    event_type_ids: Option<Vec<Uuid>>,
    ranges: TimestampRanges,
    selected: SelectedFields,
    /// About how many events the user has. `None` if this process has not counted them.
    events: Option<u64>,
    /// Whether numbers are read from their columns. Otherwise they are read from the properties.
    reads_columns: bool,
    /// For how many margins around the events cells are made. The more, the fewer new events lie outside of them.
    margins: i64,
}

/// A result, and the feed head of the state that it belongs to.
type Found = (StatsResult, i64);

/// Why there is no result.
#[derive(Debug)]
enum Failure {
    Error(Error),
    Exceeded(Exceeded),
    /// An event lies outside of the time for which cells were made.
    Missed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Exceeded> for Failure {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

/// Answers a query about the events of a user that meet the filter. The inner error is the limit that the query exceeds.
/// What is not selected is not computed.
///
/// It may touch all events of the user, so it is a heavy read. The time of the wait for other heavy reads of the
/// user counts towards the limit of the time.
///
/// Plan: `event_by_type_covering (user_id, event_type_id, timestamp DESC, …)` for each type. It has everything
/// that is read, unless the query names other properties than `value` and `unit`, or the filter names an import
/// or searches notes.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time, or too many heavy reads of the user wait; [`Error::Database`]
/// if the database fails; [`Error::Moved`] if the account is gone, or if new events lay outside of the cells in each of
/// five attempts.
pub async fn compute_statistics(
    store: &Store,
    user_id: Uuid,
    query: Arc<StatsQuery>,
    filter: Filter,
    selected: SelectedFields,
) -> Result<Result<Statistics, Exceeded>, Error> {
    let most = Duration::from_millis(STATS_MS_MAX);
    match timeout(most, compute(store, user_id, query, filter, selected)).await {
        Ok(Ok(statistics)) => Ok(Ok(statistics)),
        Ok(Err(Failure::Exceeded(exceeded))) => Ok(Err(exceeded)),
        Ok(Err(Failure::Error(error))) => Err(error),
        Ok(Err(Failure::Missed)) => Err(Error::Moved),
        Err(_) => Ok(Err(TOO_SLOW)),
    }
}

async fn compute(
    store: &Store,
    user_id: Uuid,
    query: Arc<StatsQuery>,
    filter: Filter,
    selected: SelectedFields,
) -> Result<Statistics, Failure> {
    let heavy = store.acquire_heavy_reader(user_id).await?;
    let mut head = account::load_head_or_recreate_account(store, user_id).await?;
    let mut event_type_ids = find_types(store, user_id, &filter).await?;
    let ranges = TimestampRanges::new(&query.calendar, filter.from, filter.to);
    let reads_columns = query.needs_no_properties()
        && (query.measures.is_empty() || backfill::is_done(store, backfill::VALUES).await?);
    let events = cost::last_count(store, user_id);
    for attempt in 0..ATTEMPTS_MAX {
        let (query, filter, ranges) = (Arc::clone(&query), filter.clone(), ranges.clone());
        let (ids, margins) = (event_type_ids.clone(), 4_i64.pow(attempt));
        let request = Request {
            user_id,
            query,
            filter,
            event_type_ids: ids,
            ranges,
            selected,
            events,
            reads_columns,
            margins,
        };
        let request = Arc::new(request);
        let found = match store.backend() {
            DbBackend::Sqlite => sqlite::compute(store, &request).await,
            _ => postgres::compute(&heavy.reader.0, &request).await,
        };
        let (result, feed_head) = match found {
            Err(Failure::Missed) => continue,
            found => found?,
        };
        // A type or an alias that was created in the meantime may have events in the state that was read.
        if feed_head != head.feed_head && event_type_ids.is_some() {
            let ids = find_types(store, user_id, &request.filter).await?;
            if ids != event_type_ids {
                (event_type_ids, head.feed_head) = (ids, feed_head);
                continue;
            }
        }
        head.feed_head = feed_head;
        return Ok(Statistics { result, as_of: feed::cursor_at_head(head) });
    }
    Err(Failure::Missed)
}

/// The ids of the types of the filter, which may name them by aliases. `None` if the filter names no types.
async fn find_types(store: &Store, user_id: Uuid, filter: &Filter) -> Result<Option<Vec<Uuid>>, Error> {
    let Some(ids) = &filter.event_type_ids else { return Ok(None) };
    let types = event_type::find_by_ids_or_aliases(store, user_id, ids).await?;
    let ids: BTreeSet<Uuid> = types.into_iter().map(|(_, row)| row.meta.id).collect();
    Ok(Some(ids.into_iter().collect()))
}

/// The limit of the time for statistics, in seconds.
pub const TOO_SLOW: Exceeded = Exceeded {
    name: "stats time",
    max: (STATS_MS_MAX / 1000) as usize,
    detail: "it took longer than 10 seconds: ask for a shorter time or fewer types, or leave out the search",
};
