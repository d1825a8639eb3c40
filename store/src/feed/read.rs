//! Reading what stands behind a cursor: types and events as they come, merged by their positions.

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
use crate::model::{ColumnSet, event_row, type_row};
use crate::page::PageBuilder;
use crate::pool::Shown;
use crate::row_reader::{Row, RowReader};
use domain::cursor::Cursor;

/// What stands behind a cursor, as far as a page has room for it, and the head as it stood then. Without a
/// cursor: all that is alive. No head: there is no row of this user.
pub(super) async fn behind<'w>(
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
    let sql = sql::behind(backend, bootstrap_head.is_some());
    let statement = Statement::from_sql_and_values(backend, sql, values.into_iter().flatten());
    let mut merge = Merge {
        head: None,
        types: VecDeque::new(),
        last: (Kind::HEAD, i64::MIN),
        page: bounds.page_builder(),
    };
    store.lists.read(statement, |row| merge.show(row)).await?;
    // A page that is full has no room for any of them.
    let _full = merge.take_types(i64::MAX);
    Ok((merge.head, merge.page))
}

struct Merge<'w> {
    head: Option<Head>,
    /// They come before the events and are few.
    types: VecDeque<Change>,
    /// Kind and position of the last row.
    last: (i32, i64),
    page: PageBuilder<'w, Change>,
}

impl Merge<'_> {
    fn show(&mut self, row: Row<'_>) -> Shown {
        let (kind, position) = (RowReader::new(row, 0).next()?, RowReader::new(row, sql::POSITION).next()?);
        if (kind, position) <= self.last {
            return Err(Error::Bug("the kinds come one behind the other, and each by position"));
        }
        self.last = (kind, position);
        match kind {
            Kind::HEAD => {
                let mut cells = RowReader::new(row, sql::EPOCH);
                let (feed_epoch, generation) = (cells.next()?, cells.next()?);
                self.head = Some(Head { feed_head: position, feed_epoch, generation });
            }
            Kind::TYPE => {
                let event_type = type_row(row, sql::FIRST, ColumnSet::Response)?;
                self.types.push_back(Change::EventType(Arc::new(event_type)));
            }
            _ => {
                let event = event_row(row, sql::FIRST, ColumnSet::Response)?;
                if self.take_types(position).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                return Ok(self.page.take(Change::Event(Arc::new(event))));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Takes the types that stand before a position.
    fn take_types(&mut self, position: i64) -> ControlFlow<()> {
        while let Some(earlier) = self.types.pop_front_if(|of_type| of_type.meta().change_seq < position) {
            self.page.take(earlier)?;
        }
        ControlFlow::Continue(())
    }
}
