//! Edits, deletions and restores of what is stored, of what the call itself made, and of nothing.

use domain::apply::Write;
use domain::draft::{
    EventEdit, EventPatch, Guard, IdOrigin, NewEvent, NewType, Removal, Restore, TypeEdit, TypePatch, TypeRef,
};
use domain::instant::{MIN_MS, ParsedInstant};
use uuid::Uuid;

use super::{DAY_MS, Dice, EXTERNAL, IDS, Item, NAMES, NOW_MS, SOURCES, body, id, v7};
use crate::support::oracle::Oracle;

/// Two instants of one day, one of the next, and the first one whose date as written is none.
const SENT: [ParsedInstant; 4] = [
    ParsedInstant { ms: NOW_MS, date_ms: NOW_MS - NOW_MS % DAY_MS },
    ParsedInstant { ms: NOW_MS - 1, date_ms: NOW_MS - NOW_MS % DAY_MS },
    ParsedInstant { ms: NOW_MS + DAY_MS, date_ms: NOW_MS - NOW_MS % DAY_MS + DAY_MS },
    ParsedInstant { ms: MIN_MS, date_ms: MIN_MS - DAY_MS },
];

/// The id of an edit, or none: five of them, so that they are equal, older and newer.
pub fn edit_id(dice: &mut Dice) -> Option<Uuid> {
    let at = i64::try_from(dice.below(5)).expect("small");
    (!dice.one_in(3)).then(|| v7(NOW_MS - at, 500))
}

/// What an edit is about: a row, by its id or an alias; something of the call; anything.
pub fn target(dice: &mut Dice, state: &Oracle, items: &[Item]) -> Uuid {
    let events = state.events.iter().map(|row| row.meta.id);
    let types = state.types.iter().map(|row| row.meta.id);
    let aliases = state.aliases.iter().map(|alias| alias.alias_id);
    let known: Vec<Uuid> = events.chain(types).chain(aliases).collect();
    pick_or_any(dice, &known, items)
}

fn event_target(dice: &mut Dice, state: &Oracle, items: &[Item]) -> Uuid {
    let mut known: Vec<Uuid> = state.events.iter().map(|row| row.meta.id).collect();
    known.extend(
        state
            .aliases
            .iter()
            .filter(|alias| known.contains(&alias.id))
            .map(|alias| alias.alias_id)
            .collect::<Vec<_>>(),
    );
    pick_or_any(dice, &known, items)
}

fn type_target(dice: &mut Dice, state: &Oracle, items: &[Item]) -> Uuid {
    let mut known: Vec<Uuid> = state.types.iter().map(|row| row.meta.id).collect();
    known.extend(
        state
            .aliases
            .iter()
            .filter(|alias| known.contains(&alias.id))
            .map(|alias| alias.alias_id)
            .collect::<Vec<_>>(),
    );
    pick_or_any(dice, &known, items)
}

fn pick_or_any(dice: &mut Dice, known: &[Uuid], items: &[Item]) -> Uuid {
    if !known.is_empty() && !dice.one_in(4) {
        return dice.pick(known);
    }
    if !items.is_empty() && !dice.one_in(4) {
        let at = dice.below(items.len());
        return id_of(&items[at]);
    }
    id(dice.below(IDS))
}

/// The id that an item is about.
pub fn id_of(item: &Item) -> Uuid {
    match item {
        Item::Unreadable(id) => *id,
        Item::Write(Write::CreateEvent(new)) => new.id,
        Item::Write(Write::UpdateEvent(edit)) => edit.id,
        Item::Write(Write::DeleteEvent(removal) | Write::DeleteEventType(removal)) => removal.id,
        Item::Write(Write::RestoreEvent(restore)) => restore.event.id,
        Item::Write(Write::CreateEventType(new)) => new.id,
        Item::Write(Write::UpdateEventType(edit)) => edit.id,
    }
}

fn guard(dice: &mut Dice) -> Guard {
    let version = i32::try_from(1 + dice.below(6)).expect("small");
    Guard { expected_version: dice.one_in(2).then_some(version), edit_id: edit_id(dice) }
}

fn event_patch(dice: &mut Dice, state: &Oracle, items: &[Item]) -> EventPatch {
    let content = body(dice);
    EventPatch {
        event_type_id: dice.one_in(4).then(|| type_target(dice, state, items)),
        timestamp: dice.one_in(4).then(|| dice.pick(&SENT)),
        end_date: dice
            .one_in(4)
            .then(|| dice.pick(&[None, Some(SENT[0]), Some(SENT[1]), Some(SENT[2]), Some(SENT[3])])),
        is_all_day: dice.one_in(4).then(|| dice.one_in(2)),
        time_zone: dice.one_in(8).then(|| dice.one_in(2).then(|| "Europe/Berlin".to_owned())),
        notes: dice.one_in(4).then_some(content.notes),
        location: dice.one_in(4).then_some(content.location),
        properties: dice.one_in(8).then_some(content.properties),
    }
}

fn type_patch(dice: &mut Dice) -> TypePatch {
    TypePatch {
        name: dice.one_in(2).then(|| dice.pick(&NAMES).to_owned()),
        color: dice.one_in(3).then(|| dice.one_in(2).then(|| "red".to_owned())),
        icon: dice.one_in(6).then_some(None),
    }
}

/// Lets this be the only term of an edit.
pub fn name_edit(write: &mut Write, edit_id: Uuid) {
    let named = Guard { expected_version: None, edit_id: Some(edit_id) };
    match write {
        Write::UpdateEvent(edit) => edit.guard = named,
        Write::UpdateEventType(edit) => edit.guard = named,
        Write::DeleteEvent(removal) | Write::DeleteEventType(removal) => removal.guard = named,
        Write::RestoreEvent(restore) => restore.guard = named,
        Write::CreateEvent(_) | Write::CreateEventType(_) => {}
    }
}

/// An edit, a deletion or a restore.
pub fn edit(dice: &mut Dice, state: &Oracle, items: &[Item]) -> Write {
    match dice.below(8) {
        0..3 => Write::UpdateEvent(EventEdit {
            id: event_target(dice, state, items),
            patch: event_patch(dice, state, items),
            guard: guard(dice),
        }),
        3 => Write::DeleteEvent(Removal { id: event_target(dice, state, items), guard: guard(dice) }),
        4 => Write::RestoreEvent(Restore {
            event: NewEvent {
                id: event_target(dice, state, items),
                origin: IdOrigin::Sent,
                type_ref: TypeRef::Id(type_target(dice, state, items)),
                source_type: dice.pick(&SOURCES).to_owned(),
                external_id: dice.pick(&EXTERNAL).map(str::to_owned),
                body: body(dice),
                former_id: None,
            },
            guard: guard(dice),
        }),
        5 | 6 => Write::UpdateEventType(TypeEdit {
            id: type_target(dice, state, items),
            patch: type_patch(dice),
            guard: guard(dice),
        }),
        _ => Write::DeleteEventType(Removal { id: type_target(dice, state, items), guard: guard(dice) }),
    }
}

fn rename(id: Uuid, name: &str) -> Write {
    let patch = TypePatch { name: Some(name.to_owned()), ..TypePatch::default() };
    Write::UpdateEventType(TypeEdit { id, patch, guard: Guard::default() })
}

fn named(id: Uuid, name: &str) -> NewType {
    NewType { id, origin: IdOrigin::Sent, name: name.to_owned(), color: None, icon: None }
}

/// What single items hardly come to by chance: two names exchanged; a type whose events are deleted
/// before it, its name taken again; a type that is refused and what was sent with it.
pub fn story(dice: &mut Dice, state: &Oracle) -> Vec<Write> {
    let living: Vec<(Uuid, &str)> = state
        .types
        .iter()
        .filter_map(|row| Some((row.meta.id, row.content.as_ref()?.name.as_str())))
        .collect();
    let removal = |id: Uuid| Removal { id, guard: Guard::default() };
    match (dice.below(3), living.as_slice()) {
        (0, [(one, its), (other, others), ..]) => {
            vec![rename(*one, "Spare"), rename(*other, its), rename(*one, others)]
        }
        (1, [(one, its), ..]) => {
            let is_of_it = |row: &&domain::row::EventRow| {
                row.content.as_ref().is_some_and(|content| content.event_type_id == *one)
            };
            let events = state.events.iter().filter(is_of_it);
            let mut writes: Vec<Write> = events.map(|row| Write::DeleteEvent(removal(row.meta.id))).collect();
            writes.push(Write::DeleteEventType(removal(*one)));
            writes.push(Write::CreateEventType(named(id(dice.below(IDS)), its)));
            writes
        }
        _ => {
            let refused = id(7 + dice.below(4));
            let event = NewEvent {
                id: id(dice.below(6)),
                origin: IdOrigin::Sent,
                type_ref: TypeRef::Id(refused),
                source_type: "manual".to_owned(),
                external_id: None,
                body: body(dice),
                former_id: None,
            };
            let patch = EventPatch { event_type_id: Some(refused), ..EventPatch::default() };
            let changed = EventEdit { id: event_target(dice, state, &[]), patch, guard: Guard::default() };
            let guard = Guard { expected_version: None, edit_id: edit_id(dice) };
            vec![
                Write::CreateEventType(named(refused, "New")),
                Write::RestoreEvent(Restore { event: event.clone(), guard }),
                Write::CreateEvent(event),
                Write::UpdateEvent(changed),
                rename(refused, "Newer"),
            ]
        }
    }
}
