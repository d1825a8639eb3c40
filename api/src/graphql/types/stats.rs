//! The input and the result of `eventStats`.

mod result;

use async_graphql::{Enum, InputObject};
use domain::stats::{self, Group, Refusal, StatsInput, StatsQuery};
use service::queries::event::Filter;

use crate::error::ApiError;
use crate::graphql::filter::EventFilter;
pub use result::{EventStats, StatsBucket, StatsMeasured};

/// The length of the buckets of `eventStats`. Days, and all that consists of days, begin at `dayStartMinutes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "stats::Granularity")]
pub enum StatsGranularity {
    /// From a full local hour, or a change of the clock, to the next.
    Hour,
    /// A local day.
    Day,
    /// Seven local days, beginning on `weekStart`.
    Week,
    /// The local days of a month.
    Month,
    /// The local days of three months, beginning with January, April, July or October.
    Quarter,
    /// The local days of a year.
    Year,
}

/// What the events of a bucket of `eventStats` can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Group")]
pub enum StatsGroup {
    /// The type of the event.
    EventType,
    /// The `sourceType` of the event.
    SourceType,
    /// The weekday of the local day.
    Weekday,
    /// The hour that the clock of the zone shows. All-day events have none.
    HourOfDay,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl Weekday {
    const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// The weekday with this number, from 0 for Monday to 6 for Sunday.
    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A number in the `properties` of events, such as `value`, and the text beside it that names its unit. Keys are
/// names at the top level of `properties`, of 1 to 64 characters. What is no JSON number is not counted.
#[derive(Debug, InputObject)]
pub struct StatsMeasure {
    /// The key of the number. Two measures must not have the same key.
    property: String,
    /// The key of the unit. A value that is no text, or has more than 64 characters, counts as no unit.
    #[graphql(default_with = "Some(stats::measure::UNIT_KEY.to_owned())")]
    unit_property: Option<String>,
}

/// What `eventStats` is to count, and in which buckets.
#[derive(Debug, InputObject)]
pub struct EventStatsInput {
    /// The events that count. Absent: all. An all-day event passes `from` and `to` by the start of its local day.
    filter: Option<EventFilter>,
    /// The name of the IANA time zone whose calendar makes the buckets, such as `Europe/Berlin`.
    time_zone: String,
    /// The length of the buckets. Absent: one bucket for everything.
    granularity: Option<StatsGranularity>,
    /// How many minutes after midnight a day begins, 0 to 1 439. `HOUR` ignores it.
    #[graphql(default_with = "Some(0)")]
    day_start_minutes: Option<i32>,
    /// The day on which a week begins.
    #[graphql(default_with = "Some(Weekday::Monday)")]
    week_start: Option<Weekday>,
    /// What the events of a bucket are grouped by. At most two, each once.
    group_by: Option<Vec<StatsGroup>>,
    /// The numbers to add up, at most three. The key `value` with the unit under the key `unit` is the fastest, because
    /// both are kept in an index.
    measures: Option<Vec<StatsMeasure>>,
    /// Whether buckets without events are returned too. The first is that of `filter.from`, or else of the first
    /// event; the last is the last one that begins before `filter.to`, or else that of the last event.
    #[graphql(default_with = "Some(false)")]
    fill: Option<bool>,
    /// If several sources record the same, their names in order of preference, at most 20. For each type and local
    /// day, only the first of them that has events counts. Other sources count only if none of them has events.
    /// Absent: all sources count.
    prefer_sources: Option<Vec<String>>,
    /// The key in `properties` that names the source for `preferSources`. Absent: `sourceType` names it.
    source_property: Option<String>,
}

impl EventStatsInput {
    /// Checks the input. Returns the query, and the filter of its events.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] with all wrong fields, but only the first of the filter; [`ApiError::Limit`] if a list is
    /// too long.
    pub(crate) fn parse_query(self) -> Result<(StatsQuery, Filter), ApiError> {
        let unit_key = || stats::measure::UNIT_KEY.to_owned();
        let measures = self.measures.map(|measures| {
            let measures = measures.into_iter().map(|measure| stats::Measure {
                property: measure.property,
                unit_property: measure.unit_property.unwrap_or_else(unit_key),
            });
            measures.collect()
        });
        let input = StatsInput {
            time_zone: self.time_zone,
            granularity: self.granularity.map(stats::Granularity::from),
            day_start_minutes: self.day_start_minutes.unwrap_or_default().into(),
            week_start: self.week_start.unwrap_or(Weekday::Monday) as u8,
            group_by: self.group_by.map(|groups| groups.into_iter().map(Group::from).collect()),
            measures,
            fill: self.fill.unwrap_or_default(),
            prefer_sources: self.prefer_sources,
            source_property: self.source_property,
        };
        let query = StatsQuery::parse(input).map_err(|refusal| match refusal {
            Refusal::Invalid(errors) => ApiError::Invalid(errors),
            Refusal::Limit(exceeded) => ApiError::from_exceeded(exceeded),
        });
        match (query, EventFilter::parse_filter(self.filter)) {
            (Ok(query), filter) => Ok((query, filter?)),
            (Err(ApiError::Invalid(mut errors)), Err(ApiError::Invalid(of_filter))) => {
                errors.extend(of_filter);
                Err(ApiError::Invalid(errors))
            }
            (Err(error), _) => Err(error),
        }
    }
}
