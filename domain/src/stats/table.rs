//! Makes the rows of a result from what was added up in each cell.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::buckets::{Bucket, BucketCalendar};
use super::calendar::{Date, weekday};
use super::cells::{Cells, TimestampRanges, check_bucket_count};
use super::sum::Sum;
use super::{Exceeded, Group, StatsQuery};
use crate::fault_injection::is_injected;
use crate::limits::{STATS_DAY_ROWS_MAX, STATS_ROWS_MAX};

/// What some events of one cell add up to. They agree in all that the query distinguishes.
#[derive(Debug, Clone)]
pub struct PartialSum<'a> {
    /// The index of the cell.
    pub cell: usize,
    /// The type of the events. It may be nil if the query has neither groups by type nor preferred sources.
    pub event_type_id: Uuid,
    /// The `sourceType` of the events. It may be empty if the query does not group by it.
    pub source_type: &'a str,
    /// The rank of the source among the preferred ones. `None` if it is not listed.
    pub rank: Option<usize>,
    /// The hour of the clock. `None` for all-day events, and if the query does not group by it.
    pub hour: Option<u8>,
    /// How many events there are.
    pub count: u64,
    /// The sum of their durations in milliseconds.
    pub duration_ms: i128,
    /// The sums of measures, each with the index of the measure and the unit.
    pub sums: Vec<(usize, Option<Arc<str>>, Sum)>,
}

/// The value of one group of a row. Rows are in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupValue {
    /// The type of the events.
    EventType(Uuid),
    /// The `sourceType` of the events.
    SourceType(Arc<str>),
    /// The day of the week, from 0 for Monday.
    Weekday(u8),
    /// The hour of the clock. `None` for all-day events.
    HourOfDay(Option<u8>),
}

/// What the events of a row add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// How many events there are.
    pub count: u64,
    /// The sum of their durations in milliseconds.
    pub duration_ms: i128,
    /// The sums, by the index of the measure and the unit.
    pub sums: BTreeMap<(usize, Option<Arc<str>>), Sum>,
}

impl Totals {
    fn add(&mut self, partial: &PartialSum<'_>) {
        self.count += partial.count;
        self.duration_ms += partial.duration_ms;
        for (measure, unit, sum) in &partial.sums {
            self.sums.entry((*measure, unit.clone())).or_default().merge(sum);
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.duration_ms += other.duration_ms;
        for (key, sum) in other.sums {
            self.sums.entry(key).or_default().merge(&sum);
        }
    }

    /// Adds something, and returns how many rows more it counts for.
    fn add_and_count_new_rows(&mut self, add: impl FnOnce(&mut Self)) -> usize {
        // A row that has counted nothing yet is new.
        let before = if self.count == 0 { 0 } else { self.row_count() };
        add(self);
        self.row_count() - before
    }

    /// How many rows it counts for.
    fn row_count(&self) -> usize {
        1 + self.sums.len()
    }
}

/// A row of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The bucket. `None` without granularity.
    pub bucket: Option<Bucket>,
    /// The value of each group, in the order of the query.
    pub groups: Vec<GroupValue>,
    /// What its events add up to.
    pub totals: Totals,
}

/// A result.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsResult {
    /// The rows, by the start of the bucket and then by the groups.
    pub rows: Vec<Row>,
    /// What the events of all rows add up to.
    pub total: Totals,
}

/// The start of the bucket, 0 without granularity, and the groups.
type RowKey = (i64, Vec<GroupValue>);

/// The rows of a result while partial sums are added.
#[derive(Debug)]
pub struct Table<'q> {
    query: &'q StatsQuery,
    rows: BTreeMap<RowKey, Totals>,
    row_count: usize,
    buckets: HashMap<i64, Bucket>,
    /// With preferred sources: the days of the type that is being added. They become rows once all of its partial sums
    /// are known.
    days: BTreeMap<Date, Day>,
    /// How many rows these days have.
    day_row_count: usize,
    event_type_id: Uuid,
}

/// The events of the best source of one type on one day.
#[derive(Debug)]
struct Day {
    /// The rank of the source. `None` for all sources that are not listed.
    rank: Option<usize>,
    rows: BTreeMap<RowKey, Totals>,
}

impl<'q> Table<'q> {
    /// An empty table.
    #[must_use]
    pub fn new(query: &'q StatsQuery) -> Self {
        let (rows, buckets, days) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        let event_type_id = Uuid::nil();
        Self { query, rows, row_count: 0, buckets, days, day_row_count: 0, event_type_id }
    }

    /// Adds what some events of a cell add up to. Unknown cells are ignored. If the query has preferred sources, those of
    /// one type must be added one after another.
    ///
    /// # Errors
    /// [`Exceeded`] if the result has too many rows.
    pub fn add(&mut self, cells: &Cells, partial: &PartialSum<'_>) -> Result<(), Exceeded> {
        let Some(info) = cells.info(partial.cell) else { return Ok(()) };
        let start = info.bucket.map_or(0, |bucket| {
            self.buckets.insert(bucket.start, bucket);
            bucket.start
        });
        let groups = self.query.groups.iter().map(|group| match group {
            Group::EventType => GroupValue::EventType(partial.event_type_id),
            Group::SourceType => GroupValue::SourceType(partial.source_type.into()),
            Group::Weekday if is_injected("plant-stats-weekday-of-bucket") => {
                GroupValue::Weekday(weekday(info.bucket.map_or(info.date, |bucket| bucket.date)))
            }
            Group::Weekday => GroupValue::Weekday(weekday(info.date)),
            Group::HourOfDay => GroupValue::HourOfDay(partial.hour),
        });
        let key = (start, groups.collect());
        if self.query.preference.is_none() {
            return self.add_to_row(key, |totals| totals.add(partial));
        }
        if self.event_type_id != partial.event_type_id {
            self.finish_days()?;
            self.event_type_id = partial.event_type_id;
        }
        let date = if is_injected("plant-stats-source-of-bucket") { start } else { info.date };
        let new_day = || Day { rank: partial.rank, rows: BTreeMap::new() };
        let day = self.days.entry(date).or_insert_with(new_day);
        let is_better = |one: Option<usize>, other: Option<usize>| match (one, other) {
            (Some(one), Some(other)) => one < other,
            (one, other) => one.is_some() && other.is_none(),
        };
        let counts_anyway = partial.rank.is_none() && is_injected("plant-stats-other-sources");
        if is_better(day.rank, partial.rank) && !counts_anyway {
            return Ok(());
        }
        if is_better(partial.rank, day.rank) {
            self.day_row_count -= day.rows.values().map(Totals::row_count).sum::<usize>();
            *day = new_day();
        }
        self.day_row_count += day.rows.entry(key).or_default().add_and_count_new_rows(|row| row.add(partial));
        if self.day_row_count > STATS_DAY_ROWS_MAX { Err(TOO_MANY_ROWS) } else { Ok(()) }
    }

    /// Adds the days of a type to the rows, once all of its partial sums are known.
    fn finish_days(&mut self) -> Result<(), Exceeded> {
        self.day_row_count = 0;
        for (key, totals) in std::mem::take(&mut self.days).into_values().flat_map(|day| day.rows) {
            self.add_to_row(key, |row| row.merge(totals))?;
        }
        Ok(())
    }

    fn add_to_row(&mut self, key: RowKey, add: impl FnOnce(&mut Totals)) -> Result<(), Exceeded> {
        self.row_count += self.rows.entry(key).or_default().add_and_count_new_rows(add);
        if self.row_count > STATS_ROWS_MAX { Err(TOO_MANY_ROWS) } else { Ok(()) }
    }

    /// Returns the result. `from` and `to` are those of the filter.
    ///
    /// # Errors
    /// [`Exceeded`] if the result has too many buckets or rows.
    pub fn finish(mut self, from: Option<i64>, to: Option<i64>) -> Result<StatsResult, Exceeded> {
        self.finish_days()?;
        let mut total = Totals::default();
        self.rows.values().for_each(|row| total.merge(row.clone()));
        match self.query.scale {
            Some(scale) => self.check_and_fill_buckets(&scale, from, to)?,
            None if self.query.fill && self.query.groups.is_empty() && self.rows.is_empty() => {
                let is_empty = matches!((from, to), (Some(from), Some(to)) if from >= to);
                if !is_empty {
                    self.rows.insert((0, Vec::new()), Totals::default());
                }
            }
            None => {}
        }
        let Self { query, rows, buckets, .. } = self;
        let rows = rows.into_iter().map(|((start, groups), totals)| {
            let bucket = query.scale.and_then(|_| buckets.get(&start).copied());
            Row { bucket, groups, totals }
        });
        Ok(StatsResult { rows: rows.collect(), total })
    }

    fn check_and_fill_buckets(
        &mut self,
        scale: &BucketCalendar,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<(), Exceeded> {
        let starts = || self.rows.keys().map(|(start, _)| *start);
        let counted = starts().next().zip(starts().next_back());
        if !self.query.fill {
            let Some((first, last)) = counted else { return Ok(()) };
            return check_bucket_count(scale, first, last);
        }
        let clamped = TimestampRanges::new(&scale.calendar, from, to).timed;
        // An all-day event of the first day of 1900 may begin before that year does in UTC.
        let asked = from.map(|_| scale.bucket_at(clamped.start).start);
        let first = asked.into_iter().chain(counted.map(|(first, _)| first)).min();
        // The last bucket that begins before `to`.
        let after = if is_injected("plant-stats-fill-beyond") { 0 } else { 1 };
        let last = to.map(|_| clamped.end - after).or(counted.map(|(_, last)| last));
        let is_open = from.is_none() || to.is_none();
        let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
        if clamped.is_empty() || first > last || (is_open && counted.is_none()) {
            return Ok(());
        }
        check_bucket_count(scale, first, last)?;
        let groups: BTreeSet<Vec<GroupValue>> = if self.query.groups.is_empty() {
            BTreeSet::from([Vec::new()])
        } else {
            self.rows.keys().map(|(_, groups)| groups.clone()).collect()
        };
        let mut bucket = scale.bucket_at(first);
        while bucket.start <= last {
            self.buckets.insert(bucket.start, bucket);
            for groups in &groups {
                let key = (bucket.start, groups.clone());
                if !self.rows.contains_key(&key) {
                    self.row_count += 1;
                    if self.row_count > STATS_ROWS_MAX {
                        return Err(TOO_MANY_ROWS);
                    }
                    self.rows.insert(key, Totals::default());
                }
            }
            bucket = scale.next(&bucket);
        }
        Ok(())
    }
}

const TOO_MANY_ROWS: Exceeded = Exceeded {
    name: "stats rows",
    max: STATS_ROWS_MAX,
    detail: "the answer would have more than 10000 buckets and measures: ask for a shorter time, a coarser \
             granularity, or fewer groups",
};
