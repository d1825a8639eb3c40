//! Instants on the wire: RFC 3339 in, `YYYY-MM-DDTHH:MM:SS.sssZ` out, epoch milliseconds inside.

use std::ops::Range;

use chrono::{DateTime, Datelike, FixedOffset, Timelike};

/// 0001-01-01T00:00:00.000Z.
pub const MIN_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z.
pub const MAX_MS: i64 = 253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// What an instant must be, for whoever sent another.
pub const RULE: &str = "must be RFC 3339, in the years 0001 to 9999";

/// Whether epoch milliseconds lie in the years 0001 to 9999.
#[must_use]
pub fn is_in_range(ms: i64) -> bool {
    (MIN_MS..=MAX_MS).contains(&ms)
}

/// The UTC date of an instant, at 00:00.
#[must_use]
pub fn date_of(ms: i64) -> i64 {
    ms - ms.rem_euclid(DAY_MS)
}

/// An instant as it was written: the instant itself, and the date in the writer's own offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedInstant {
    /// Epoch milliseconds, truncated.
    pub ms: i64,
    /// The date as written, at 00:00 UTC, in epoch milliseconds.
    pub date_ms: i64,
}

/// Reads RFC 3339. The year, in UTC, is 0001 to 9999; 23:59:60 UTC is the next second.
#[must_use]
pub fn parse(text: &str) -> Option<ParsedInstant> {
    // The library also takes U+2212 for the sign of an offset; the RFC does not.
    if !text.is_ascii() {
        return None;
    }
    let at = DateTime::parse_from_rfc3339(text).ok()?;
    if at.nanosecond() >= 1_000_000_000 && !is_last_second_of_day(&at) {
        return None;
    }
    let ms = at.timestamp_millis();
    let date_ms = i64::from(at.num_days_from_ce() - 719_163) * DAY_MS;
    is_in_range(ms).then_some(ParsedInstant { ms, date_ms })
}

fn is_last_second_of_day(at: &DateTime<FixedOffset>) -> bool {
    at.timestamp().rem_euclid(86_400) == 86_399
}

/// Writes an instant between [`MIN_MS`] and [`MAX_MS`].
#[must_use]
pub fn format(ms: i64) -> String {
    digits(ms).into_iter().map(char::from).collect()
}

/// The same as its ASCII characters. The library's patterns take several times as long, and there are some
/// in each row of a page.
#[must_use]
pub fn digits(ms: i64) -> [u8; 24] {
    let at = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |places: Range<usize>, mut number: u32| {
        for place in places.rev() {
            text[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0..4, at.year().unsigned_abs());
    put(5..7, at.month());
    put(8..10, at.day());
    put(11..13, at.hour());
    put(14..16, at.minute());
    put(17..19, at.second());
    put(20..23, at.timestamp_subsec_millis());
    text
}
