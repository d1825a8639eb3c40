//! Reads items for the oracle: defaults, patches, and the validation of single values. The simulated devices
//! write instants in the form in which responses have them, so that they can be compared as strings.

use serde_json::{Value, json};

use super::model::EntityKind;

const FIELDS: [&str; 7] = ["timestamp", "endDate", "isAllDay", "timeZone", "notes", "location", "properties"];

/// The fields that a patch must not set to null.
const REQUIRED_FIELDS: [&str; 4] = ["eventTypeId", "timestamp", "isAllDay", "name"];

/// Whether a patch sets a required field to null.
pub fn clears_required(field: &str, sent: &Value) -> bool {
    sent.is_null() && REQUIRED_FIELDS.contains(&field)
}

/// Returns the name of a mutation and its input.
pub fn parts(item: &Value) -> (&str, &Value) {
    let (name, body) = item.as_object().unwrap().iter().next().unwrap();
    (name, body)
}

/// Returns the id that an item creates, edits or deletes.
pub fn target(item: &Value) -> String {
    let (name, body) = parts(item);
    let id = if name == "restoreEvent" { &body["event"]["id"] } else { &body["id"] };
    id.as_str().unwrap().to_owned()
}

/// Returns the event type id in an item of an event.
pub fn type_named(item: &Value) -> Option<&str> {
    let (name, body) = parts(item);
    match name {
        "createEvent" => body["eventTypeId"].as_str(),
        "updateEvent" => body["patch"]["eventTypeId"].as_str(),
        "restoreEvent" => body["event"]["eventTypeId"].as_str(),
        _ => None,
    }
}

/// Whether an item has an id as its target or as its event type.
pub fn mentions(item: &Value, id: &str) -> bool {
    target(item) == id || type_named(item) == Some(id)
}

/// Returns the kind of entity that a mutation writes.
pub fn kind(name: &str) -> EntityKind {
    if name.ends_with("EventType") { EntityKind::Type } else { EntityKind::Event }
}

/// Returns the source type of an event, with its default.
pub fn source_type(input: &Value) -> Value {
    if input["sourceType"].is_null() { json!("manual") } else { input["sourceType"].clone() }
}

/// Sets the times of an all-day event to the start of their dates.
fn truncate_to_dates(mut content: Value) -> Value {
    if content["isAllDay"] == true {
        for field in ["timestamp", "endDate"] {
            if let Some(text) = content[field].as_str() {
                content[field] = json!(format!("{}T00:00:00.000Z", &text[..10]));
            }
        }
    }
    content
}

fn location(sent: &Value) -> Value {
    match sent {
        Value::Null => Value::Null,
        sent => {
            json!({ "latitude": sent["latitude"], "longitude": sent["longitude"], "name": sent["name"] })
        }
    }
}

/// Returns the stored value of a field.
fn field(name: &str, sent: &Value) -> Value {
    match (name, sent) {
        ("isAllDay", Value::Null) => json!(false),
        ("properties", Value::Null) => json!({}),
        ("location", sent) => location(sent),
        (_, sent) => sent.clone(),
    }
}

/// Returns the content of an event without its type.
pub fn content(input: &Value) -> Value {
    let fields = FIELDS.iter().map(|name| ((*name).to_owned(), field(name, &input[*name])));
    truncate_to_dates(Value::Object(fields.collect()))
}

/// Applies a patch to a content. Absent fields are kept.
pub fn patched(old: &Value, patch: &Value) -> Value {
    let mut content = old.clone();
    for (name, sent) in patch.as_object().unwrap() {
        content[name] = field(name, sent);
    }
    truncate_to_dates(content)
}

/// Returns the errors of an item that do not depend on what is stored.
pub fn validate(name: &str, body: &Value) -> Vec<(String, &'static str)> {
    let mut errors = Vec::new();
    let (base, input) = match name {
        "createEvent" => ("", body),
        "restoreEvent" => ("/event", &body["event"]),
        _ => ("", &Value::Null),
    };
    if !input.is_null() {
        if input["timestamp"].is_null() {
            errors.push((format!("{base}/timestamp"), "REQUIRED"));
        } else if ends_early(&content(input)) {
            errors.push((format!("{base}/endDate"), "END_BEFORE_START"));
        }
    }
    for (field, _) in
        REQUIRED_FIELDS.iter().filter_map(|field| Some((field, body["patch"].get(*field)?.as_null()?)))
    {
        errors.push((format!("/patch/{field}"), "REQUIRED"));
    }
    if body["expectedVersion"].as_i64().is_some_and(|version| version < 1) {
        errors.push(("/expectedVersion".to_owned(), "OUT_OF_RANGE"));
    }
    errors
}

fn ends_early(content: &Value) -> bool {
    content["endDate"].as_str().is_some_and(|end| end < content["timestamp"].as_str().unwrap())
}

/// Returns the error if a patched event ends before it starts.
pub fn end_before_start(content: &Value, patch: &Value) -> Vec<(String, &'static str)> {
    let field = if patch.get("endDate").is_some() { "endDate" } else { "timestamp" };
    if ends_early(content) { vec![(format!("/patch/{field}"), "END_BEFORE_START")] } else { Vec::new() }
}

/// Returns `retryable` and `retryAfterMs` of an id whose time is in the future, or `None` if the id is
/// accepted.
pub fn in_future(id: &str, now_ms: i64) -> Option<(Value, Value)> {
    let time_ms = i64::from_str_radix(&id.replace('-', "")[..12], 16).unwrap();
    let ahead_ms = time_ms - now_ms;
    (ahead_ms > 60_000).then(|| {
        let is_near = ahead_ms <= 86_400_000;
        (json!(is_near), if is_near { json!(ahead_ms - 60_000) } else { Value::Null })
    })
}

/// Replaces an id in an item.
pub fn rename(item: &mut Value, old: &str, new: &str) {
    match item {
        Value::String(text) if text == old => new.clone_into(text),
        Value::Object(fields) => fields.values_mut().for_each(|value| rename(value, old, new)),
        _ => {}
    }
}
