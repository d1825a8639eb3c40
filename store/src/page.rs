//! Builds pages of lists by keyset pagination: a page starts after the key of the last one, so that writes do
//! not shift it.
//!
//! A page ends at a number of rows. Where rows can be large it ends at a number of bytes as well; then it has
//! fewer rows, and says that more follow.

use std::ops::ControlFlow;

use sea_orm::{EntityTrait, QueryTrait, Select, Statement, Values};

use super::Store;
use domain::limits::PAGE_BYTES_MAX;

/// A function that returns how many bytes a row adds to the size of its page.
pub type RowSize<'w, Row> = &'w (dyn Fn(&Row) -> usize + Sync);

/// The part of a list that a page shows.
#[derive(Debug, Clone)]
pub struct Window<Key> {
    /// The page shows only rows after this key, in the order of the list.
    pub after: Option<Key>,
    /// The page shows only rows before this key, in the order of the list.
    pub before: Option<Key>,
    /// The most rows that the page may have.
    pub size: u64,
    /// Whether the page shows the last rows between `after` and `before` instead of the first ones.
    pub from_end: bool,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page<Row> {
    /// The rows, in the order of the list.
    pub rows: Vec<Row>,
    /// Whether rows follow the last one. A page read from the end does not look: it is true if the window had
    /// a `before` key.
    pub has_next: bool,
    /// Whether rows precede the first one. A page read from the start does not look: it is true if the window
    /// had an `after` key.
    pub has_previous: bool,
    /// The size of the rows in bytes; 0 for lists whose pages are not limited by bytes.
    pub bytes: usize,
}

impl<Key> Window<Key> {
    /// How many rows a query must read: one more than the page shows, to find out whether more follow.
    pub(super) fn query_limit(&self) -> u64 {
        self.size + 1
    }

    /// Makes a page of the rows that a query with [`Window::query_limit`] returned, in their order. The row
    /// beyond the page is dropped, and shows only that more rows follow.
    pub(super) fn page_of_rows<Row>(&self, mut rows: Vec<Row>) -> Page<Row> {
        let has_more = rows.len() as u64 > self.size;
        rows.truncate(usize::try_from(self.size).unwrap_or(usize::MAX));
        self.page_in_list_order(rows, has_more, 0)
    }

    /// Makes a page of the rows that a page builder has taken, in the order in which a query returned them.
    pub(super) fn page_of_builder<Row>(&self, builder: PageBuilder<'_, Row>) -> Page<Row> {
        self.page_in_list_order(builder.rows, builder.has_more, builder.bytes)
    }

    fn page_in_list_order<Row>(&self, mut rows: Vec<Row>, has_more: bool, bytes: usize) -> Page<Row> {
        if self.from_end {
            rows.reverse();
            Page { rows, has_next: self.before.is_some(), has_previous: has_more, bytes }
        } else {
            Page { rows, has_next: has_more, has_previous: self.after.is_some(), bytes }
        }
    }
}

/// Builds a statement that reads the first `rows` rows of a query (decision 0064).
///
/// The number is a parameter, so that few different statements are prepared. If it were only a parameter,
/// PostgreSQL would expect a tenth of all rows, estimate a high cost, and plan each call again. That takes
/// longer than to read a page. So the text contains the next power of two as well:
///
/// ```sql
/// SELECT * FROM (SELECT … ORDER BY … LIMIT 64) page LIMIT (SELECT $4)
/// ```
pub(super) fn limited_statement(query: Select<impl EntityTrait>, rows: u64, store: &Store) -> Statement {
    let mut statement = query.build(store.reader.backend());
    let values = &mut statement.values.get_or_insert_with(|| Values(Vec::new())).0;
    values.push(i64::try_from(rows).unwrap_or(i64::MAX).into());
    let (at_most, number) = (rows.next_power_of_two(), values.len());
    statement.sql =
        format!("SELECT * FROM ({} LIMIT {at_most}) page LIMIT (SELECT ${number})", statement.sql);
    statement
}

/// Collects the rows of a page until it is full, by the number of rows or by their bytes.
pub(super) struct PageBuilder<'w, Row> {
    pub(super) rows: Vec<Row>,
    /// Whether a row did not fit. From then on no further row is taken.
    pub(super) has_more: bool,
    /// The size of the rows in bytes.
    pub(super) bytes: usize,
    rows_max: u64,
    row_size: RowSize<'w, Row>,
}

impl<'w, Row> PageBuilder<'w, Row> {
    /// Starts a page of at most `rows_max` rows and [`PAGE_BYTES_MAX`] bytes.
    pub(super) fn new(rows_max: u64, row_size: RowSize<'w, Row>) -> Self {
        Self { rows: Vec::new(), has_more: false, bytes: 0, rows_max, row_size }
    }

    /// Adds a row to the page. If it does not fit, it is dropped and `Break` is returned. The first row
    /// always fits, whatever its size.
    pub(super) fn take_row(&mut self, row: Row) -> ControlFlow<()> {
        let bytes = self.bytes + (self.row_size)(&row);
        let is_within = (self.rows.len() as u64) < self.rows_max && bytes <= PAGE_BYTES_MAX;
        if self.has_more || !(self.rows.is_empty() || is_within) {
            self.has_more = true;
            return ControlFlow::Break(());
        }
        self.bytes = bytes;
        self.rows.push(row);
        ControlFlow::Continue(())
    }
}
