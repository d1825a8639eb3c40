//! Numbers from events: the query, and the answer in buckets.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use domain::stats::calendar::format_date;
use domain::stats::table::{GroupValue, Row, StatsResult, Totals};
use domain::stats::{self, Group, Refusal, SelectedFields, StatsInput, StatsQuery};
use service::queries::event::Filter;
use service::queries::stats::Statistics;
use uuid::Uuid;

use crate::error::ApiError;
use crate::graphql::filter::EventFilter;
use crate::graphql::scalar::{Cursor, DateTime, Long};

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

/// Numbers from events.
#[derive(Debug, Clone, SimpleObject)]
pub struct EventStats {
    /// The buckets, by their start and then by the groups as listed: ids and texts by their bytes, weekdays from
    /// Monday, hours upwards, null first.
    buckets: Vec<StatsBucket>,
    /// The events of all buckets together.
    total: StatsBucket,
    /// The feed position that this is true for.
    as_of: Cursor,
}

/// What the events of one bucket, and of one value of each group, add up to.
#[derive(Debug, Clone)]
pub struct StatsBucket {
    query: Arc<StatsQuery>,
    ends: (Option<i64>, Option<i64>),
    row: Row,
}

/// What the numbers of one measure and one unit add up to.
#[derive(Debug, Clone, SimpleObject)]
pub struct StatsMeasured {
    /// The key of the numbers in `properties`.
    property: String,
    /// The unit; null if there is none.
    unit: Option<String>,
    /// How many numbers there are.
    count: Long,
    /// Their sum. Of integers it is exact, as long as the sum of their absolute values is at most 2^53.
    sum: f64,
    /// Their average.
    average: f64,
    /// The smallest of them.
    minimum: f64,
    /// The largest of them.
    maximum: f64,
}

impl EventStats {
    /// What the client has selected of the buckets and the total.
    pub(crate) fn selected_fields(context: &Context<'_>) -> SelectedFields {
        let selects = |name: &str| {
            ["buckets", "total"].iter().any(|part| context.look_ahead().field(part).field(name).exists())
        };
        let measures = |name: &str| {
            let part = |part: &str| context.look_ahead().field(part).field("measures").field(name).exists();
            part("buckets") || part("total")
        };
        SelectedFields {
            durations: selects("durationSeconds"),
            sums: measures("sum") || measures("average"),
            extremes: measures("minimum") || measures("maximum"),
        }
    }

    /// Converts a result for a response. `ends` are `from` and `to` of the filter.
    pub(crate) fn new(
        query: &Arc<StatsQuery>,
        ends: (Option<i64>, Option<i64>),
        statistics: Statistics,
        user_id: Uuid,
    ) -> Self {
        let bucket = |row| StatsBucket { query: Arc::clone(query), ends, row };
        let Statistics { result: StatsResult { rows, total }, as_of } = statistics;
        Self {
            buckets: rows.into_iter().map(bucket).collect(),
            total: bucket(Row { bucket: None, groups: Vec::new(), totals: total }),
            as_of: Cursor(as_of.encode(user_id)),
        }
    }

    /// How many objects the response has: buckets, and measures in them.
    pub(crate) fn count_rows(&self) -> usize {
        let rows = self.buckets.iter().chain([&self.total]);
        rows.map(|bucket| 1 + bucket.row.totals.sums.len()).sum()
    }
}

impl StatsBucket {
    fn totals(&self) -> &Totals {
        &self.row.totals
    }
}

/// What the events of one bucket, and of one value of each group, add up to.
#[Object]
impl StatsBucket {
    /// The first instant. Without granularity, and in `total`, it is `filter.from`, or null.
    async fn start(&self) -> Option<DateTime> {
        self.row.bucket.map(|bucket| bucket.start).or(self.ends.0).map(DateTime::At)
    }

    /// The first instant after it. Without granularity, and in `total`, it is `filter.to`, or null.
    async fn end(&self) -> Option<DateTime> {
        self.row.bucket.map(|bucket| bucket.end).or(self.ends.1).map(DateTime::At)
    }

    /// The date of its first local day, as `YYYY-MM-DD`; null without granularity, and in `total`. Of an hour it is the
    /// date of the local day in which it lies.
    async fn local_date(&self) -> Option<String> {
        self.row.bucket.map(|bucket| format_date(bucket.date))
    }

    /// The type, if the events are grouped by it; otherwise null.
    async fn event_type_id(&self) -> Option<ID> {
        self.row.groups.iter().find_map(|group| match group {
            GroupValue::EventType(id) => Some((*id).into()),
            _ => None,
        })
    }

    /// The source, if the events are grouped by it; otherwise null.
    async fn source_type(&self) -> Option<&str> {
        self.row.groups.iter().find_map(|group| match group {
            GroupValue::SourceType(source) => Some(&**source),
            _ => None,
        })
    }

    /// The weekday, if the events are grouped by it; otherwise null.
    async fn weekday(&self) -> Option<Weekday> {
        self.row.groups.iter().find_map(|group| match group {
            GroupValue::Weekday(number) => Weekday::from_number(*number),
            _ => None,
        })
    }

    /// The hour of the clock, 0 to 23, if the events are grouped by it and are not all-day events; otherwise null.
    async fn hour_of_day(&self) -> Option<u8> {
        self.row.groups.iter().find_map(|group| match group {
            GroupValue::HourOfDay(hour) => *hour,
            _ => None,
        })
    }

    /// How many events there are.
    async fn count(&self) -> Long {
        Long(i64::try_from(self.totals().count).unwrap_or(i64::MAX))
    }

    /// How long the events that have an end last, in seconds. An event counts where it begins, and an all-day event
    /// counts 0.
    async fn duration_seconds(&self) -> f64 {
        self.totals().duration_ms as f64 / 1000.0
    }

    /// One entry for each measure and unit that occurs, measures as listed and units by their bytes, no unit first.
    async fn measures(&self) -> Vec<StatsMeasured> {
        let sums = self.totals().sums.iter().map(|((measure, unit), sum)| StatsMeasured {
            property: self.query.measures[*measure].property.clone(),
            unit: unit.as_deref().map(str::to_owned),
            count: Long(i64::try_from(sum.count()).unwrap_or(i64::MAX)),
            sum: sum.total(),
            average: sum.average(),
            minimum: sum.minimum(),
            maximum: sum.maximum(),
        });
        sums.collect()
    }
}
