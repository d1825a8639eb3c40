//! How the oracle reads an item: defaults, patches, and what is wrong with a value by itself. Instants are
//! drawn in the form in which they are answered, so that they are texts here.

use serde_json::{Value, json};

use super::model::Kind;

const FIELDS: [&str; 7] = ["timestamp", "endDate", "isAllDay", "timeZone", "notes", "location", "properties"];

/// What must have a value in a patch.
const MUST: [&str; 4] = ["eventTypeId", "timestamp", "isAllDay", "name"];

/// Whether a field of a patch takes away what must have a value.
pub fn must_not_be(field: &str, sent: &Value) -> bool {
    sent.is_null() && MUST.contains(&field)
}

/// The name of a mutation and what it carries.
pub fn parts(item: &Value) -> (&str, &Value) {
    let (name, body) = item.as_object().unwrap().iter().next().unwrap();
    (name, body)
}

/// The id that an item is about.
pub fn target(item: &Value) -> String {
    let (name, body) = parts(item);
    let id = if name == "restoreEvent" { &body["event"]["id"] } else { &body["id"] };
    id.as_str().unwrap().to_owned()
}

/// The type that an item of an event names.
pub fn type_named(item: &Value) -> Option<&str> {
    let (name, body) = parts(item);
    match name {
        "createEvent" => body["eventTypeId"].as_str(),
        "updateEvent" => body["patch"]["eventTypeId"].as_str(),
        "restoreEvent" => body["event"]["eventTypeId"].as_str(),
        _ => None,
    }
}

/// Whether an item speaks of an id at all.
pub fn mentions(item: &Value, id: &str) -> bool {
    target(item) == id || type_named(item) == Some(id)
}

pub fn kind(name: &str) -> Kind {
    if name.ends_with("EventType") { Kind::Type } else { Kind::Event }
}

pub fn source_type(input: &Value) -> Value {
    if input["sourceType"].is_null() { json!("manual") } else { input["sourceType"].clone() }
}

/// The date of an instant, where only dates count.
fn dated(mut content: Value) -> Value {
    if content["isAllDay"] == true {
        for field in ["timestamp", "endDate"] {
            if let Some(text) = content[field].as_str() {
                content[field] = json!(format!("{}T00:00:00.000Z", &text[..10]));
            }
        }
    }
    content
}

fn place(location: &Value) -> Value {
    match location {
        Value::Null => Value::Null,
        some => {
            json!({ "latitude": some["latitude"], "longitude": some["longitude"], "name": some["name"] })
        }
    }
}

fn field(name: &str, sent: &Value) -> Value {
    match (name, sent) {
        ("isAllDay", Value::Null) => json!(false),
        ("properties", Value::Null) => json!({}),
        ("location", location) => place(location),
        (_, sent) => sent.clone(),
    }
}

/// What an event says by itself, but for its type.
pub fn content(input: &Value) -> Value {
    let fields = FIELDS.iter().map(|name| ((*name).to_owned(), field(name, &input[*name])));
    dated(Value::Object(fields.collect()))
}

/// A content once it is patched: what is absent is kept.
pub fn patched(old: &Value, patch: &Value) -> Value {
    let mut content = old.clone();
    for (name, sent) in patch.as_object().unwrap() {
        content[name] = field(name, sent);
    }
    dated(content)
}

/// What is wrong with an item before anything is looked up.
pub fn faults(name: &str, body: &Value) -> Vec<(String, &'static str)> {
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
    for (field, _) in MUST.iter().filter_map(|field| Some((field, body["patch"].get(*field)?.as_null()?))) {
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

/// What is wrong only once patch and stored event are seen together.
pub fn end_before_start(content: &Value, patch: &Value) -> Vec<(String, &'static str)> {
    let field = if patch.get("endDate").is_some() { "endDate" } else { "timestamp" };
    if ends_early(content) { vec![(format!("/patch/{field}"), "END_BEFORE_START")] } else { Vec::new() }
}

/// Whether, and after how long, an id from the future will do. None: it does already.
pub fn in_future(id: &str, now_ms: i64) -> Option<(Value, Value)> {
    let time_ms = i64::from_str_radix(&id.replace('-', "")[..12], 16).unwrap();
    let ahead_ms = time_ms - now_ms;
    (ahead_ms > 60_000).then(|| {
        let is_near = ahead_ms <= 86_400_000;
        (json!(is_near), if is_near { json!(ahead_ms - 60_000) } else { Value::Null })
    })
}

/// The same item about another id.
pub fn rename(item: &mut Value, old: &str, new: &str) {
    match item {
        Value::String(text) if text == old => new.clone_into(text),
        Value::Object(fields) => fields.values_mut().for_each(|value| rename(value, old, new)),
        _ => {}
    }
}
