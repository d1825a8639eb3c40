//! Generates edits, deletions and restores: of stored rows, of rows of the same call, and of unknown ids.

use domain::apply::Write;
use domain::draft::{
    EventEdit, EventPatch, Guard, IdOrigin, NewEvent, NewType, Removal, Restore, TypeEdit, TypePatch, TypeRef,
};
use domain::instant::{MIN_MS, ParsedInstant};
use uuid::Uuid;

use super::{DAY_MS, EXTERNAL, IDS, Item, NAMES, NOW_MS, Rng, SOURCES, body, id, v7};
use crate::support::oracle::Oracle;

/// Two instants of one day, one of the next day, and the first instant, whose date as written is out of
/// range.
const SENT: [ParsedInstant; 4] = [
    ParsedInstant { ms: NOW_MS, date_ms: NOW_MS - NOW_MS % DAY_MS },
    ParsedInstant { ms: NOW_MS - 1, date_ms: NOW_MS - NOW_MS % DAY_MS },
    ParsedInstant { ms: NOW_MS + DAY_MS, date_ms: NOW_MS - NOW_MS % DAY_MS + DAY_MS },
    ParsedInstant { ms: MIN_MS, date_ms: MIN_MS - DAY_MS },
];

/// One of five edit ids, or none. There are so few that edits often have equal, older and newer ids.
pub fn edit_id(rng: &mut Rng) -> Option<Uuid> {
    let at = i64::try_from(rng.below(5)).expect("small");
    (!rng.one_in(3)).then(|| v7(NOW_MS - at, 500))
}

/// The id for an edit: the id or an alias of a stored row, the id of another item, or any id.
pub fn target(rng: &mut Rng, state: &Oracle, items: &[Item]) -> Uuid {
    let events = state.events.iter().map(|row| row.meta.id);
    let types = state.types.iter().map(|row| row.meta.id);
    let aliases = state.aliases.iter().map(|alias| alias.alias_id);
    let known: Vec<Uuid> = events.chain(types).chain(aliases).collect();
    pick_or_any(rng, &known, items)
}

fn pick_with_aliases(rng: &mut Rng, mut known: Vec<Uuid>, state: &Oracle, items: &[Item]) -> Uuid {
    let aliases = state.aliases.iter().filter(|alias| known.contains(&alias.id)).map(|alias| alias.alias_id);
    let aliases: Vec<Uuid> = aliases.collect();
    known.extend(aliases);
    pick_or_any(rng, &known, items)
}

fn event_target(rng: &mut Rng, state: &Oracle, items: &[Item]) -> Uuid {
    let known = state.events.iter().map(|row| row.meta.id).collect();
    pick_with_aliases(rng, known, state, items)
}

fn type_target(rng: &mut Rng, state: &Oracle, items: &[Item]) -> Uuid {
    let known = state.types.iter().map(|row| row.meta.id).collect();
    pick_with_aliases(rng, known, state, items)
}

fn pick_or_any(rng: &mut Rng, known: &[Uuid], items: &[Item]) -> Uuid {
    if !known.is_empty() && !rng.one_in(4) {
        return rng.pick(known);
    }
    if !items.is_empty() && !rng.one_in(4) {
        let at = rng.below(items.len());
        return id_of(&items[at]);
    }
    id(rng.below(IDS))
}

/// The id of the row that an item is about.
pub fn id_of(item: &Item) -> Uuid {
    match item {
        Item::Invalid(id) => *id,
        Item::Write(Write::CreateEvent(new)) => new.id,
        Item::Write(Write::UpdateEvent(edit)) => edit.id,
        Item::Write(Write::DeleteEvent(removal) | Write::DeleteEventType(removal)) => removal.id,
        Item::Write(Write::RestoreEvent(restore)) => restore.event.id,
        Item::Write(Write::CreateEventType(new)) => new.id,
        Item::Write(Write::UpdateEventType(edit)) => edit.id,
    }
}

fn guard(rng: &mut Rng) -> Guard {
    let version = i32::try_from(1 + rng.below(6)).expect("small");
    Guard { expected_version: rng.one_in(2).then_some(version), edit_id: edit_id(rng) }
}

fn event_patch(rng: &mut Rng, state: &Oracle, items: &[Item]) -> EventPatch {
    let content = body(rng);
    EventPatch {
        event_type_id: rng.one_in(4).then(|| type_target(rng, state, items)),
        timestamp: rng.one_in(4).then(|| rng.pick(&SENT)),
        end_date: rng
            .one_in(4)
            .then(|| rng.pick(&[None, Some(SENT[0]), Some(SENT[1]), Some(SENT[2]), Some(SENT[3])])),
        is_all_day: rng.one_in(4).then(|| rng.one_in(2)),
        time_zone: rng.one_in(8).then(|| rng.one_in(2).then(|| "Europe/Berlin".to_owned())),
        notes: rng.one_in(4).then_some(content.notes),
        location: rng.one_in(4).then_some(content.location),
        properties: rng.one_in(8).then_some(content.properties),
    }
}

fn type_patch(rng: &mut Rng) -> TypePatch {
    TypePatch {
        name: rng.one_in(2).then(|| rng.pick(&NAMES).to_owned()),
        color: rng.one_in(3).then(|| rng.one_in(2).then(|| "red".to_owned())),
        icon: rng.one_in(6).then_some(None),
    }
}

/// Makes this edit id the only condition of an edit.
pub fn set_edit_id(write: &mut Write, edit_id: Uuid) {
    let guard = Guard { expected_version: None, edit_id: Some(edit_id) };
    match write {
        Write::UpdateEvent(edit) => edit.guard = guard,
        Write::UpdateEventType(edit) => edit.guard = guard,
        Write::DeleteEvent(removal) | Write::DeleteEventType(removal) => removal.guard = guard,
        Write::RestoreEvent(restore) => restore.guard = guard,
        Write::CreateEvent(_) | Write::CreateEventType(_) => {}
    }
}

/// An edit, a deletion or a restore.
pub fn edit(rng: &mut Rng, state: &Oracle, items: &[Item]) -> Write {
    match rng.below(8) {
        0..3 => Write::UpdateEvent(EventEdit {
            id: event_target(rng, state, items),
            patch: event_patch(rng, state, items),
            guard: guard(rng),
        }),
        3 => Write::DeleteEvent(Removal { id: event_target(rng, state, items), guard: guard(rng) }),
        4 => Write::RestoreEvent(Restore {
            event: NewEvent {
                id: event_target(rng, state, items),
                origin: IdOrigin::Sent,
                type_ref: TypeRef::Id(type_target(rng, state, items)),
                source_type: rng.pick(&SOURCES).to_owned(),
                external_id: rng.pick(&EXTERNAL).map(str::to_owned),
                body: body(rng),
                former_id: None,
            },
            guard: guard(rng),
        }),
        5 | 6 => Write::UpdateEventType(TypeEdit {
            id: type_target(rng, state, items),
            patch: type_patch(rng),
            guard: guard(rng),
        }),
        _ => Write::DeleteEventType(Removal { id: type_target(rng, state, items), guard: guard(rng) }),
    }
}

fn rename(id: Uuid, name: &str) -> Write {
    let patch = TypePatch { name: Some(name.to_owned()), ..TypePatch::default() };
    Write::UpdateEventType(TypeEdit { id, patch, guard: Guard::default() })
}

fn new_type(id: Uuid, name: &str) -> NewType {
    NewType { id, origin: IdOrigin::Sent, name: name.to_owned(), color: None, icon: None }
}

/// Sequences of items that rarely occur by chance.
///
/// Two types exchange their names. Or a type is deleted after its events, and its name is used again. Or a
/// type is rejected, and other items depend on it.
pub fn scenario(rng: &mut Rng, state: &Oracle) -> Vec<Write> {
    let living: Vec<(Uuid, &str)> = state
        .types
        .iter()
        .filter_map(|row| Some((row.meta.id, row.content.as_ref()?.name.as_str())))
        .collect();
    let removal = |id: Uuid| Removal { id, guard: Guard::default() };
    match (rng.below(3), living.as_slice()) {
        (0, [(one, name), (other, other_name), ..]) => {
            vec![rename(*one, "Spare"), rename(*other, name), rename(*one, other_name)]
        }
        (1, [(one, name), ..]) => {
            let has_type = |row: &&domain::row::EventRow| {
                row.content.as_ref().is_some_and(|content| content.event_type_id == *one)
            };
            let events = state.events.iter().filter(has_type);
            let mut writes: Vec<Write> = events.map(|row| Write::DeleteEvent(removal(row.meta.id))).collect();
            writes.push(Write::DeleteEventType(removal(*one)));
            writes.push(Write::CreateEventType(new_type(id(rng.below(IDS)), name)));
            writes
        }
        _ => {
            let refused = id(7 + rng.below(4));
            let event = NewEvent {
                id: id(rng.below(6)),
                origin: IdOrigin::Sent,
                type_ref: TypeRef::Id(refused),
                source_type: "manual".to_owned(),
                external_id: None,
                body: body(rng),
                former_id: None,
            };
            let patch = EventPatch { event_type_id: Some(refused), ..EventPatch::default() };
            let changed = EventEdit { id: event_target(rng, state, &[]), patch, guard: Guard::default() };
            let guard = Guard { expected_version: None, edit_id: edit_id(rng) };
            vec![
                Write::CreateEventType(new_type(refused, "New")),
                Write::RestoreEvent(Restore { event: event.clone(), guard }),
                Write::CreateEvent(event),
                Write::UpdateEvent(changed),
                rename(refused, "Newer"),
            ]
        }
    }
}
