//! Reads CSV: rows under a header, which a mapping turns into events. A mapping is checked when an import is
//! announced ([`check_mapping`]), and applied to the header when the file is read.

mod charset;
mod fold;
mod header;
mod number;
mod offset;
mod pattern;
mod preamble;
mod resolved_mapping;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod times;

use domain::csv_mapping::CsvMapping;
use domain::draft::{EventDraft, MissingId, Sent, parse_event};
use domain::limits::{CSV_COLUMNS_MAX, CSV_MAPPING_CHARS_MAX, CSV_SKIPPED_LINES_MAX};
use domain::problem::{Code, FieldProblem};
use uuid::Uuid;

pub use table::CsvSummary;
pub(crate) use table::{Table, UnmappedTable};
use times::Times;

/// Checks a CSV mapping by itself, without a file, and returns all of its problems. Their pointers begin with
/// `/csv`.
#[must_use]
pub fn check_mapping(mapping: &CsvMapping) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    let mut add = |name: &str, code, detail: &str| {
        problems.push(FieldProblem::new(format!("/csv/{name}"), code, detail));
    };
    if mapping.timestamp_column.is_empty() {
        add("timestampColumn", Code::Required, "is required");
    }
    match (&mapping.event_type, &mapping.event_type_column) {
        (None, None) => add("eventType", Code::Required, "or eventTypeColumn is required"),
        (Some(_), Some(_)) => {
            add("eventTypeColumn", Code::InvalidValue, "and eventType exclude each other");
        }
        _ => {}
    }
    for (name, one, other) in [
        ("latitudeColumn", &mapping.latitude_column, &mapping.longitude_column),
        ("longitudeColumn", &mapping.longitude_column, &mapping.latitude_column),
    ] {
        if one.is_none() && other.is_some() {
            add(name, Code::Required, "is required if the other coordinate has a column");
        }
    }
    let is_one_character =
        matches!(mapping.delimiter.as_bytes(), [one] if one.is_ascii() && !b"\"\r\n\0".contains(one));
    if !is_one_character && mapping.delimiter != "auto" {
        let detail = "must be auto, tab, or one ASCII character, neither a quote nor an end of line";
        add("delimiter", Code::InvalidValue, detail);
    }
    if let Err(detail) = Times::new(mapping.timestamp_format.as_deref(), None) {
        let detail = format!("{detail} (use unix_s, unix_ms or a strptime pattern that has a date)");
        add("timestampFormat", Code::InvalidValue, &detail);
    }
    if mapping.skip_lines > CSV_SKIPPED_LINES_MAX {
        add("skipLines", Code::OutOfRange, &format!("at most {CSV_SKIPPED_LINES_MAX} lines can be skipped"));
    }
    if let Err(detail) = charset::encoding_by_label(mapping.encoding.as_deref().unwrap_or_default()) {
        add("encoding", Code::InvalidValue, &detail);
    }
    for (name, text) in column_names_and_missing_values(mapping) {
        if text.contains('\0') {
            add(name, Code::NulCharacter, "must not hold a NUL character");
        } else if text.chars().count() > CSV_MAPPING_CHARS_MAX {
            add(name, Code::TooLong, "at most 255 characters are allowed");
        }
    }
    for (name, list) in lists_of_mapping(mapping) {
        if list.len() > CSV_COLUMNS_MAX {
            add(name, Code::TooLong, &format!("has more than {CSV_COLUMNS_MAX} entries"));
        }
        let mut sorted: Vec<_> = list.iter().collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            add(name, Code::InvalidValue, "has an entry twice");
        }
    }
    problems.extend(check_shared_values(mapping));
    problems
}

/// Checks the values that a mapping gives to all rows (event type, time zone and source), by the rules of an
/// event.
fn check_shared_values(mapping: &CsvMapping) -> impl Iterator<Item = FieldProblem> {
    let text = |value: &Option<String>| value.clone().map_or(Sent::Absent, Sent::Value);
    let draft = EventDraft {
        event_type: Sent::Value(mapping.event_type.clone().unwrap_or_else(|| "any".to_owned())),
        timestamp: Sent::Value("2000-01-01T00:00:00Z".to_owned()),
        time_zone: text(&mapping.time_zone),
        source_type: text(&mapping.source_type),
        ..EventDraft::default()
    };
    let problems = parse_event(draft, MissingId::Generated(Uuid::nil()), Uuid::nil()).err();
    problems
        .into_iter()
        .flatten()
        .map(|problem| FieldProblem { pointer: format!("/csv{}", problem.pointer), ..problem })
}

fn lists_of_mapping(mapping: &CsvMapping) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
    let lists = [
        ("externalIdColumns", &mapping.external_id_columns),
        ("propertyColumns", &mapping.property_columns),
        ("missing", &mapping.missing),
    ];
    lists.into_iter().filter_map(|(name, list)| Some((name, list.as_ref()?)))
}

/// The column names of a mapping, and its cell texts that mean a missing value, each with the name of its
/// field in the mapping.
fn column_names_and_missing_values(mapping: &CsvMapping) -> impl Iterator<Item = (&'static str, &String)> {
    let texts = [
        ("eventTypeColumn", &mapping.event_type_column),
        ("endDateColumn", &mapping.end_date_column),
        ("idColumn", &mapping.id_column),
        ("notesColumn", &mapping.notes_column),
        ("latitudeColumn", &mapping.latitude_column),
        ("longitudeColumn", &mapping.longitude_column),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
    let listed = lists_of_mapping(mapping).flat_map(|(name, list)| list.iter().map(move |text| (name, text)));
    texts.chain([("timestampColumn", &mapping.timestamp_column)]).chain(listed)
}
