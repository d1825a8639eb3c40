//! Computes a digest of the living rows for each month of their ids.
//!
//! Two copies of the same rows have the same digests. If a client's copy differs, the months with different
//! digests show which rows to compare.

use std::fmt::Write;

use chrono::{DateTime, Datelike};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event_id;

/// The digest of the living rows whose ids have a time in one UTC month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The month, as `YYYY-MM`.
    pub month: String,
    /// How many rows the month has.
    pub count: i64,
    /// The SHA-256 of the lines `id:version` + LF, one for each row, sorted by id.
    pub hash: [u8; 32],
}

/// Computes the digests of all months in one pass over the rows, which must come in the order of their ids.
#[derive(Debug, Default)]
pub struct Digester {
    buckets: Vec<Bucket>,
    current: Option<(String, i64, Sha256)>,
}

impl Digester {
    /// Adds the next living row. Its id must be greater than the ones before.
    pub fn add_row(&mut self, id: Uuid, version: i32) {
        let month = month_of_id(id);
        if self.current.as_ref().is_none_or(|current| current.0 != month) {
            self.close_bucket();
        }
        let (_, count, hash) = self.current.get_or_insert_with(|| (month, 0, Sha256::new()));
        *count += 1;
        hash.update(format!("{id}:{version}\n"));
    }

    /// The digests of the months that have rows, in the order of the months.
    #[must_use]
    pub fn into_month_digests(mut self) -> Vec<Bucket> {
        self.close_bucket();
        self.buckets
    }

    /// Ends the digest of the current month, if there is one.
    fn close_bucket(&mut self) {
        if let Some((month, count, hash)) = self.current.take() {
            self.buckets.push(Bucket { month, count, hash: hash.finalize().into() });
        }
    }
}

/// The UTC month of the time in an id, as `YYYY-MM`. The 48 bits of milliseconds reach into the year 10889.
fn month_of_id(id: Uuid) -> String {
    let at = DateTime::from_timestamp_millis(event_id::time_ms(id)).unwrap_or_default();
    let mut month = String::new();
    let _infallible = write!(month, "{:04}-{:02}", at.year(), at.month());
    month
}
