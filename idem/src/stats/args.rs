//! The arguments of `idem stats`, and how they become the input of the query `eventStats`.

use std::str::FromStr;

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate};
use chrono_tz::Tz;
use clap::{Args, ValueEnum};
use domain::stats::calendar::Calendar;
use serde_json::{Map, Value, json};

/// The arguments of `idem stats`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatsArgs {
    /// Base URL of the server, for example http://127.0.0.1:8080
    #[arg(long, env = "IDEM_URL", value_name = "URL")]
    pub url: String,
    /// API token of the user whose events are counted
    #[arg(long, env = "IDEM_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: String,
    /// Count only events of this type; can be given several times
    #[arg(long = "type", value_name = "NAME")]
    pub event_types: Vec<String>,
    /// Count only events from this source; can be given several times
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<String>,
    /// Count only events whose notes contain this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Count events from the start of this local day, or from this RFC 3339 instant on
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Count events before the start of this local day, or before this RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// Length of the buckets [default: one bucket for everything]
    #[arg(long, value_name = "LENGTH", value_enum)]
    pub by: Option<Granularity>,
    /// Groups within each bucket, at most two
    #[arg(long, value_name = "GROUP,GROUP", value_enum, value_delimiter = ',')]
    pub group: Vec<Group>,
    /// Key of a number in the properties to add up, and the key of its unit if that is not `unit`, for example
    /// distance:distanceUnit; can be given several times
    #[arg(long, value_name = "KEY[:UNIT_KEY]")]
    measure: Vec<String>,
    /// IANA time zone whose calendar makes the buckets [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// When days begin, for example 04:00 [default: 00:00]
    #[arg(long, value_name = "HH:MM", value_parser = parse_minutes)]
    day_start: Option<i64>,
    /// Day on which weeks begin [default: monday]
    #[arg(long, value_name = "DAY", value_enum)]
    week_start: Option<Weekday>,
    /// Show buckets without events too
    #[arg(long)]
    fill: bool,
    /// Sources in order of preference: of each type, only the first of them that has events on a day counts
    #[arg(long, value_name = "SOURCE,SOURCE", value_delimiter = ',')]
    prefer: Vec<String>,
    /// Key in the properties that names the source for --prefer [default: the source type]
    #[arg(long, value_name = "KEY", requires = "prefer")]
    source_property: Option<String>,
    /// Draw a bar for each bucket: of the sum of the first measure and unit, or else of the count
    #[arg(long, conflicts_with = "json")]
    pub bars: bool,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples (set IDEM_URL and IDEM_TOKEN first, or add --url and --token):
  idem stats --by month --bars
  idem stats --type steps --by day --measure value --from 2026-03-01 --to 2026-04-01 --fill \\
      --prefer watch,phone --source-property sourceName
  idem stats --type coffee --group weekday,hour
  idem stats --type sleep --by week --day-start 12:00 --json";

/// The length of the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Granularity {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// A quarter of a year.
    Quarter,
    /// A year.
    Year,
}

/// A group within a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// The event type.
    Type,
    /// The source type.
    Source,
    /// The day of the week.
    Weekday,
    /// The hour of the day.
    Hour,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, ValueEnum)]
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

impl Group {
    fn to_graphql(self) -> &'static str {
        match self {
            Self::Type => "EVENT_TYPE",
            Self::Source => "SOURCE_TYPE",
            Self::Weekday => "WEEKDAY",
            Self::Hour => "HOUR_OF_DAY",
        }
    }
}

impl StatsArgs {
    /// Whether the names of event types are needed.
    pub fn needs_types(&self) -> bool {
        !self.event_types.is_empty() || (self.group.contains(&Group::Type) && !self.json)
    }

    /// Returns the time zone, and the input of the query apart from the types of the filter.
    ///
    /// # Errors
    /// If the time zone or a time is wrong, or the time zone of this machine is unknown.
    pub fn to_input(&self) -> anyhow::Result<(Tz, Value)> {
        let zone = match &self.time_zone {
            Some(name) => name.clone(),
            None => {
                iana_time_zone::get_timezone().context("give --time-zone, that of this machine is unknown")?
            }
        };
        let zone = Tz::from_str(&zone)
            .ok()
            .with_context(|| format!("{zone:?} is not a name of the IANA time zone database"))?;
        let day_start =
            if self.by == Some(Granularity::Hour) { 0 } else { self.day_start.unwrap_or_default() };
        let calendar = Calendar::new(zone, day_start * 60_000);
        let mut filter = Map::new();
        for (name, when) in [("from", &self.from), ("to", &self.to)] {
            if let Some(text) = when {
                let instant = parse_when(&calendar, text).with_context(|| format!("--{name} {text}"))?;
                filter.insert(name.to_owned(), instant.into());
            }
        }
        if !self.sources.is_empty() {
            filter.insert("sourceTypes".to_owned(), json!(self.sources));
        }
        filter.extend(self.search.as_ref().map(|text| ("search".to_owned(), json!(text))));
        let measures = self.measure.iter().map(|measure| match measure.rsplit_once(':') {
            Some((property, unit)) => json!({ "property": property, "unitProperty": unit }),
            None => json!({ "property": measure }),
        });
        let list = |items: Vec<Value>| if items.is_empty() { Value::Null } else { items.into() };
        let upper = |value: &dyn Fn() -> Option<String>| value().map(|name| name.to_uppercase());
        let name_of =
            |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
        let input = json!({
            "filter": filter,
            "timeZone": zone.name(),
            "granularity": upper(&|| name_of(self.by?.to_possible_value())),
            "dayStartMinutes": self.day_start.unwrap_or_default(),
            "weekStart": upper(&|| name_of(self.week_start?.to_possible_value())),
            "groupBy": list(self.group.iter().map(|group| json!(group.to_graphql())).collect()),
            "measures": list(measures.collect()),
            "fill": self.fill,
            "preferSources": list(self.prefer.iter().map(|source| json!(source)).collect()),
            "sourceProperty": self.source_property,
        });
        Ok((zone, input))
    }
}

/// The minutes after midnight of a time such as 04:00.
fn parse_minutes(text: &str) -> Result<i64, String> {
    let parts =
        text.split_once(':').and_then(|(hours, minutes)| Some((hours.parse().ok()?, minutes.parse().ok()?)));
    match parts {
        Some((hours @ 0..=23, minutes @ 0..=59)) => Ok(hours * 60 + minutes),
        _ => Err("must be a time from 00:00 to 23:59".to_owned()),
    }
}

/// The instant of an RFC 3339 text, or the start of the day of a date.
fn parse_when(calendar: &Calendar, text: &str) -> anyhow::Result<String> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_rfc3339());
    }
    let Ok(date) = NaiveDate::from_str(text) else {
        bail!("must be a date such as 2026-01-31, or an instant such as 2026-01-31T08:00:00Z");
    };
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    Ok(domain::instant::format(calendar.start_of_day(days)))
}
