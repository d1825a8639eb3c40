//! Reads the changes after a cursor, and merges types and events by position while they arrive.
//!
//! Sorting both in the database would cost SQLite as much again as reading them (decision 0049).

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use sea_orm::{Statement, Value};
use uuid::Uuid;

use super::sql::{self, Kind};
use super::{Change, PageBounds};
use crate::Store;
use crate::account::Head;
use crate::error::Error;
use crate::model::{ColumnSet, read_event_row, read_type_row};
use crate::page::PageBuilder;
use crate::pool::RowResult;
use crate::row_reader::{Row, RowReader};
use domain::cursor::Cursor;

/// Reads the changes after a cursor until the page is full, and the feed head at that time. Without a cursor
/// it reads from the start of the feed, and skips tombstones. The head is `None` if the user has no account
/// row.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time; [`Error::Database`] if the database fails;
/// [`Error::Bug`] if a stored row breaks an invariant.
pub(super) async fn read_changes_after<'w>(
    store: &Store,
    user_id: Uuid,
    after: Option<Cursor>,
    bounds: PageBounds<'w>,
) -> Result<(Option<Head>, PageBuilder<'w, Change>), Error> {
    let (seq, bootstrap_head) = match after {
        Some(cursor) => (cursor.seq, cursor.bootstrap_head),
        None => (0, Some(i64::MAX)),
    };
    let backend = store.reader.backend();
    let rows = i64::try_from(bounds.first + 1).unwrap_or(i64::MAX);
    let values = [Some(user_id.into()), Some(seq.into()), Some(rows.into()), bootstrap_head.map(Value::from)];
    let sql = sql::sql_changes_after(backend, bootstrap_head.is_some());
    let statement = Statement::from_sql_and_values(backend, sql, values.into_iter().flatten());
    let mut merge = Merge {
        head: None,
        types: VecDeque::new(),
        last: (Kind::HEAD, i64::MIN),
        page: bounds.new_page_builder(),
    };
    store.lists.read_rows(statement, |row| merge.add_row(row)).await?;
    // The types after the last event. Whether the page is full does not matter any more.
    let _is_full = merge.move_earlier_types_to_page(i64::MAX);
    Ok((merge.head, merge.page))
}

/// Merges event types and events into one page in the order of their positions. The statement returns all
/// event types first, and then all events.
struct Merge<'w> {
    head: Option<Head>,
    /// The event types that were read, but are not in the page yet. They arrive before the events, and are
    /// few.
    types: VecDeque<Change>,
    /// The kind and the position of the row that was read last.
    last: (i32, i64),
    page: PageBuilder<'w, Change>,
}

impl Merge<'_> {
    fn add_row(&mut self, row: Row<'_>) -> RowResult {
        let (kind, position) = (RowReader::new(row, 0).next()?, RowReader::new(row, sql::POSITION).next()?);
        if (kind, position) <= self.last {
            return Err(Error::Bug("rows of the feed come by kind, and within a kind by position"));
        }
        self.last = (kind, position);
        match kind {
            Kind::HEAD => {
                let mut reader = RowReader::new(row, sql::EPOCH);
                let (feed_epoch, generation) = (reader.next()?, reader.next()?);
                self.head = Some(Head { feed_head: position, feed_epoch, generation });
            }
            Kind::TYPE => {
                let event_type = read_type_row(row, sql::FIRST, ColumnSet::Response)?;
                self.types.push_back(Change::EventType(Arc::new(event_type)));
            }
            _ => {
                let event = read_event_row(row, sql::FIRST, ColumnSet::Response)?;
                if self.move_earlier_types_to_page(position).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                return Ok(self.page.take_row(Change::Event(Arc::new(event))));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Moves the event types before a position from the waiting ones into the page. Returns `Break` if the
    /// page is full.
    fn move_earlier_types_to_page(&mut self, position: i64) -> ControlFlow<()> {
        let is_earlier = |change: &mut Change| change.meta().change_seq < position;
        while let Some(event_type) = self.types.pop_front_if(is_earlier) {
            self.page.take_row(event_type)?;
        }
        ControlFlow::Continue(())
    }
}
