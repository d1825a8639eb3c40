//! The buckets of a calendar: hours, days, weeks, months, quarters and years. They follow one another without a
//! gap.

use super::calendar::{Calendar, DAY_MS, Date, HOUR_MS, first_of_month, weekday, year_and_month};

/// The length of the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// From a full local hour, or a change of the clock, to the next.
    Hour,
    /// A local day.
    Day,
    /// Seven dates, from the first day of the week on.
    Week,
    /// The dates of a month.
    Month,
    /// The dates of three months: January to March, and so on.
    Quarter,
    /// The dates of a year.
    Year,
}

/// The buckets of one calendar and one length.
#[derive(Debug, Clone, Copy)]
pub struct BucketCalendar {
    /// The calendar whose days make the buckets.
    pub calendar: Calendar,
    /// The length of the buckets.
    pub granularity: Granularity,
    /// On which day weeks begin, from 0 for Monday to 6 for Sunday.
    pub week_start: u8,
}

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Its first instant.
    pub start: i64,
    /// The first instant after it.
    pub end: i64,
    /// Its first date that exists. Of an hour, the date of the day in which it lies.
    pub date: Date,
    /// Its first date by the calendar, which may have been skipped.
    first_date: Date,
}

impl BucketCalendar {
    /// The bucket in which an instant lies.
    #[must_use]
    pub fn bucket_at(&self, at: i64) -> Bucket {
        let date = self.calendar.date_of(at);
        if self.granularity == Granularity::Hour {
            // Every day begins with an hour: at midnight or at a change of the clock.
            let start = self.calendar.start_of_hour(at);
            return Bucket { start, end: self.calendar.next_hour(start), date, first_date: date };
        }
        let first_date = self.first_date_of(date);
        self.bucket_from(first_date, self.calendar.start_of_day(first_date))
    }

    /// The bucket that follows.
    #[must_use]
    pub fn next(&self, bucket: &Bucket) -> Bucket {
        if self.granularity != Granularity::Hour {
            return self.bucket_from(self.next_first_date(bucket.first_date), bucket.end);
        }
        let next_date = self.calendar.next_existing_date(bucket.date + 1);
        let is_next_day = bucket.end >= self.calendar.start_of_day(next_date);
        let (start, date) = (bucket.end, if is_next_day { next_date } else { bucket.date });
        Bucket { start, end: self.calendar.next_hour(start), date, first_date: date }
    }

    /// Whether there are more than `max` buckets from that of one instant to that of another.
    #[must_use]
    pub fn has_more_than(&self, max: usize, from: i64, to: i64) -> bool {
        // The buckets of a zone are never twice as long as usual on average, nor half as long.
        let usual = i64::try_from(max).unwrap_or(i64::MAX).saturating_mul(self.usual_length());
        let length = to - from;
        if length < usual / 2 - 2 * self.usual_length() {
            return false;
        }
        if length > usual.saturating_mul(2) {
            return true;
        }
        let buckets = std::iter::successors(Some(self.bucket_at(from)), |bucket| Some(self.next(bucket)));
        buckets.take(max + 1).take_while(|bucket| bucket.start <= to).count() > max
    }

    /// How long a bucket usually is, in milliseconds.
    fn usual_length(&self) -> i64 {
        match self.granularity {
            Granularity::Hour => HOUR_MS,
            Granularity::Day => DAY_MS,
            Granularity::Week => 7 * DAY_MS,
            Granularity::Month => 30 * DAY_MS,
            Granularity::Quarter => 91 * DAY_MS,
            Granularity::Year => 365 * DAY_MS,
        }
    }

    fn bucket_from(&self, first_date: Date, start: i64) -> Bucket {
        let end = self.calendar.start_of_day(self.next_first_date(first_date));
        Bucket { start, end, date: self.calendar.next_existing_date(first_date), first_date }
    }

    /// The first date by the calendar of the bucket with this date.
    fn first_date_of(&self, date: Date) -> Date {
        let (year, month) = year_and_month(date);
        match self.granularity {
            Granularity::Hour | Granularity::Day => date,
            Granularity::Week => date - i64::from((weekday(date) + 7 - self.week_start) % 7),
            Granularity::Month => first_of_month(year, month),
            Granularity::Quarter => first_of_month(year, (month - 1) / 3 * 3 + 1),
            Granularity::Year => first_of_month(year, 1),
        }
    }

    fn next_first_date(&self, first_date: Date) -> Date {
        let (year, month) = year_and_month(first_date);
        let months_later = |months: u32| {
            let index = month - 1 + months;
            first_of_month(year + i32::from(index >= 12), index % 12 + 1)
        };
        match self.granularity {
            Granularity::Hour | Granularity::Day => self.calendar.next_existing_date(first_date + 1),
            Granularity::Week => first_date + 7,
            Granularity::Month => months_later(1),
            Granularity::Quarter => months_later(3),
            Granularity::Year => months_later(12),
        }
    }
}
