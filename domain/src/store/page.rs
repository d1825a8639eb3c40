//! Keyset pages: a window over an order that no write can shift. A page ends at a number of rows, and where
//! they can be large at a number of bytes as well: then it has fewer rows, and says that more follow.

use std::sync::Arc;

use futures::{Stream, TryStreamExt};
use sea_orm::{DbErr, EntityTrait, FromQueryResult, QueryTrait, Select, SelectModel, SelectorRaw};

use super::Store;
use super::model::Read;
use crate::error::Error;
use crate::limits::PAGE_BYTES_MAX;

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
        self.part(rows, more)
    }

    /// Makes a page of rows, in reading direction, behind which there are more or not.
    pub(super) fn part<Row>(&self, mut rows: Vec<Row>, more: bool) -> Page<Row> {
        if self.from_end {
            rows.reverse();
            Page { rows, has_next: self.before.is_some(), has_previous: more }
        } else {
            Page { rows, has_next: more, has_previous: self.after.is_some() }
        }
    }
}

/// Whether a page that has `rows` has room for one more, with which it weighs `bytes`.
pub(super) fn has_room(rows: usize, most: u64, bytes: usize) -> bool {
    rows == 0 || (rows as u64) < most && bytes <= PAGE_BYTES_MAX
}

/// The first rows of a query. How many stands in its text: where it is a parameter, PostgreSQL expects a tenth
/// of all, finds that dear, and plans each call anew, which takes longer than to read a page.
pub(super) fn first<E, Row>(query: Select<E>, rows: u64, store: &Store) -> SelectorRaw<SelectModel<Read<Row>>>
where
    E: EntityTrait,
    Read<Row>: FromQueryResult,
{
    let mut statement = query.build(store.reader.get_database_backend());
    statement.sql += &format!(" LIMIT {rows}");
    SelectorRaw::<SelectModel<Read<Row>>>::from_statement(statement)
}

/// The rows for which a page had room.
pub(super) struct Taken<Row> {
    pub(super) rows: Vec<Row>,
    /// The first that found none.
    pub(super) left_out: Option<Row>,
    /// What all of them weigh.
    pub(super) bytes: usize,
}

/// Takes rows while a page of at most `most` has room for them. Rows behind the first that finds none are never
/// read.
pub(super) async fn take<Model, Row>(
    mut read: impl Stream<Item = Result<Read<Model>, DbErr>> + Unpin,
    show: impl Fn(Arc<Model>) -> Row,
    most: u64,
    weigh: Weigh<'_, Row>,
) -> Result<Taken<Row>, Error> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(Read(row)) = read.try_next().await? {
        let row = show(row?);
        bytes += weigh(&row);
        if !has_room(rows.len(), most, bytes) {
            return Ok(Taken { rows, left_out: Some(row), bytes });
        }
        rows.push(row);
    }
    Ok(Taken { rows, left_out: None, bytes })
}
