//! The calendar of a time zone: when its days begin, and when its clocks change.
//!
//! Instants are epoch milliseconds. A local time is what a clock on the wall of that zone shows, in milliseconds
//! since 1970-01-01T00:00 on that clock. A date is the number of days since 1970-01-01.

use chrono::{DateTime, Datelike, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

use crate::fault_injection::is_injected;

/// The milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// The milliseconds of a day of 24 hours.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// No local time differs from UTC by as much as this.
const OFFSET_MS_MAX: i64 = 26 * HOUR_MS;
/// Clocks of one zone never change twice within this time, from 1900 to 2099.
const CHANGE_EVERY_MS_MIN: i64 = 6 * HOUR_MS;

/// A date, as the number of days since 1970-01-01.
pub type Date = i64;

/// The days of a time zone. They begin at the same time of the clock, which need not be midnight.
#[derive(Debug, Clone, Copy)]
pub struct Calendar {
    zone: Tz,
    day_start_ms: i64,
}

impl Calendar {
    /// The calendar of a zone, in which days begin this many milliseconds after midnight.
    #[must_use]
    pub fn new(zone: Tz, day_start_ms: i64) -> Self {
        Self { zone, day_start_ms }
    }

    /// The local time at an instant.
    #[must_use]
    pub fn local_time(&self, at: i64) -> i64 {
        at + self.offset(at)
    }

    /// How much the local time is ahead of UTC at an instant, in milliseconds.
    #[must_use]
    pub fn offset(&self, at: i64) -> i64 {
        i64::from(self.zone.offset_from_utc_datetime(&naive(at)).fix().local_minus_utc()) * 1000
    }

    /// The first instant at which the clock shows `local` or later. The clock never shows a time that it skips,
    /// and shows a time twice that it repeats.
    fn first_instant_at(&self, local: i64) -> i64 {
        match self.zone.from_local_datetime(&naive(local)) {
            MappedLocalTime::Ambiguous(_, later) if is_injected("plant-stats-later-time") => {
                later.timestamp_millis()
            }
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => at.timestamp_millis(),
            MappedLocalTime::None => {
                let is_reached = |at: i64| self.local_time(at) >= local;
                first_that(local - OFFSET_MS_MAX, local + OFFSET_MS_MAX, is_reached)
            }
        }
    }

    /// Whether any instant has this date. A zone that moves across the date line skips one.
    fn date_exists(&self, date: Date) -> bool {
        self.local_time(self.first_instant_at(date * DAY_MS)) < (date + 1) * DAY_MS
            || is_injected("plant-stats-skipped-date")
    }

    /// This date, or the next one that exists if it was skipped.
    #[must_use]
    pub fn next_existing_date(&self, date: Date) -> Date {
        if self.date_exists(date) { date } else { self.next_existing_date(date + 1) }
    }

    /// The first instant of the day with this date, or of the next day if the date was skipped.
    #[must_use]
    pub fn start_of_day(&self, date: Date) -> i64 {
        // No clock shows midnight of a date that was skipped, but the first time after it.
        let date = if self.day_start_ms == 0 { date } else { self.next_existing_date(date) };
        self.first_instant_at(date * DAY_MS + self.day_start_ms)
    }

    /// The date of the day in which an instant lies.
    #[must_use]
    pub fn date_of(&self, at: i64) -> Date {
        // The clock may have been set back across the start of the day, or across the date line.
        let mut date = (self.local_time(at) - self.day_start_ms).div_euclid(DAY_MS) - 2;
        loop {
            let next = self.next_existing_date(date + 1);
            if self.start_of_day(next) > at {
                return date;
            }
            date = next;
        }
    }

    /// The first instant after `at`, and before `end`, at which the clock is changed. `None` if it is not changed.
    #[must_use]
    pub fn next_change(&self, at: i64, end: i64) -> Option<i64> {
        let (mut from, offset) = (at, self.offset(at));
        while from < end {
            let to = (from + CHANGE_EVERY_MS_MIN).min(end - 1);
            if self.offset(to) != offset {
                return Some(first_that(from, to, |at| self.offset(at) != offset));
            }
            if to == end - 1 {
                return None;
            }
            from = to;
        }
        None
    }

    /// The last full hour of the clock, or the last change of the clock, at or before an instant.
    #[must_use]
    pub fn start_of_hour(&self, at: i64) -> i64 {
        let full = at - self.local_time(at).rem_euclid(HOUR_MS);
        let offset = self.offset(at);
        if self.offset(full) == offset {
            return full;
        }
        first_that(full, at, |instant| self.offset(instant) == offset)
    }

    /// The next full hour of the clock, or the next change of the clock, after a [start](Self::start_of_hour).
    #[must_use]
    pub fn next_hour(&self, start: i64) -> i64 {
        let full = start - self.local_time(start).rem_euclid(HOUR_MS) + HOUR_MS;
        let change = self.next_change(start, full).filter(|_| !is_injected("plant-stats-full-hours"));
        change.unwrap_or(full)
    }
}

/// The smallest number in `from + 1 ..= to` for which `holds` is true. It must be false for `from`, true for `to`,
/// and change only once.
fn first_that(mut from: i64, mut to: i64, holds: impl Fn(i64) -> bool) -> i64 {
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        if holds(middle) { to = middle } else { from = middle }
    }
    to
}

fn naive(ms: i64) -> NaiveDateTime {
    DateTime::from_timestamp_millis(ms).unwrap_or_default().naive_utc()
}

/// The date with this year and month, counted from 1, on its first day.
#[must_use]
pub fn first_of_month(year: i32, month: u32) -> Date {
    let first = NaiveDate::from_ymd_opt(year, month, 1).unwrap_or_default();
    i64::from(first.num_days_from_ce() - NaiveDate::default().num_days_from_ce())
}

/// The year and the month, counted from 1, of a date.
#[must_use]
pub fn year_and_month(date: Date) -> (i32, u32) {
    let date = naive(date * DAY_MS).date();
    (date.year(), date.month())
}

/// Which day of the week a date is, from 0 for Monday to 6 for Sunday.
#[must_use]
pub fn weekday(date: Date) -> u8 {
    // 1970-01-01 was a Thursday.
    u8::try_from((date + 3).rem_euclid(7)).unwrap_or_default()
}

/// The text `YYYY-MM-DD` of a date.
#[must_use]
pub fn format_date(date: Date) -> String {
    naive(date * DAY_MS).date().to_string()
}
