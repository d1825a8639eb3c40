//! The cost of statistics: a point for each full ten thousand living events of the user.

use std::ops::ControlFlow;

use sea_orm::Statement;
use uuid::Uuid;

use crate::Store;
use crate::account;
use crate::error::Error;
use crate::row_reader::{Row, RowReader};
use domain::limits::STATS_EVENTS_PER_POINT;

/// How many living events a user had at a feed head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventCount {
    feed_head: i64,
    events: u64,
}

fn find_last_count(store: &Store, user_id: Uuid) -> Option<EventCount> {
    store.event_counts.lock().ok().and_then(|mut counts| counts.get(&user_id).copied())
}

/// How many living events the user had when this process counted them last. `None` if it has not.
pub(super) fn last_count(store: &Store, user_id: Uuid) -> Option<u64> {
    find_last_count(store, user_id).map(|count| count.events)
}

/// Returns how many full [`STATS_EVENTS_PER_POINT`] living events a user has.
///
/// This process remembers the last count of a user. Each position of the feed creates, changes or deletes at most
/// one event, so the events are counted anew only if that could change the cost.
///
/// Plan: to count them, it walks the index `event_newest` over all events of the user.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time, or too many heavy reads of the user wait; [`Error::Locked`] if
/// those take too long; [`Error::Database`] if the database fails; [`Error::Moved`] if the account is gone.
pub async fn count_event_points(store: &Store, user_id: Uuid) -> Result<u64, Error> {
    let feed_head = account::load_head_or_recreate_account(store, user_id).await?.feed_head;
    if let Some(known) = find_last_count(store, user_id) {
        let changes = feed_head.abs_diff(known.feed_head);
        let fewest = known.events.saturating_sub(changes) / STATS_EVENTS_PER_POINT;
        if fewest == known.events.saturating_add(changes) / STATS_EVENTS_PER_POINT {
            return Ok(fewest);
        }
    }
    let heavy = store.acquire_heavy_reader(user_id).await?;
    let sql = "SELECT a.feed_head, (SELECT count(*) FROM event e WHERE e.user_id = $1 AND e.timestamp IS NOT NULL) \
               FROM account a WHERE a.user_id = $1";
    let statement = Statement::from_sql_and_values(store.backend(), sql, [user_id.into()]);
    let mut found = None;
    let on_row = |row: Row<'_>| {
        let mut reader = RowReader::new(row, 0);
        found = Some((reader.next::<i64>()?, reader.next::<i64>()?));
        Ok(ControlFlow::Break(()))
    };
    heavy.reader.0.read_rows(statement, on_row).await?;
    let (feed_head, events) = found.ok_or(Error::Moved)?;
    let events = u64::try_from(events).unwrap_or_default();
    if let Ok(mut counts) = store.event_counts.lock() {
        counts.put(user_id, EventCount { feed_head, events });
    }
    Ok(events / STATS_EVENTS_PER_POINT)
}
