//! Parses and formats instants.
//!
//! Clients send RFC 3339 and get `YYYY-MM-DDTHH:MM:SS.sssZ`. The server calculates with and stores epoch
//! milliseconds.

use std::ops::Range;

use chrono::{DateTime, Datelike, FixedOffset, Timelike};

/// The earliest instant, 0001-01-01T00:00:00.000Z, in epoch milliseconds.
pub const MIN_MS: i64 = -62_135_596_800_000;
/// The latest instant, 9999-12-31T23:59:59.999Z, in epoch milliseconds.
pub const MAX_MS: i64 = 253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// What a text must be to be accepted as an instant: the detail of the problem of any other text.
pub const RULE: &str = "must be RFC 3339 with an offset, in the years 0001 to 9999";

/// Whether an instant in epoch milliseconds is in the years 0001 to 9999.
#[must_use]
pub fn is_in_range(ms: i64) -> bool {
    (MIN_MS..=MAX_MS).contains(&ms)
}

/// The start of the UTC day of an instant. Both are epoch milliseconds.
#[must_use]
pub fn start_of_utc_day(ms: i64) -> i64 {
    ms - ms.rem_euclid(DAY_MS)
}

/// A parsed instant, and the date that its text has, which may be another day than the instant has in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedInstant {
    /// The instant, truncated to epoch milliseconds.
    pub ms: i64,
    /// The date in the text, at 00:00 UTC, in epoch milliseconds. It may be a day before [`MIN_MS`].
    pub date_ms: i64,
}

/// Parses an RFC 3339 instant. `None` if the text is not one, or is outside the years 0001 to 9999 in UTC.
/// The leap second 23:59:60 UTC is read as the second after it.
#[must_use]
pub fn parse(text: &str) -> Option<ParsedInstant> {
    // The library also accepts U+2212 as the sign of an offset, but the RFC does not.
    if !text.is_ascii() {
        return None;
    }
    let at = DateTime::parse_from_rfc3339(text).ok()?;
    if at.nanosecond() >= 1_000_000_000 && !is_last_second_of_day(&at) {
        return None;
    }
    let ms = at.timestamp_millis();
    // Day 719 163 of the common era is 1970-01-01.
    let date_ms = i64::from(at.num_days_from_ce() - 719_163) * DAY_MS;
    is_in_range(ms).then_some(ParsedInstant { ms, date_ms })
}

/// Whether an instant is in the last second of a UTC day, the only place of a leap second.
fn is_last_second_of_day(at: &DateTime<FixedOffset>) -> bool {
    at.timestamp().rem_euclid(86_400) == 86_399
}

/// Formats epoch milliseconds between [`MIN_MS`] and [`MAX_MS`] as `YYYY-MM-DDTHH:MM:SS.sssZ`.
#[must_use]
pub fn format(ms: i64) -> String {
    format_ascii(ms).into_iter().map(char::from).collect()
}

/// Formats epoch milliseconds between [`MIN_MS`] and [`MAX_MS`] as the bytes of `YYYY-MM-DDTHH:MM:SS.sssZ`.
///
/// The format patterns of the library take several times as long, and each row of a page has several
/// instants.
#[must_use]
pub fn format_ascii(ms: i64) -> [u8; 24] {
    let at = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put_digits = |range: Range<usize>, mut value: u32| {
        for index in range.rev() {
            text[index] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put_digits(0..4, at.year().unsigned_abs());
    put_digits(5..7, at.month());
    put_digits(8..10, at.day());
    put_digits(11..13, at.hour());
    put_digits(14..16, at.minute());
    put_digits(17..19, at.second());
    put_digits(20..23, at.timestamp_subsec_millis());
    text
}
