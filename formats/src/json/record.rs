//! Reads and writes one JSON object as an event draft. Its fields are those of `EventInput`, and `eventType`,
//! a name.

use std::fmt;

use domain::canonical_json::Key;
use domain::draft::{EventDraft, LocationDraft, Sent};
use domain::problem::{Code, FieldProblem};
use domain::text_repair::{Syntax, replace_flaws_by_markers};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::record_excerpt;

/// Parses one JSON object as an event draft, without checking the values of its fields. A value of the wrong
/// JSON type becomes `Sent::WrongType`.
///
/// # Errors
/// [`Code::InvalidJson`] if it is not a JSON object in UTF-8, or has a field twice. [`Code::InvalidValue`]
/// for each field that events do not have, at most ten.
pub fn parse_record(line: &[u8]) -> Result<EventDraft, Vec<FieldProblem>> {
    let (draft, unknown) = parse_record_reporting_unknown_fields(line)?;
    if unknown.is_empty() { Ok(draft) } else { Err(unknown) }
}

/// Like [`parse_record`], but returns the draft also if the object has fields that events do not have. The
/// problems of these fields come with it.
///
/// # Errors
/// [`Code::InvalidJson`] as for [`parse_record`].
pub(crate) fn parse_record_reporting_unknown_fields(
    line: &[u8],
) -> Result<(EventDraft, Vec<FieldProblem>), Vec<FieldProblem>> {
    let text = std::str::from_utf8(line)
        .map_err(|_| vec![FieldProblem::new("", Code::InvalidJson, "is not UTF-8")])?;
    let or_mended = |error: serde_json::Error| {
        replace_flaws_by_markers(text, Syntax::Json)
            .and_then(|mended| deserialize_record(&mended).ok())
            .ok_or_else(|| parse_failure_problems(&error, text))
    };
    let record = deserialize_record(text).or_else(or_mended)?;
    Ok((record.draft, record.unknown))
}

/// Returns one problem with [`Code::InvalidJson`] that describes why a record could not be parsed.
fn parse_failure_problems(error: &serde_json::Error, text: &str) -> Vec<FieldProblem> {
    let (line, column) = (error.line(), error.column());
    let place = if line > 1 {
        format!("line {line}, column {column} of the record")
    } else {
        format!("column {column}")
    };
    let detail = match error.classify() {
        Category::Eof if text.trim() == "{" => {
            "is cut: in NDJSON each object is on one line; send indented objects as an array, with the \
             format JSON"
                .to_owned()
        }
        Category::Eof => format!("is cut: it ends at {place} in the middle of a value"),
        Category::Syntax => format!("is not valid JSON at {place}"),
        Category::Data | Category::Io => "is not a JSON object with each field once".to_owned(),
    };
    vec![FieldProblem::new("", Code::InvalidJson, detail)]
}

fn deserialize_record(text: &str) -> serde_json::Result<Record> {
    serde_json::from_str(text)
}

/// Number of unknown fields that are reported for one record.
const UNKNOWN_FIELDS_REPORTED_MAX: usize = 10;

#[derive(Default)]
struct Record {
    draft: EventDraft,
    unknown: Vec<FieldProblem>,
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Record, A::Error> {
        let mut record = Record::default();
        let mut seen_fields = 0_u32;
        while let Some(Key(key)) = fields.next_key()? {
            let raw: &RawValue = fields.next_value()?;
            let Some(at) = FIELDS.iter().position(|name| *name == key) else {
                if record.unknown.len() < UNKNOWN_FIELDS_REPORTED_MAX {
                    // A key may be any text, so `~` and `/` are escaped (RFC 6901, section 3).
                    let pointer =
                        format!("/{}", record_excerpt(key.as_bytes()).replace('~', "~0").replace('/', "~1"));
                    let detail = "is not a field of an event";
                    record.unknown.push(FieldProblem::new(pointer, Code::InvalidValue, detail));
                }
                continue;
            };
            if seen_fields & (1 << at) != 0 {
                return Err(A::Error::custom("a field occurs twice"));
            }
            seen_fields |= 1 << at;
            set_field(&mut record.draft, FIELDS[at], raw);
        }
        Ok(record)
    }
}

const FIELDS: [&str; 12] = [
    "id", "eventTypeId", "eventType", "timestamp", "endDate", "isAllDay", "timeZone", "notes", "sourceType",
    "externalId", "location", "properties",
];

fn set_field(draft: &mut EventDraft, field: &str, raw: &RawValue) {
    match field {
        "id" => draft.id = read_text_field(raw),
        "eventTypeId" => draft.event_type_id = read_text_field(raw),
        "eventType" => draft.event_type = read_text_field(raw),
        "timestamp" => draft.timestamp = read_text_field(raw),
        "endDate" => draft.end_date = read_text_field(raw),
        "isAllDay" => draft.is_all_day = read_field_value(raw),
        "timeZone" => draft.time_zone = read_text_field(raw),
        "notes" => draft.notes = read_text_field(raw),
        "sourceType" => draft.source_type = read_text_field(raw),
        "externalId" => draft.external_id = read_text_field(raw),
        "location" => draft.location = read_location(raw),
        _ => {
            draft.properties =
                if raw.get() == "null" { Sent::Absent } else { Sent::Value(raw.get().to_owned()) };
        }
    }
}

/// Reads a string field; any other value but null has the wrong type. A string without escapes is copied as
/// it is, because the record was parsed as JSON before.
fn read_text_field(raw: &RawValue) -> Sent<String> {
    match raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Sent::Value(plain.to_owned()),
        _ => read_field_value(raw),
    }
}

fn read_field_value<T: for<'de> Deserialize<'de>>(raw: &RawValue) -> Sent<T> {
    let read = |json: &str| serde_json::from_str::<Option<T>>(json).ok();
    match read(raw.get()).or_else(|| read(&replace_flaws_by_markers(raw.get(), Syntax::Json)?)) {
        Some(None) => Sent::Absent,
        Some(Some(value)) => Sent::Value(value),
        None => Sent::WrongType,
    }
}

fn read_location(raw: &RawValue) -> Sent<LocationDraft> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct RawLocation<'r> {
        #[serde(borrow)]
        latitude: Option<&'r RawValue>,
        #[serde(borrow)]
        longitude: Option<&'r RawValue>,
        #[serde(borrow)]
        name: Option<&'r RawValue>,
    }
    // A derived `Deserialize` also accepts an array of the fields in order, but a location must be an object.
    if raw.get().starts_with('[') {
        return Sent::WrongType;
    }
    match serde_json::from_str::<Option<RawLocation<'_>>>(raw.get()) {
        Ok(None) => Sent::Absent,
        Ok(Some(place)) => Sent::Value(LocationDraft {
            latitude: place.latitude.map_or(Sent::Absent, read_field_value),
            longitude: place.longitude.map_or(Sent::Absent, read_field_value),
            name: place.name.map_or(Sent::Absent, read_text_field),
        }),
        Err(_) => Sent::WrongType,
    }
}

/// Returns a draft as one line of NDJSON with its line end. [`parse_record`] reads it back as the same draft,
/// except for white space in its `properties`. A value of the wrong type becomes another one of the wrong
/// type.
#[must_use]
pub fn draft_to_ndjson_line(draft: &EventDraft) -> String {
    let mut fields = Vec::new();
    let mut push_text = |name: &str, sent: &Sent<String>| match sent {
        Sent::Absent => {}
        Sent::Value(value) => fields.push(format!("\"{name}\":{}", serde_json::Value::from(value.as_str()))),
        Sent::WrongType => fields.push(format!("\"{name}\":false")),
    };
    push_text("id", &draft.id);
    push_text("eventTypeId", &draft.event_type_id);
    push_text("eventType", &draft.event_type);
    push_text("timestamp", &draft.timestamp);
    push_text("endDate", &draft.end_date);
    push_text("timeZone", &draft.time_zone);
    push_text("notes", &draft.notes);
    push_text("sourceType", &draft.source_type);
    push_text("externalId", &draft.external_id);
    match draft.is_all_day {
        Sent::Absent => {}
        Sent::Value(is_all_day) => fields.push(format!("\"isAllDay\":{is_all_day}")),
        Sent::WrongType => fields.push("\"isAllDay\":0".to_owned()),
    }
    match &draft.location {
        Sent::Absent => {}
        Sent::Value(place) => {
            let (latitude, longitude) = (field_to_json(&place.latitude), field_to_json(&place.longitude));
            let place = serde_json::json!({
                "latitude": latitude,
                "longitude": longitude,
                "name": field_to_json(&place.name),
            });
            fields.push(format!("\"location\":{place}"));
        }
        Sent::WrongType => fields.push("\"location\":false".to_owned()),
    }
    match &draft.properties {
        Sent::Absent => {}
        Sent::Value(object) => fields.push(format!("\"properties\":{}", compact_json(object))),
        Sent::WrongType => fields.push("\"properties\":false".to_owned()),
    }
    format!("{{{}}}\n", fields.join(","))
}

/// A field of a location as JSON; null if it is absent. `false` stands for a value of the wrong type, because
/// it is neither a number nor a string.
fn field_to_json<T: Clone + Into<serde_json::Value>>(sent: &Sent<T>) -> serde_json::Value {
    match sent {
        Sent::Absent => serde_json::Value::Null,
        Sent::Value(value) => value.clone().into(),
        Sent::WrongType => false.into(),
    }
}

/// Removes the white space between the tokens of JSON.
fn compact_json(json: &str) -> String {
    let (mut is_in_string, mut is_escaped) = (false, false);
    let is_kept = |c: &char| {
        let is_kept = is_in_string || !matches!(c, ' ' | '\t' | '\n' | '\r');
        (is_in_string, is_escaped) = match (is_in_string, is_escaped, c) {
            (true, true, _) => (true, false),
            (true, false, '\\') => (true, true),
            (_, _, '"') => (!is_in_string, false),
            _ => (is_in_string, false),
        };
        is_kept
    };
    json.chars().filter(is_kept).collect()
}
