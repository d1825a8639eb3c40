//! Adds events to a table one by one, where the database does not add them up.

use std::sync::Arc;

use uuid::Uuid;

use super::cells::Cells;
use super::measure::{find_members, measured, to_text};
use super::sum::Sum;
use super::table::{PartialSum, StatsResult, Table};
use super::{Exceeded, StatsQuery};
use crate::fault_injection::is_injected;

/// How many sums are kept for neighbours, at most.
const SUMS_MAX: usize = 32;

/// What statistics read of one event.
#[derive(Debug, Clone, Copy)]
pub struct StatsEvent<'a> {
    /// The type.
    pub event_type_id: Uuid,
    /// When it happened, in epoch milliseconds; of an all-day event its date at midnight UTC.
    pub timestamp: i64,
    /// When it ended, in epoch milliseconds.
    pub end_date: Option<i64>,
    /// Whether it is an all-day event.
    pub is_all_day: bool,
    /// Its `sourceType`.
    pub source_type: &'a str,
    /// Where its numbers are.
    pub numbers: Numbers<'a>,
}

/// Where the numbers of an event are.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// The number and the unit of the columns.
    Promoted(Option<f64>, Option<&'a str>),
    /// The properties, as JSON.
    Properties(&'a str),
}

/// Adds events to a table. Neighbours of one cell that agree in everything else are added together.
#[derive(Debug)]
pub struct EventAdder<'q> {
    query: &'q StatsQuery,
    cells: &'q Cells,
    table: Table<'q>,
    /// The source type and the partial sums of the last events.
    last: Option<(String, PartialSum<'static>)>,
    /// Whether an event lies in no cell.
    has_missed: bool,
}

impl<'q> EventAdder<'q> {
    /// Starts with an empty table.
    #[must_use]
    pub fn new(query: &'q StatsQuery, cells: &'q Cells) -> Self {
        Self { query, cells, table: Table::new(query), last: None, has_missed: false }
    }

    /// Adds an event. If the query has preferred sources, the events of one type must be added one after another.
    ///
    /// # Errors
    /// [`Exceeded`] if the result has too many rows.
    pub fn add(&mut self, event: &StatsEvent<'_>) -> Result<(), Exceeded> {
        let Some(cell) = self.cells.cell_of(event.timestamp, event.is_all_day) else {
            self.has_missed = true;
            return Ok(());
        };
        let hour = self.cells.clock.as_ref().filter(|_| !event.is_all_day);
        let hour = hour.map(|clock| clock.hour_of(event.timestamp));
        let rank = self.rank_of(event);
        let is_same = self.last.as_ref().is_some_and(|(source_type, partial)| {
            (partial.cell, partial.event_type_id, partial.rank, partial.hour)
                == (cell, event.event_type_id, rank, hour)
                && source_type == event.source_type
        });
        if !is_same {
            self.flush()?;
            let partial = PartialSum {
                cell,
                event_type_id: event.event_type_id,
                source_type: "",
                rank,
                hour,
                count: 0,
                duration_ms: 0,
                sums: Vec::new(),
            };
            self.last = Some((event.source_type.to_owned(), partial));
        }
        let Some((_, partial)) = &mut self.last else { return Ok(()) };
        partial.count += 1;
        let has_no_duration = event.is_all_day && !is_injected("plant-stats-all-day-lasts");
        if let (Some(end), false) = (event.end_date, has_no_duration) {
            partial.duration_ms += i128::from(end) - i128::from(event.timestamp);
        }
        for (index, measure) in self.query.measures.iter().enumerate() {
            match event.numbers {
                Numbers::Promoted(value, unit) => add_number(&mut partial.sums, index, value, unit),
                Numbers::Properties(json) => {
                    let [value, unit] = find_members(json, [&measure.property, &measure.unit_property]);
                    if let Some(found) = measured(value, unit) {
                        add_number(&mut partial.sums, index, Some(found.value), found.unit.as_deref());
                    }
                }
            }
        }
        // The search for a unit takes the longer the more there are.
        if partial.sums.len() > SUMS_MAX { self.flush() } else { Ok(()) }
    }

    fn rank_of(&self, event: &StatsEvent<'_>) -> Option<usize> {
        let preference = self.query.preference.as_ref()?;
        match (&preference.property, event.numbers) {
            (None, _) => preference.rank_of(event.source_type),
            (Some(property), Numbers::Properties(json)) => {
                let [source] = find_members(json, [property]);
                preference.rank_of(&source.and_then(to_text)?)
            }
            (Some(_), Numbers::Promoted(..)) => None,
        }
    }

    fn flush(&mut self) -> Result<(), Exceeded> {
        match self.last.take() {
            Some((source_type, partial)) => {
                self.table.add(self.cells, &PartialSum { source_type: &source_type, ..partial })
            }
            None => Ok(()),
        }
    }

    /// Whether an event lay outside of the range for which the cells were made, and was not added.
    #[must_use]
    pub fn has_missed(&self) -> bool {
        self.has_missed
    }

    /// Returns the result, as [`Table::finish`] does.
    ///
    /// # Errors
    /// As [`Table::finish`].
    pub fn finish(mut self, from: Option<i64>, to: Option<i64>) -> Result<StatsResult, Exceeded> {
        self.flush()?;
        self.table.finish(from, to)
    }
}

fn add_number(
    sums: &mut Vec<(usize, Option<Arc<str>>, Sum)>,
    measure: usize,
    value: Option<f64>,
    unit: Option<&str>,
) {
    let Some(value) = value else { return };
    let unit = unit.filter(|_| !is_injected("plant-stats-one-unit"));
    let is_same = |(index, known, _): &&mut (usize, Option<Arc<str>>, Sum)| {
        *index == measure && known.as_deref() == unit
    };
    match sums.iter_mut().find(is_same) {
        Some((_, _, sum)) => sum.add(value),
        None => {
            let mut sum = Sum::default();
            sum.add(value);
            sums.push((measure, unit.map(Arc::from), sum));
        }
    }
}
