//! Keyset pages: a window over an order that no write can shift. A page ends at a number of rows, and where
//! they can be large at a number of bytes as well: then it has fewer rows, and says that more follow.

use std::ops::ControlFlow;

use sea_orm::{EntityTrait, QueryTrait, Select, Statement, Values};

use super::Store;
use domain::limits::PAGE_BYTES_MAX;

/// What a row adds to the bytes of its page.
pub type Weigh<'w, Row> = &'w (dyn Fn(&Row) -> usize + Sync);

/// Which part of a list.
#[derive(Debug, Clone)]
pub struct Window<Key> {
    /// Only behind this one.
    pub after: Option<Key>,
    /// Only before this one.
    pub before: Option<Key>,
    /// At most so many.
    pub size: u64,
    /// The last ones instead of the first.
    pub from_end: bool,
}

/// A part of a list, in the order of the list.
#[derive(Debug, Clone)]
pub struct Page<Row> {
    /// The rows.
    pub rows: Vec<Row>,
    /// More follow.
    pub has_next: bool,
    /// More go before.
    pub has_previous: bool,
    /// What the rows weigh; 0 where nobody weighs them.
    pub bytes: usize,
}

impl<Key> Window<Key> {
    /// One row more than asked for tells whether there are more.
    pub(super) fn limit(&self) -> u64 {
        self.size + 1
    }

    /// Makes a page of what was read, in reading direction, with [`Window::limit`].
    pub(super) fn page<Row>(&self, mut rows: Vec<Row>) -> Page<Row> {
        let more = rows.len() as u64 > self.size;
        rows.truncate(usize::try_from(self.size).unwrap_or(usize::MAX));
        self.in_list_order(rows, more, 0)
    }

    /// Makes a page of what found room of what was read, in reading direction.
    pub(super) fn page_of<Row>(&self, builder: PageBuilder<'_, Row>) -> Page<Row> {
        self.in_list_order(builder.rows, builder.has_more, builder.bytes)
    }

    fn in_list_order<Row>(&self, mut rows: Vec<Row>, more: bool, bytes: usize) -> Page<Row> {
        if self.from_end {
            rows.reverse();
            Page { rows, has_next: self.before.is_some(), has_previous: more, bytes }
        } else {
            Page { rows, has_next: more, has_previous: self.after.is_some(), bytes }
        }
    }
}

/// The first rows of a query. How many is a parameter, so that few statements are prepared; but where it is nothing
/// else, PostgreSQL expects a tenth of all, finds that dear, and plans each call anew, which takes longer than to read
/// a page. So the next power of two stands in the text as well.
pub(super) fn first(query: Select<impl EntityTrait>, rows: u64, store: &Store) -> Statement {
    let mut statement = query.build(store.reader.backend());
    let values = &mut statement.values.get_or_insert_with(|| Values(Vec::new())).0;
    values.push(i64::try_from(rows).unwrap_or(i64::MAX).into());
    let (at_most, number) = (rows.next_power_of_two(), values.len());
    statement.sql =
        format!("SELECT * FROM ({} LIMIT {at_most}) page LIMIT (SELECT ${number})", statement.sql);
    statement
}

/// The rows for which a page has room.
pub(super) struct PageBuilder<'w, Row> {
    pub(super) rows: Vec<Row>,
    /// One found no room, and so none behind it does.
    pub(super) has_more: bool,
    /// What its rows weigh.
    pub(super) bytes: usize,
    most: u64,
    weigh: Weigh<'w, Row>,
}

impl<'w, Row> PageBuilder<'w, Row> {
    /// With room for so many rows, which weigh no more than a page may.
    pub(super) fn new(most: u64, weigh: Weigh<'w, Row>) -> Self {
        Self { rows: Vec::new(), has_more: false, bytes: 0, most, weigh }
    }

    /// Takes the next row, or breaks when there is no room for it. The first row has room whatever it weighs.
    pub(super) fn take(&mut self, row: Row) -> ControlFlow<()> {
        let bytes = self.bytes + (self.weigh)(&row);
        let is_within = (self.rows.len() as u64) < self.most && bytes <= PAGE_BYTES_MAX;
        if self.has_more || !(self.rows.is_empty() || is_within) {
            self.has_more = true;
            return ControlFlow::Break(());
        }
        self.bytes = bytes;
        self.rows.push(row);
        ControlFlow::Continue(())
    }
}
