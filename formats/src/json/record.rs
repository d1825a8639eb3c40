//! One JSON object as an event draft: the fields of `EventInput`, and `eventType`, a name.

use std::fmt;

use domain::canonical_json::Key;
use domain::draft::{EventDraft, LocationDraft, Sent};
use domain::mended::{Syntax, mend};
use domain::problem::{Code, FieldProblem};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::excerpt;

/// Reads a line.
///
/// # Errors
/// `INVALID_JSON` when it is not a JSON object in UTF-8, or names a field twice; `INVALID_VALUE` for
/// each field that events do not have.
pub fn parse(line: &[u8]) -> Result<EventDraft, Vec<FieldProblem>> {
    let (draft, unknown) = parse_leniently(line)?;
    if unknown.is_empty() { Ok(draft) } else { Err(unknown) }
}

/// Reads a line, and tells of the fields that events do not have beside the others.
///
/// # Errors
/// `INVALID_JSON` as [`parse`].
pub(crate) fn parse_leniently(line: &[u8]) -> Result<(EventDraft, Vec<FieldProblem>), Vec<FieldProblem>> {
    let text = std::str::from_utf8(line)
        .map_err(|_| vec![FieldProblem::new("", Code::InvalidJson, "is not UTF-8")])?;
    let mended = |fault: serde_json::Error| {
        mend(text, Syntax::Json).and_then(|mended| read(&mended).ok()).ok_or_else(|| told(&fault, text))
    };
    let record = read(text).or_else(mended)?;
    Ok((record.draft, record.unknown))
}

/// Says what no reader could read.
fn told(fault: &serde_json::Error, text: &str) -> Vec<FieldProblem> {
    let (line, column) = (fault.line(), fault.column());
    let place =
        if line > 1 { format!("line {line}, column {column} of it") } else { format!("column {column}") };
    let detail = match fault.classify() {
        Category::Eof if text.trim() == "{" => {
            "is cut: of NDJSON an object stands on one line; indented objects are read as an array, format JSON".to_owned()
        }
        Category::Eof => format!("is cut: it ends at {place} in the middle of a value"),
        Category::Syntax => format!("is no JSON from {place} on"),
        Category::Data | Category::Io => "is not a JSON object with each field once".to_owned(),
    };
    vec![FieldProblem::new("", Code::InvalidJson, detail)]
}

fn read(text: &str) -> serde_json::Result<Record> {
    serde_json::from_str(text)
}

/// Of the fields that events do not have, so many are told.
const UNKNOWN_FIELDS_TOLD_MAX: usize = 10;

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
        let mut seen = 0_u32;
        while let Some(Key(key)) = fields.next_key()? {
            let raw: &RawValue = fields.next_value()?;
            let Some(at) = FIELDS.iter().position(|name| *name == key) else {
                if record.unknown.len() < UNKNOWN_FIELDS_TOLD_MAX {
                    // A key is any text: `~` and `/` are escaped as RFC 6901 says.
                    let pointer =
                        format!("/{}", excerpt(key.as_bytes()).replace('~', "~0").replace('/', "~1"));
                    let detail = "is not a field of an event";
                    record.unknown.push(FieldProblem::new(pointer, Code::InvalidValue, detail));
                }
                continue;
            };
            if seen & (1 << at) != 0 {
                return Err(A::Error::custom("a field twice"));
            }
            seen |= 1 << at;
            set(&mut record.draft, FIELDS[at], raw);
        }
        Ok(record)
    }
}

const FIELDS: [&str; 12] = [
    "id", "eventTypeId", "eventType", "timestamp", "endDate", "isAllDay", "timeZone", "notes", "sourceType",
    "externalId", "location", "properties",
];

fn set(draft: &mut EventDraft, field: &str, raw: &RawValue) {
    match field {
        "id" => draft.id = text(raw),
        "eventTypeId" => draft.event_type_id = text(raw),
        "eventType" => draft.event_type = text(raw),
        "timestamp" => draft.timestamp = text(raw),
        "endDate" => draft.end_date = text(raw),
        "isAllDay" => draft.is_all_day = value(raw),
        "timeZone" => draft.time_zone = text(raw),
        "notes" => draft.notes = text(raw),
        "sourceType" => draft.source_type = text(raw),
        "externalId" => draft.external_id = text(raw),
        "location" => draft.location = location(raw),
        _ => {
            draft.properties =
                if raw.get() == "null" { Sent::Absent } else { Sent::Value(raw.get().to_owned()) };
        }
    }
}

/// Text without escapes stands there as it is; it was read once already, as part of the record.
fn text(raw: &RawValue) -> Sent<String> {
    match raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Sent::Value(plain.to_owned()),
        _ => value(raw),
    }
}

fn value<T: for<'de> Deserialize<'de>>(raw: &RawValue) -> Sent<T> {
    let read = |json: &str| serde_json::from_str::<Option<T>>(json).ok();
    match read(raw.get()).or_else(|| read(&mend(raw.get(), Syntax::Json)?)) {
        Some(None) => Sent::Absent,
        Some(Some(value)) => Sent::Value(value),
        None => Sent::WrongKind,
    }
}

fn location(raw: &RawValue) -> Sent<LocationDraft> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Place<'r> {
        #[serde(borrow)]
        latitude: Option<&'r RawValue>,
        #[serde(borrow)]
        longitude: Option<&'r RawValue>,
        #[serde(borrow)]
        name: Option<&'r RawValue>,
    }
    // A derived reader takes an array for its fields in order; a place is an object.
    if raw.get().starts_with('[') {
        return Sent::WrongKind;
    }
    match serde_json::from_str::<Option<Place<'_>>>(raw.get()) {
        Ok(None) => Sent::Absent,
        Ok(Some(place)) => Sent::Value(LocationDraft {
            latitude: place.latitude.map_or(Sent::Absent, value),
            longitude: place.longitude.map_or(Sent::Absent, value),
            name: place.name.map_or(Sent::Absent, text),
        }),
        Err(_) => Sent::WrongKind,
    }
}

/// Writes a draft as a line of NDJSON that [`parse`] reads back as the same draft, whatever white space its
/// `properties` were sent with. A value of the wrong kind is written as another one of the wrong kind.
#[must_use]
pub fn write(draft: &EventDraft) -> String {
    let mut fields = Vec::new();
    let mut text = |name: &str, sent: &Sent<String>| match sent {
        Sent::Absent => {}
        Sent::Value(value) => fields.push(format!("\"{name}\":{}", serde_json::Value::from(value.as_str()))),
        Sent::WrongKind => fields.push(format!("\"{name}\":false")),
    };
    text("id", &draft.id);
    text("eventTypeId", &draft.event_type_id);
    text("eventType", &draft.event_type);
    text("timestamp", &draft.timestamp);
    text("endDate", &draft.end_date);
    text("timeZone", &draft.time_zone);
    text("notes", &draft.notes);
    text("sourceType", &draft.source_type);
    text("externalId", &draft.external_id);
    match draft.is_all_day {
        Sent::Absent => {}
        Sent::Value(is_all_day) => fields.push(format!("\"isAllDay\":{is_all_day}")),
        Sent::WrongKind => fields.push("\"isAllDay\":0".to_owned()),
    }
    match &draft.location {
        Sent::Absent => {}
        Sent::Value(place) => {
            let (latitude, longitude) = (json(&place.latitude), json(&place.longitude));
            let place = serde_json::json!({ "latitude": latitude, "longitude": longitude, "name": json(&place.name) });
            fields.push(format!("\"location\":{place}"));
        }
        Sent::WrongKind => fields.push("\"location\":false".to_owned()),
    }
    match &draft.properties {
        Sent::Absent => {}
        Sent::Value(object) => fields.push(format!("\"properties\":{}", compact(object))),
        Sent::WrongKind => fields.push("\"properties\":false".to_owned()),
    }
    format!("{{{}}}\n", fields.join(","))
}

/// A field of a location; `false` is neither a number nor a text.
fn json<T: Clone + Into<serde_json::Value>>(sent: &Sent<T>) -> serde_json::Value {
    match sent {
        Sent::Absent => serde_json::Value::Null,
        Sent::Value(value) => value.clone().into(),
        Sent::WrongKind => false.into(),
    }
}

/// JSON without the white space between its tokens.
fn compact(json: &str) -> String {
    let (mut is_in_text, mut is_escaped) = (false, false);
    let is_kept = |c: &char| {
        let is_kept = is_in_text || !matches!(c, ' ' | '\t' | '\n' | '\r');
        (is_in_text, is_escaped) = match (is_in_text, is_escaped, c) {
            (true, true, _) => (true, false),
            (true, false, '\\') => (true, true),
            (_, _, '"') => (!is_in_text, false),
            _ => (is_in_text, false),
        };
        is_kept
    };
    json.chars().filter(is_kept).collect()
}
