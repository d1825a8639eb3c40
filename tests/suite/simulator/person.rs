//! What people do on their devices: few values, so that they meet each other's.

use serde_json::{Map, Value, json};

use super::device::Device;
use super::dice::Dice;
use super::model::{Kind, text};

const NAMES: [&str; 4] = ["meal", "run", "sleep", "walk"];
const COLORS: [Value; 3] = [Value::Null, Value::Bool(true), Value::Bool(false)];

/// Something that a person does now.
pub fn acts(device: &mut Device, now_ms: i64, dice: &mut Dice) -> Option<Value> {
    match dice.below(100) {
        0..=8 => Some(creates_type(device, now_ms, dice)),
        9..=35 => creates_event(device, now_ms, dice),
        36..=63 => updates_event(device, now_ms, dice),
        64..=76 => deletes(device, Kind::Event, now_ms, dice),
        77..=84 => restores(device, now_ms, dice),
        85..=91 => updates_type(device, now_ms, dice),
        92..=96 => deletes(device, Kind::Type, now_ms, dice),
        _ => takes_an_id_twice(device, now_ms, dice),
    }
}

fn color(dice: &mut Dice) -> Value {
    match dice.pick(&COLORS) {
        Some(Value::Bool(true)) => json!("red"),
        Some(Value::Bool(false)) => json!("blue"),
        _ => Value::Null,
    }
}

fn creates_type(device: &mut Device, now_ms: i64, dice: &mut Dice) -> Value {
    let id = device.new_id(now_ms, dice);
    json!({ "createEventType": { "id": id, "name": dice.pick(&NAMES), "color": color(dice) } })
}

fn instant(dice: &mut Dice) -> Value {
    json!(format!("2026-01-0{}T{:02}:30:00.000Z", dice.below(3) + 1, dice.below(3) * 7))
}

/// A field of an event: a value, or null where there need not be one.
fn field(name: &str, dice: &mut Dice) -> Value {
    match name {
        "timestamp" => instant(dice),
        "endDate" if dice.chance(70) => json!(format!("2026-01-0{}T23:00:00.000Z", dice.below(4) + 1)),
        "isAllDay" => json!(dice.chance(50)),
        "timeZone" if dice.chance(70) => json!("Europe/Berlin"),
        "notes" if dice.chance(75) => json!(dice.pick(&["easy", "hard", "rain"])),
        "location" if dice.chance(70) => {
            json!({ "latitude": 52.5, "longitude": 13.25, "name": dice.pick(&[Some("park"), None]) })
        }
        "properties" if dice.chance(75) => json!({ "km": dice.below(3), "with": ["Ann"] }),
        _ => Value::Null,
    }
}

/// An event to be created or restored, without its id.
fn event(type_id: &str, dice: &mut Dice) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert("eventTypeId".to_owned(), json!(type_id));
    event.insert("timestamp".to_owned(), if dice.chance(2) { Value::Null } else { instant(dice) });
    for name in ["endDate", "isAllDay", "timeZone", "notes", "location", "properties"] {
        if dice.chance(30) {
            event.insert(name.to_owned(), field(name, dice));
        }
    }
    event
}

fn creates_event(device: &mut Device, now_ms: i64, dice: &mut Dice) -> Option<Value> {
    let type_id = dice.pick(&device.ids(Kind::Type)).cloned()?;
    let mut event = event(&type_id, dice);
    event.insert("id".to_owned(), json!(device.new_id(now_ms, dice)));
    if dice.chance(55) {
        event.insert("sourceType".to_owned(), json!("healthkit"));
        event.insert("externalId".to_owned(), json!(format!("sample-{}", dice.below(4))));
    }
    Some(json!({ "createEvent": event }))
}

/// An edit of an entity: on what terms it is sent.
fn edit(device: &mut Device, id: &str, now_ms: i64, dice: &mut Dice) -> Map<String, Value> {
    let mut edit = Map::new();
    edit.insert("id".to_owned(), json!(id));
    if let Some(version) = device.rows.get(id).and_then(|row| row.version)
        && dice.chance(55)
    {
        let version = if dice.chance(8) { 0 } else { version };
        edit.insert("expectedVersion".to_owned(), json!(version));
    }
    if dice.chance(50) {
        edit.insert("editId".to_owned(), json!(device.new_id(now_ms, dice)));
    }
    edit
}

/// One of those shown, now and then one that is deleted already.
fn chosen(device: &Device, kind: Kind, dice: &mut Dice) -> Option<String> {
    if kind == Kind::Event && dice.chance(12) {
        return dice.pick(&device.graves).and_then(|grave| text(grave, "id"));
    }
    // What the server knows may be on other devices as well, and edits of it meet theirs.
    let is_known = |id: &String| device.rows[id].version.is_some();
    let known: Vec<String> = device.ids(kind).into_iter().filter(is_known).collect();
    let all = device.ids(kind);
    let any = known.is_empty() || dice.chance(30);
    dice.pick(if any { &all } else { &known }).cloned()
}

fn updates_event(device: &mut Device, now_ms: i64, dice: &mut Dice) -> Option<Value> {
    let id = chosen(device, Kind::Event, dice)?;
    let mut edit = edit(device, &id, now_ms, dice);
    let mut patch = Map::new();
    for name in ["timestamp", "endDate", "isAllDay", "timeZone", "notes", "location", "properties"] {
        if dice.chance(22) {
            patch.insert(name.to_owned(), field(name, dice));
        }
    }
    if dice.chance(15) {
        patch.insert("eventTypeId".to_owned(), json!(dice.pick(&device.ids(Kind::Type))));
    }
    if dice.chance(3) {
        patch.insert("timestamp".to_owned(), Value::Null);
    }
    edit.insert("patch".to_owned(), Value::Object(patch));
    Some(json!({ "updateEvent": edit }))
}

fn updates_type(device: &mut Device, now_ms: i64, dice: &mut Dice) -> Option<Value> {
    let id = chosen(device, Kind::Type, dice)?;
    let mut edit = edit(device, &id, now_ms, dice);
    let mut patch = Map::new();
    if dice.chance(60) {
        patch.insert("name".to_owned(), json!(dice.pick(&NAMES)));
    }
    if dice.chance(50) {
        patch.insert("color".to_owned(), color(dice));
    }
    edit.insert("patch".to_owned(), Value::Object(patch));
    Some(json!({ "updateEventType": edit }))
}

fn deletes(device: &mut Device, kind: Kind, now_ms: i64, dice: &mut Dice) -> Option<Value> {
    let id = chosen(device, kind, dice)?;
    let edit = edit(device, &id, now_ms, dice);
    Some(json!({ if kind == Kind::Event { "deleteEvent" } else { "deleteEventType" }: edit }))
}

/// Brings an event back: as it was, or saying something else; now and then one that nobody deleted.
fn restores(device: &mut Device, now_ms: i64, dice: &mut Dice) -> Option<Value> {
    let id = if dice.chance(85) {
        text(dice.pick(&device.graves)?, "id")?
    } else {
        dice.pick(&device.ids(Kind::Event)).cloned()?
    };
    let type_id = dice.pick(&device.ids(Kind::Type)).cloned()?;
    let mut event = event(&type_id, dice);
    event.insert("id".to_owned(), json!(id));
    let mut restore = Map::new();
    restore.insert("event".to_owned(), Value::Object(event));
    if dice.chance(60) {
        restore.insert("editId".to_owned(), json!(device.new_id(now_ms, dice)));
    }
    Some(json!({ "restoreEvent": restore }))
}

/// A mistake of an app: the id of one thing for another, or of nothing at all.
fn takes_an_id_twice(device: &mut Device, now_ms: i64, dice: &mut Dice) -> Option<Value> {
    let type_id = dice.pick(&device.ids(Kind::Type)).cloned()?;
    let stray = if dice.chance(60) { type_id.clone() } else { device.new_id(now_ms, dice) };
    if dice.chance(50) {
        let mut event = event(&type_id, dice);
        event.insert("id".to_owned(), json!(type_id));
        return Some(json!({ "createEvent": event }));
    }
    Some(json!({ "deleteEvent": { "id": stray } }))
}
