//! Draws what users do on their devices. There are only a few different values, so that the devices of a user
//! conflict.

use serde_json::{Map, Value, json};

use super::device::Device;
use super::model::{EntityKind, text};
use super::rng::Rng;

const NAMES: [&str; 4] = ["meal", "run", "sleep", "walk"];
const COLORS: [Value; 3] = [Value::Null, Value::Bool(true), Value::Bool(false)];

/// Draws a mutation. Returns `None` if the device has no entity for it.
pub fn draw(device: &mut Device, now_ms: i64, rng: &mut Rng) -> Option<Value> {
    match rng.below(100) {
        0..=8 => Some(create_type(device, now_ms, rng)),
        9..=35 => create_event(device, now_ms, rng),
        36..=63 => update_event(device, now_ms, rng),
        64..=76 => delete(device, EntityKind::Event, now_ms, rng),
        77..=84 => restore(device, now_ms, rng),
        85..=91 => update_type(device, now_ms, rng),
        92..=96 => delete(device, EntityKind::Type, now_ms, rng),
        _ => misuse_id(device, now_ms, rng),
    }
}

fn color(rng: &mut Rng) -> Value {
    match rng.pick(&COLORS) {
        Some(Value::Bool(true)) => json!("red"),
        Some(Value::Bool(false)) => json!("blue"),
        _ => Value::Null,
    }
}

fn create_type(device: &mut Device, now_ms: i64, rng: &mut Rng) -> Value {
    let id = device.new_id(now_ms, rng);
    json!({ "createEventType": { "id": id, "name": rng.pick(&NAMES), "color": color(rng) } })
}

fn instant(rng: &mut Rng) -> Value {
    json!(format!("2026-01-0{}T{:02}:30:00.000Z", rng.below(3) + 1, rng.below(3) * 7))
}

/// Draws the value of a field. Optional fields may be null.
fn field(name: &str, rng: &mut Rng) -> Value {
    match name {
        "timestamp" => instant(rng),
        "endDate" if rng.chance(70) => json!(format!("2026-01-0{}T23:00:00.000Z", rng.below(4) + 1)),
        "isAllDay" => json!(rng.chance(50)),
        "timeZone" if rng.chance(70) => json!("Europe/Berlin"),
        "notes" if rng.chance(75) => json!(rng.pick(&["easy", "hard", "rain"])),
        "location" if rng.chance(70) => {
            json!({ "latitude": 52.5, "longitude": 13.25, "name": rng.pick(&[Some("park"), None]) })
        }
        "properties" if rng.chance(75) => json!({ "km": rng.below(3), "with": ["Ann"] }),
        _ => Value::Null,
    }
}

/// Draws an event without an id.
fn event(type_id: &str, rng: &mut Rng) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert("eventTypeId".to_owned(), json!(type_id));
    event.insert("timestamp".to_owned(), if rng.chance(2) { Value::Null } else { instant(rng) });
    for name in ["endDate", "isAllDay", "timeZone", "notes", "location", "properties"] {
        if rng.chance(30) {
            event.insert(name.to_owned(), field(name, rng));
        }
    }
    event
}

fn create_event(device: &mut Device, now_ms: i64, rng: &mut Rng) -> Option<Value> {
    let type_id = rng.pick(&device.ids(EntityKind::Type)).cloned()?;
    let mut event = event(&type_id, rng);
    event.insert("id".to_owned(), json!(device.new_id(now_ms, rng)));
    if rng.chance(55) {
        event.insert("sourceType".to_owned(), json!("healthkit"));
        event.insert("externalId".to_owned(), json!(format!("sample-{}", rng.below(4))));
    }
    Some(json!({ "createEvent": event }))
}

/// Draws the guards of an edit: its id, and perhaps an expected version and an edit id.
fn edit(device: &mut Device, id: &str, now_ms: i64, rng: &mut Rng) -> Map<String, Value> {
    let mut edit = Map::new();
    edit.insert("id".to_owned(), json!(id));
    if let Some(version) = device.rows.get(id).and_then(|row| row.version)
        && rng.chance(55)
    {
        let version = if rng.chance(8) { 0 } else { version };
        edit.insert("expectedVersion".to_owned(), json!(version));
    }
    if rng.chance(50) {
        edit.insert("editId".to_owned(), json!(device.new_id(now_ms, rng)));
    }
    edit
}

/// Draws an entity of the device, and sometimes a deleted event.
fn pick_target(device: &Device, kind: EntityKind, rng: &mut Rng) -> Option<String> {
    if kind == EntityKind::Event && rng.chance(12) {
        return rng.pick(&device.deleted_events).and_then(|event| text(event, "id"));
    }
    // Entities that the server knows are preferred, because other devices may edit them too.
    let is_known = |id: &String| device.rows[id].version.is_some();
    let known: Vec<String> = device.ids(kind).into_iter().filter(is_known).collect();
    let all = device.ids(kind);
    let any = known.is_empty() || rng.chance(30);
    rng.pick(if any { &all } else { &known }).cloned()
}

fn update_event(device: &mut Device, now_ms: i64, rng: &mut Rng) -> Option<Value> {
    let id = pick_target(device, EntityKind::Event, rng)?;
    let mut edit = edit(device, &id, now_ms, rng);
    let mut patch = Map::new();
    for name in ["timestamp", "endDate", "isAllDay", "timeZone", "notes", "location", "properties"] {
        if rng.chance(22) {
            patch.insert(name.to_owned(), field(name, rng));
        }
    }
    if rng.chance(15) {
        patch.insert("eventTypeId".to_owned(), json!(rng.pick(&device.ids(EntityKind::Type))));
    }
    if rng.chance(3) {
        patch.insert("timestamp".to_owned(), Value::Null);
    }
    edit.insert("patch".to_owned(), Value::Object(patch));
    Some(json!({ "updateEvent": edit }))
}

fn update_type(device: &mut Device, now_ms: i64, rng: &mut Rng) -> Option<Value> {
    let id = pick_target(device, EntityKind::Type, rng)?;
    let mut edit = edit(device, &id, now_ms, rng);
    let mut patch = Map::new();
    if rng.chance(60) {
        patch.insert("name".to_owned(), json!(rng.pick(&NAMES)));
    }
    if rng.chance(50) {
        patch.insert("color".to_owned(), color(rng));
    }
    edit.insert("patch".to_owned(), Value::Object(patch));
    Some(json!({ "updateEventType": edit }))
}

fn delete(device: &mut Device, kind: EntityKind, now_ms: i64, rng: &mut Rng) -> Option<Value> {
    let id = pick_target(device, kind, rng)?;
    let edit = edit(device, &id, now_ms, rng);
    Some(json!({ if kind == EntityKind::Event { "deleteEvent" } else { "deleteEventType" }: edit }))
}

/// Draws a restore of a deleted event, and sometimes of one that is not deleted.
fn restore(device: &mut Device, now_ms: i64, rng: &mut Rng) -> Option<Value> {
    let id = if rng.chance(85) {
        text(rng.pick(&device.deleted_events)?, "id")?
    } else {
        rng.pick(&device.ids(EntityKind::Event)).cloned()?
    };
    let type_id = rng.pick(&device.ids(EntityKind::Type)).cloned()?;
    let mut event = event(&type_id, rng);
    event.insert("id".to_owned(), json!(id));
    let mut restore = Map::new();
    restore.insert("event".to_owned(), Value::Object(event));
    if rng.chance(60) {
        restore.insert("editId".to_owned(), json!(device.new_id(now_ms, rng)));
    }
    Some(json!({ "restoreEvent": restore }))
}

/// Draws a mistake of an app: the id of a type is used for an event, or an unknown id is deleted.
fn misuse_id(device: &mut Device, now_ms: i64, rng: &mut Rng) -> Option<Value> {
    let type_id = rng.pick(&device.ids(EntityKind::Type)).cloned()?;
    let wrong_id = if rng.chance(60) { type_id.clone() } else { device.new_id(now_ms, rng) };
    if rng.chance(50) {
        let mut event = event(&type_id, rng);
        event.insert("id".to_owned(), json!(type_id));
        return Some(json!({ "createEvent": event }));
    }
    Some(json!({ "deleteEvent": { "id": wrong_id } }))
}
