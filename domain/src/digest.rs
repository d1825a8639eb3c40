//! The digest of what is alive, by the month in which it was made: two copies of the same rows have the
//! same digest, and a month that differs tells where to look.

use std::fmt::Write;

use chrono::{DateTime, Datelike};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event_id;

/// One UTC month of id time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// `YYYY-MM`.
    pub month: String,
    /// Rows in it.
    pub count: i64,
    /// SHA-256 over the lines `id:version` + LF of its rows, sorted by id.
    pub hash: [u8; 32],
}

/// Gathers rows, which must come in the order of their ids, into buckets.
#[derive(Debug, Default)]
pub struct Digester {
    done: Vec<Bucket>,
    open: Option<(String, i64, Sha256)>,
}

impl Digester {
    /// Adds the next row.
    pub fn add(&mut self, id: Uuid, version: i32) {
        let month = month_of(id);
        if self.open.as_ref().is_none_or(|open| open.0 != month) {
            self.close();
        }
        let (_, count, hash) = self.open.get_or_insert_with(|| (month, 0, Sha256::new()));
        *count += 1;
        hash.update(format!("{id}:{version}\n"));
    }

    /// The buckets, in the order of their months.
    #[must_use]
    pub fn finish(mut self) -> Vec<Bucket> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if let Some((month, count, hash)) = self.open.take() {
            self.done.push(Bucket { month, count, hash: hash.finalize().into() });
        }
    }
}

/// The UTC month of the time inside an id; 48 bits of milliseconds reach into the year 10889.
fn month_of(id: Uuid) -> String {
    let at = DateTime::from_timestamp_millis(event_id::time_ms(id)).unwrap_or_default();
    let mut month = String::new();
    let _infallible = write!(month, "{:04}-{:02}", at.year(), at.month());
    month
}
