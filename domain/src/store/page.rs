//! Keyset pages: a window over an order that no write can shift.

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
        if self.from_end {
            rows.reverse();
            Page { rows, has_next: self.before.is_some(), has_previous: more }
        } else {
            Page { rows, has_next: more, has_previous: self.after.is_some() }
        }
    }
}
