//! Statistics: counts, durations and sums of events in the buckets of a calendar.
//!
//! The events that lie in the same cell ([`cells`]) are added up, by PostgreSQL or by [`events`]. [`table`] makes the
//! rows of the result of them. `docs/guides/statistics.md` has the rules for those who ask.

pub mod buckets;
pub mod calendar;
pub mod cells;
pub mod events;
pub mod measure;
pub mod sum;
pub mod table;

use std::collections::HashSet;
use std::str::FromStr;

use chrono_tz::Tz;

use crate::limits::{
    PROPERTY_KEY_CHARS, STATS_GROUPS_MAX, STATS_MEASURES_MAX, STATS_SOURCE_CHARS_MAX, STATS_SOURCES_MAX,
};
use crate::problem::{Code, FieldProblem};
use buckets::BucketCalendar;
pub use buckets::Granularity;
use calendar::Calendar;

/// The minutes of a day of 24 hours.
const DAY_MINUTES: i64 = 24 * 60;
/// The milliseconds of a minute.
const MINUTE_MS: i64 = 60_000;

/// Something that the events of a bucket are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// The type of the event.
    EventType,
    /// The `sourceType` of the event.
    SourceType,
    /// The day of the week of the local day.
    Weekday,
    /// The hour that the clock of the zone shows. All-day events have none.
    HourOfDay,
}

/// A number in the properties of events that is summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// The key of the number.
    pub property: String,
    /// The key of the text that names its unit.
    pub unit_property: String,
}

impl Measure {
    /// Whether it is the measure that has columns of its own.
    #[must_use]
    pub fn is_promoted(&self) -> bool {
        self.property == measure::VALUE_KEY && self.unit_property == measure::UNIT_KEY
    }
}

/// A query as it was sent, without the filter of events. A list that was not sent is `None`.
#[derive(Debug, Clone, Default)]
pub struct StatsInput {
    /// The name of the time zone.
    pub time_zone: String,
    /// The length of the buckets. `None` is one bucket for everything.
    pub granularity: Option<Granularity>,
    /// When days begin, in minutes after midnight.
    pub day_start_minutes: i64,
    /// On which day weeks begin, from 0 for Monday to 6 for Sunday.
    pub week_start: u8,
    /// What the events of a bucket are grouped by.
    pub group_by: Option<Vec<Group>>,
    /// The numbers that are summed.
    pub measures: Option<Vec<Measure>>,
    /// Whether buckets without events are returned too.
    pub fill: bool,
    /// The sources in order of preference.
    pub prefer_sources: Option<Vec<String>>,
    /// The key of the property that names the source. `None` is `sourceType`.
    pub source_property: Option<String>,
}

/// Which of several sources counts on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// The sources in order of preference.
    pub sources: Vec<String>,
    /// The key of the property that names the source. `None` is `sourceType`.
    pub property: Option<String>,
}

impl Preference {
    /// The rank of a source: 0 for the first. `None` if it is not listed.
    #[must_use]
    pub fn rank_of(&self, source: &str) -> Option<usize> {
        self.sources.iter().position(|listed| listed == source)
    }
}

/// Which numbers of the rows a client has selected, besides the count of events. The others may be 0 or wrong, and
/// must not be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectedFields {
    /// The durations of events.
    pub durations: bool,
    /// The sums and averages of measures.
    pub sums: bool,
    /// The smallest and largest numbers of measures.
    pub extremes: bool,
}

/// A checked query, without the filter of events.
#[derive(Debug, Clone)]
pub struct StatsQuery {
    /// The calendar of the zone. If the buckets are hours, its days begin at midnight.
    pub calendar: Calendar,
    /// The buckets. `None` is one bucket for everything.
    pub scale: Option<BucketCalendar>,
    /// What the events of a bucket are grouped by.
    pub groups: Vec<Group>,
    /// The numbers that are summed.
    pub measures: Vec<Measure>,
    /// Whether buckets without events are returned too.
    pub fill: bool,
    /// Which sources count. `None` is all.
    pub preference: Option<Preference>,
}

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Some fields have no valid value. The pointers begin at the input of the query.
    Invalid(Vec<FieldProblem>),
    /// A limit is exceeded.
    Limit(Exceeded),
}

/// A limit that a query or its result exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// The name of the limit.
    pub name: &'static str,
    /// The largest number that is allowed.
    pub max: usize,
    /// One sentence that also says how to stay within the limit.
    pub detail: &'static str,
}

impl StatsQuery {
    /// Checks a query.
    ///
    /// # Errors
    /// [`Refusal::Limit`] if a list is too long. Otherwise [`Refusal::Invalid`] with everything that is wrong.
    pub fn parse(input: StatsInput) -> Result<Self, Refusal> {
        let StatsInput { time_zone, granularity, day_start_minutes, week_start, group_by, measures, .. } =
            input;
        check_length(
            &group_by,
            "stats groups",
            STATS_GROUPS_MAX,
            "at most 2 groups: ask once for each pair",
        )?;
        check_length(
            &measures,
            "stats measures",
            STATS_MEASURES_MAX,
            "at most 3 measures: ask for the others separately",
        )?;
        let sources = input.prefer_sources;
        check_length(
            &sources,
            "stats sources",
            STATS_SOURCES_MAX,
            "at most 20 preferred sources: list only those that overlap",
        )?;

        let mut errors = Vec::new();
        let mut wrong = |pointer: String, code, detail: &str| {
            errors.push(FieldProblem::new(pointer, code, detail));
        };
        let zone = Tz::from_str(&time_zone).ok();
        if zone.is_none() {
            let detail = "is not a name of the IANA time zone database";
            wrong("/timeZone".to_owned(), Code::UnknownTimeZone, detail);
        }
        if !(0..DAY_MINUTES).contains(&day_start_minutes) {
            wrong("/dayStartMinutes".to_owned(), Code::OutOfRange, "must be from 0 to 1439");
        }
        let lists = [
            ("/groupBy", group_by.as_ref().map(Vec::is_empty)),
            ("/measures", measures.as_ref().map(Vec::is_empty)),
            ("/preferSources", sources.as_ref().map(Vec::is_empty)),
        ];
        for (pointer, _) in lists.iter().filter(|(_, is_empty)| *is_empty == Some(true)) {
            let detail = "must not be empty: leave it out instead";
            wrong((*pointer).to_owned(), Code::InvalidValue, detail);
        }
        let groups = group_by.unwrap_or_default();
        if let [first, second] = groups[..]
            && first == second
        {
            wrong("/groupBy/1".to_owned(), Code::InvalidValue, "must not be listed twice");
        }
        let measures = measures.unwrap_or_default();
        let mut properties = HashSet::new();
        for (index, Measure { property, unit_property }) in measures.iter().enumerate() {
            for (field, key) in [("property", property), ("unitProperty", unit_property)] {
                if let Some((code, detail)) = key_problem(key) {
                    wrong(format!("/measures/{index}/{field}"), code, detail);
                }
            }
            if !properties.insert(property) {
                let detail = "must not be in two measures";
                wrong(format!("/measures/{index}/property"), Code::InvalidValue, detail);
            }
        }
        for (index, source) in sources.iter().flatten().enumerate() {
            if source.chars().count() > STATS_SOURCE_CHARS_MAX {
                let detail = "must have at most 255 characters";
                wrong(format!("/preferSources/{index}"), Code::TooLong, detail);
            }
        }
        if let Some((code, detail)) = input.source_property.as_deref().and_then(key_problem) {
            wrong("/sourceProperty".to_owned(), code, detail);
        }
        let (Some(zone), true) = (zone, errors.is_empty()) else { return Err(Refusal::Invalid(errors)) };

        let day_start = if granularity == Some(Granularity::Hour) { 0 } else { day_start_minutes };
        let calendar = Calendar::new(zone, day_start * MINUTE_MS);
        Ok(Self {
            calendar,
            scale: granularity.map(|granularity| BucketCalendar { calendar, granularity, week_start }),
            groups,
            measures,
            fill: input.fill,
            preference: sources.map(|sources| Preference { sources, property: input.source_property }),
        })
    }

    /// Whether the events of a bucket are grouped by this.
    #[must_use]
    pub fn is_grouped_by(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    /// Whether it can be answered from columns, without reading the properties of events.
    #[must_use]
    pub fn needs_no_properties(&self) -> bool {
        let has_property = self.preference.as_ref().is_some_and(|preference| preference.property.is_some());
        !has_property && self.measures.iter().all(Measure::is_promoted)
    }
}

fn check_length<T>(
    list: &Option<Vec<T>>,
    name: &'static str,
    max: usize,
    detail: &'static str,
) -> Result<(), Refusal> {
    match list {
        Some(list) if list.len() > max => Err(Refusal::Limit(Exceeded { name, max, detail })),
        _ => Ok(()),
    }
}

/// What is wrong with the key of a property.
fn key_problem(key: &str) -> Option<(Code, &'static str)> {
    if key.contains('\0') {
        return Some((Code::NulCharacter, "must not contain a NUL character"));
    }
    let length = key.chars().count();
    if length > *PROPERTY_KEY_CHARS.end() {
        return Some((Code::TooLong, "must have at most 64 characters"));
    }
    (length < *PROPERTY_KEY_CHARS.start()).then_some((Code::InvalidValue, "must not be empty"))
}
