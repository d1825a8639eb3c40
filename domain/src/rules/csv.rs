//! How the columns of a CSV become the fields of events: a mapping is checked when an import is
//! announced, laid over the header of the file as a [`Plan`], and reads its rows.

mod plan;
mod time;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use plan::{Plan, Row};

use crate::limits::{CSV_COLUMNS_MAX, CSV_MAPPING_CHARS_MAX};
use crate::rules::draft::{EventDraft, MissingId, Sent, parse_event};
use crate::rules::problem::{Code, FieldProblem};
use time::Times;

/// Column names of the header, and what cells mean; see `CsvMapping` of the contract.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsvMapping {
    /// A type name for all rows.
    pub event_type: Option<String>,
    /// The column that holds it.
    pub event_type_column: Option<String>,
    /// The column of the timestamp.
    pub timestamp_column: String,
    /// The column of the end.
    pub end_date_column: Option<String>,
    /// The column of the id.
    pub id_column: Option<String>,
    /// Joined with `|` into the external id.
    pub external_id_columns: Option<Vec<String>>,
    /// The column of the notes.
    pub notes_column: Option<String>,
    /// The source of all rows; `imported` unless said.
    pub source_type: Option<String>,
    /// The column of the latitude.
    pub latitude_column: Option<String>,
    /// The column of the longitude.
    pub longitude_column: Option<String>,
    /// Columns for properties; none: all that are not mapped.
    pub property_columns: Option<Vec<String>>,
    /// Cells that mean missing; none: the empty cell and `NA`.
    pub missing: Option<Vec<String>>,
    /// IANA zone of times without an offset.
    pub time_zone: Option<String>,
    /// strptime pattern, `unix_s` or `unix_ms`; none: RFC 3339 and `YYYY-MM-DD[ HH:MM[:SS]]`.
    pub timestamp_format: Option<String>,
    /// One character.
    pub delimiter: String,
}

impl CsvMapping {
    /// All that is wrong with it, below `/csv`.
    #[must_use]
    pub fn check(&self) -> Vec<FieldProblem> {
        let mut problems = Vec::new();
        let mut add = |name: &str, code, detail: &str| {
            problems.push(FieldProblem::new(format!("/csv/{name}"), code, detail));
        };
        if self.timestamp_column.is_empty() {
            add("timestampColumn", Code::Required, "is required");
        }
        match (&self.event_type, &self.event_type_column) {
            (None, None) => add("eventType", Code::Required, "or eventTypeColumn is required"),
            (Some(_), Some(_)) => {
                add("eventTypeColumn", Code::InvalidValue, "and eventType exclude each other");
            }
            _ => {}
        }
        for (name, one, other) in [
            ("latitudeColumn", &self.latitude_column, &self.longitude_column),
            ("longitudeColumn", &self.longitude_column, &self.latitude_column),
        ] {
            if one.is_none() && other.is_some() {
                add(name, Code::Required, "is required with the other");
            }
        }
        if !matches!(self.delimiter.as_bytes(), [one] if one.is_ascii() && !b"\"\r\n\0".contains(one)) {
            let detail = "must be one ASCII character, neither a quote nor an end of line";
            add("delimiter", Code::InvalidValue, detail);
        }
        if Times::new(self.timestamp_format.as_deref(), None).is_none() {
            let detail = "must be unix_s, unix_ms or a strptime pattern that tells a date";
            add("timestampFormat", Code::InvalidValue, detail);
        }
        for (name, text) in self.texts() {
            if text.contains('\0') {
                add(name, Code::NulCharacter, "must not hold a NUL character");
            } else if text.chars().count() > CSV_MAPPING_CHARS_MAX {
                add(name, Code::TooLong, "at most 255 characters are allowed");
            }
        }
        for (name, list) in self.lists() {
            if list.len() > CSV_COLUMNS_MAX {
                add(name, Code::TooLong, "names too many");
            }
            let mut sorted: Vec<_> = list.iter().collect();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
                add(name, Code::InvalidValue, "names something twice");
            }
        }
        problems.extend(self.check_values());
        problems
    }

    /// What is wrong with the values that all rows get: the rules are those of an event.
    fn check_values(&self) -> impl Iterator<Item = FieldProblem> {
        let text = |value: &Option<String>| value.clone().map_or(Sent::Absent, Sent::Value);
        let draft = EventDraft {
            event_type: Sent::Value(self.event_type.clone().unwrap_or_else(|| "any".to_owned())),
            timestamp: Sent::Value("2000-01-01T00:00:00Z".to_owned()),
            time_zone: text(&self.time_zone),
            source_type: text(&self.source_type),
            ..EventDraft::default()
        };
        let problems = parse_event(draft, MissingId::Made(Uuid::nil()), Uuid::nil()).err();
        problems
            .into_iter()
            .flatten()
            .map(|problem| FieldProblem { pointer: format!("/csv{}", problem.pointer), ..problem })
    }

    fn lists(&self) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
        let lists = [
            ("externalIdColumns", &self.external_id_columns),
            ("propertyColumns", &self.property_columns),
            ("missing", &self.missing),
        ];
        lists.into_iter().filter_map(|(name, list)| Some((name, list.as_ref()?)))
    }

    /// The names of columns, and the cells that mean missing.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let texts = [
            ("eventTypeColumn", &self.event_type_column),
            ("endDateColumn", &self.end_date_column),
            ("idColumn", &self.id_column),
            ("notesColumn", &self.notes_column),
            ("latitudeColumn", &self.latitude_column),
            ("longitudeColumn", &self.longitude_column),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        let listed = self.lists().flat_map(|(name, list)| list.iter().map(move |text| (name, text)));
        texts.chain([("timestampColumn", &self.timestamp_column)]).chain(listed)
    }
}
