//! The cells in which the database adds events up: the parts of time in which nothing that a query asks for
//! changes.
//!
//! A cell is a bucket, or a day of it. PostgreSQL gets the cells as sorted lists of instants, and no time zone. For
//! SQLite the program finds the cell of each event.

use std::ops::Range;

use super::buckets::{Bucket, BucketCalendar, Granularity};
use super::calendar::{Calendar, DAY_MS, Date, HOUR_MS};
use super::{Exceeded, Group, StatsQuery};
use crate::fault_injection::is_injected;
use crate::limits::{STATS_BUCKETS_MAX, STATS_INSTANTS};

/// The instants of the events that a query can count, in epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampRanges {
    /// The timestamps of events with a time.
    pub timed: Range<i64>,
    /// The timestamps of all-day events: their dates, at midnight UTC.
    pub all_day: Range<i64>,
}

impl TimestampRanges {
    /// The events from `from` on and before `to`. An all-day event passes by the start of its local day.
    #[must_use]
    pub fn new(calendar: &Calendar, from: Option<i64>, to: Option<i64>) -> Self {
        let Range { start, end } = STATS_INSTANTS;
        let clamp = |at: i64| at.clamp(start, end);
        let date = |at: i64| clamp(first_date_from(calendar, at) * DAY_MS);
        Self {
            timed: from.map_or(start, clamp)..to.map_or(end, clamp),
            all_day: match is_injected("plant-stats-all-day-in-utc") {
                true => from.map_or(start, clamp)..to.map_or(end, clamp),
                false => from.map_or(start, date)..to.map_or(end, date),
            },
        }
    }

    /// The timestamps of all of these events.
    #[must_use]
    pub fn all(&self) -> Range<i64> {
        self.timed.start.min(self.all_day.start)..self.timed.end.max(self.all_day.end)
    }
}

/// The first date whose day begins at an instant or later. A date that was skipped begins with the next one.
fn first_date_from(calendar: &Calendar, at: i64) -> Date {
    let date = calendar.date_of(at);
    if calendar.start_of_day(date) < at { date + 1 } else { first_date_with_start_of(calendar, date) }
}

/// This date, or the first of the skipped dates directly before it.
fn first_date_with_start_of(calendar: &Calendar, date: Date) -> Date {
    let mut first = date;
    while calendar.next_existing_date(first - 1) == date {
        first -= 1;
    }
    first
}

/// The hours of the clock, as parts of time with a constant difference from UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// The first instant of each part, ascending. The first part has no beginning.
    pub starts: Vec<i64>,
    /// How much the clock is ahead of UTC in each part, in milliseconds.
    pub offsets: Vec<i64>,
}

/// The cells of a query, for events within a range of instants.
#[derive(Debug, Clone)]
pub struct Cells {
    /// The first instant of each cell, ascending, and the first instant after the last one.
    pub starts: Vec<i64>,
    /// For each of [`Self::starts`], the first date whose day begins there or later, at midnight UTC.
    pub dates: Vec<i64>,
    /// The clock of the zone, if events are grouped by its hours.
    pub clock: Option<Clock>,
    /// The bucket and the day of each cell.
    infos: Vec<CellInfo>,
}

/// The bucket and the day in which a cell lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellInfo {
    /// The bucket. `None` without granularity.
    pub bucket: Option<Bucket>,
    /// The date of the local day, if the query depends on days.
    pub date: Date,
}

/// How far events may lie outside of the instants that were looked up: an all-day event of a date that was skipped.
const MARGIN_MS: i64 = 4 * DAY_MS;

impl Cells {
    /// Makes the cells for events whose timestamps are from `first` to `last`, or this many margins around them. There
    /// must be at least one.
    ///
    /// # Errors
    /// [`Exceeded`] if there are certainly more buckets from the first to the last event than allowed.
    pub fn new(query: &StatsQuery, first: i64, last: i64, margins: i64) -> Result<Self, Exceeded> {
        let StatsQuery { calendar, scale, .. } = query;
        if let Some(scale) = scale {
            check_bucket_count(scale, first + MARGIN_MS, last - MARGIN_MS)?;
        }
        let (from, to) = (first - margins * MARGIN_MS, last + margins * MARGIN_MS);
        let clock = query.is_grouped_by(Group::HourOfDay).then(|| Clock::of_range(calendar, from, to));
        let mut cells = Self { starts: Vec::new(), dates: Vec::new(), clock, infos: Vec::new() };
        let needs_days = query.preference.is_some() || query.is_grouped_by(Group::Weekday);
        let days = BucketCalendar { calendar: *calendar, granularity: Granularity::Day, week_start: 0 };
        let parts = match scale {
            Some(scale) if scale.granularity == Granularity::Hour || !needs_days => *scale,
            _ if needs_days => days,
            _ => {
                let info = CellInfo { bucket: None, date: 0 };
                cells.push(from, first_date_from(calendar, from), info);
                cells.close(to + 1, first_date_from(calendar, to + 1));
                return Ok(cells);
            }
        };
        let mut part = parts.bucket_at(from);
        let mut bucket = scale.map(|scale| scale.bucket_at(part.start));
        let mut is_start_of_day = part.start == calendar.start_of_day(part.date);
        while part.start <= to {
            if let (Some(scale), Some(last)) = (scale, &mut bucket)
                && part.start >= last.end
            {
                *last = scale.next(last);
            }
            // An all-day event of this date lies in the first part of its day.
            let first_date =
                if is_start_of_day { first_date_with_start_of(calendar, part.date) } else { part.date + 1 };
            cells.push(part.start, first_date, CellInfo { bucket, date: part.date });
            let next = parts.next(&part);
            is_start_of_day = next.date != part.date;
            part = next;
        }
        cells.close(part.start, first_date_from(calendar, part.start));
        Ok(cells)
    }

    fn push(&mut self, start: i64, first_date: Date, info: CellInfo) {
        self.close(start, first_date);
        self.infos.push(info);
    }

    fn close(&mut self, end: i64, first_date: Date) {
        self.starts.push(end);
        self.dates.push(first_date * DAY_MS);
    }

    /// The cell of an event. `None` if it lies outside of the range.
    #[must_use]
    pub fn cell_of(&self, timestamp: i64, is_all_day: bool) -> Option<usize> {
        let starts = if is_all_day { &self.dates } else { &self.starts };
        let after = starts.partition_point(|start| *start <= timestamp);
        (1..starts.len()).contains(&after).then(|| after - 1)
    }

    /// The bucket and the day of a cell. `None` if there is no such cell.
    #[must_use]
    pub fn info(&self, cell: usize) -> Option<CellInfo> {
        self.infos.get(cell).copied()
    }
}

impl Clock {
    fn of_range(calendar: &Calendar, from: i64, to: i64) -> Self {
        let mut clock = Self { starts: vec![i64::MIN], offsets: vec![calendar.offset(from)] };
        let mut at = from;
        while let Some(change) = calendar.next_change(at, to + 1) {
            clock.starts.push(change);
            clock.offsets.push(calendar.offset(change));
            at = change;
        }
        clock
    }

    /// The hour that the clock shows at an instant, from 0 to 23.
    #[must_use]
    pub fn hour_of(&self, at: i64) -> u8 {
        let part = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        let hour = (at + self.offsets[part]).rem_euclid(DAY_MS) / HOUR_MS;
        u8::try_from(hour).unwrap_or_default()
    }
}

/// Checks how many buckets there are from that of one instant to that of another.
///
/// # Errors
/// [`Exceeded`] if there are more than [`STATS_BUCKETS_MAX`].
pub fn check_bucket_count(scale: &BucketCalendar, first: i64, last: i64) -> Result<(), Exceeded> {
    let is_over = first <= last && scale.has_more_than(STATS_BUCKETS_MAX, first, last);
    if is_over { Err(TOO_MANY_BUCKETS) } else { Ok(()) }
}

const TOO_MANY_BUCKETS: Exceeded = Exceeded {
    name: "stats buckets",
    max: STATS_BUCKETS_MAX,
    detail: "from the first to the last bucket there are more than 5000: ask for a shorter time with filter.from and \
             filter.to, or for a coarser granularity",
};
