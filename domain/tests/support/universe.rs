//! A small universe, so that everything meets everything: fourteen ids, two sources, two external ids,
//! three names; a state of it and a call on it, both told by a seed.

use domain::apply::{Alias, Entity, Write};
use domain::draft::{IdOrigin, NewEvent, NewType, TypeRef};
use domain::row::{DeletedBy, Deletion, EventBody, Location, RowMeta, Writer};
use uuid::Uuid;

mod edit;

use super::oracle::{Oracle, event_row, type_row};

pub const NOW_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;
const NAMES: [&str; 3] = ["Walk", "Run", "walk"];
const SOURCES: [&str; 2] = ["manual", "healthkit"];
const EXTERNAL: [Option<&str>; 3] = [None, Some("a"), Some("b")];
/// Ids with which rows can be stored: the first ten of the universe.
const V7_IDS: usize = 10;
const IDS: usize = 14;

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a call has a handful of them")]
pub enum Item {
    Write(Write),
    /// One about this id that was rejected for its values.
    Unreadable(Uuid),
}

#[derive(Debug, Clone)]
pub struct Call {
    pub stored: Oracle,
    pub client_id: Option<&'static str>,
    pub import_job_id: Option<Uuid>,
    pub items: Vec<Item>,
}

/// splitmix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, sides: usize) -> usize {
        usize::try_from(self.next() % sides as u64).expect("below a usize")
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

fn v7(ms: i64, tail: u128) -> Uuid {
    Uuid::from_u128((u128::try_from(ms).expect("past 1970") << 80) | (7 << 76) | (0b10 << 62) | tail)
}

/// 0 to 5 past, 6 to 9 at the bounds of the future, then two v4, a wrong variant and the nil id.
fn id(at: usize) -> Uuid {
    const AHEAD_MS: [i64; 4] = [60_000, 60_001, 86_400_000, 86_400_001];
    match at {
        0..6 => v7(NOW_MS - 1_000 * i64::try_from(at).expect("small"), at as u128),
        6..10 => v7(NOW_MS + AHEAD_MS[at - 6], at as u128),
        10..12 => Uuid::from_u128((4 << 76) | (0b10 << 62) | at as u128),
        12 => Uuid::from_u128(v7(NOW_MS, 12).as_u128() | (0b11 << 62)),
        _ => Uuid::nil(),
    }
}

fn job_id() -> Uuid {
    v7(NOW_MS - 99_000, 99)
}

fn body(dice: &mut Dice) -> EventBody {
    let latitude = dice.pick(&[0.0, -0.0]);
    let is_all_day = dice.one_in(6);
    let timestamp = if is_all_day { NOW_MS - NOW_MS % DAY_MS } else { NOW_MS - i64::from(dice.one_in(4)) };
    EventBody {
        timestamp,
        end_date: dice.one_in(4).then_some(timestamp),
        is_all_day,
        time_zone: None,
        notes: dice.one_in(4).then(|| "n".to_owned()),
        location: dice.one_in(4).then_some(Location { latitude, longitude: 1.0, name: None }),
        properties: "{}".to_owned(),
    }
}

/// The meta of a row stored long ago, behind all that is stored so far.
fn meta(dice: &mut Dice, state: &mut Oracle, id: Uuid, deleted_by: Option<DeletedBy>) -> RowMeta {
    state.head += 1;
    let version = i32::try_from(1 + dice.below(4)).expect("small");
    let client_id = dice.pick(&[None, Some("old"), Some("phone"), Some("phone")]);
    let writer = Writer {
        client_id: client_id.map(str::to_owned),
        run_start: i32::try_from(1 + dice.below(4)).expect("small").min(version),
        edit_id: client_id.and_then(|_| edit::edit_id(dice)),
    };
    RowMeta {
        id,
        version,
        change_seq: state.head,
        writer,
        created_at: NOW_MS - 5_000,
        updated_at: NOW_MS - 4_000,
        deletion: deleted_by.map(|by| Deletion { at: NOW_MS - 4_000, by }),
    }
}

fn stored(dice: &mut Dice) -> Oracle {
    let mut state = Oracle::default();
    let mut free: Vec<usize> = (0..IDS).collect();
    let mut living = Vec::new();
    for name in NAMES {
        if dice.one_in(3) {
            continue;
        }
        let at = dice.below(V7_IDS.min(free.len()));
        if free[at] >= V7_IDS {
            continue;
        }
        let id = id(free.remove(at));
        let dead = dice.one_in(4).then_some(DeletedBy::User);
        let meta = meta(dice, &mut state, id, dead);
        let color = dice.one_in(3).then_some("red");
        let mut row = type_row(meta, name, color, None);
        if dead.is_some() {
            row.content = None;
        } else {
            living.push(id);
        }
        state.types.push(row);
    }
    for at in free.clone() {
        if at >= V7_IDS || !dice.one_in(3) {
            continue;
        }
        free.retain(|other| *other != at);
        if dice.one_in(6) {
            state.imports.push(id(at));
            continue;
        }
        let dead = dice.pick(&[None, None, Some(DeletedBy::User), Some(DeletedBy::Rollback)]);
        let dead = if living.is_empty() { dead.or(Some(DeletedBy::User)) } else { dead };
        let meta = meta(dice, &mut state, id(at), dead);
        let (source, external) = (dice.pick(&SOURCES), dice.pick(&EXTERNAL));
        let is_taken =
            |row: &domain::row::EventRow| row.source_type == source && row.external_id.as_deref() == external;
        let external = if state.events.iter().any(is_taken) { None } else { external };
        let type_id = if living.is_empty() { Uuid::nil() } else { dice.pick(&living) };
        let job = dice.one_in(3).then(job_id);
        let mut row = event_row(meta, (source, external), type_id, &body(dice), job);
        if dead.is_some() {
            row.content = None;
        }
        state.events.push(row);
    }
    for at in free {
        if !dice.one_in(4) {
            continue;
        }
        if dice.one_in(2) && !state.types.is_empty() {
            let row = dice.below(state.types.len());
            state.aliases.push(Alias {
                entity: Entity::EventType,
                alias_id: id(at),
                id: state.types[row].meta.id,
            });
        } else if !state.events.is_empty() {
            let row = dice.below(state.events.len());
            state.aliases.push(Alias {
                entity: Entity::Event,
                alias_id: id(at),
                id: state.events[row].meta.id,
            });
        }
    }
    state.head += i64::try_from(dice.below(3)).expect("small");
    state
}

/// An id as it is sent, or one that we made: that is a v7, and from the future only in an import.
fn item_id(dice: &mut Dice, is_import: bool) -> (Uuid, IdOrigin) {
    if dice.one_in(4) {
        return (id(dice.below(if is_import { V7_IDS } else { 6 })), IdOrigin::Made);
    }
    let of_job = is_import && dice.one_in(20);
    (if of_job { job_id() } else { id(dice.below(IDS)) }, IdOrigin::Sent)
}

/// The type that an event is sent with.
fn type_ref(dice: &mut Dice, state: &Oracle, fresh: u128) -> TypeRef {
    match dice.below(5) {
        0 => TypeRef::Id(id(dice.below(IDS))),
        1 | 2 if !state.types.is_empty() => {
            let row = &state.types[dice.below(state.types.len())];
            let alias = state.aliases.iter().find(|alias| alias.id == row.meta.id && dice.one_in(2));
            TypeRef::Id(alias.map_or(row.meta.id, |alias| alias.alias_id))
        }
        _ => TypeRef::Name { name: dice.pick(&NAMES).to_owned(), fresh_id: v7(NOW_MS, 1_000 + fresh) },
    }
}

fn new_item(dice: &mut Dice, state: &Oracle, is_import: bool, fresh: u128) -> Write {
    let (new_id, origin) = item_id(dice, is_import);
    if dice.one_in(4) {
        let color = dice.one_in(3).then(|| "red".to_owned());
        return Write::CreateEventType(NewType {
            id: new_id,
            origin,
            name: dice.pick(&NAMES).to_owned(),
            color,
            icon: None,
        });
    }
    Write::CreateEvent(NewEvent {
        id: new_id,
        origin,
        type_ref: type_ref(dice, state, fresh),
        source_type: dice.pick(&SOURCES).to_owned(),
        external_id: dice.pick(&EXTERNAL).map(str::to_owned),
        body: body(dice),
        former_id: None,
    })
}

/// The same again, a create as it was or under another id.
fn repeated(dice: &mut Dice, item: &Item, is_import: bool) -> Item {
    let other = dice.one_in(2).then(|| item_id(dice, is_import));
    match item {
        Item::Write(Write::CreateEvent(new)) => {
            let (id, origin) = other.unwrap_or((new.id, new.origin));
            Item::Write(Write::CreateEvent(NewEvent { id, origin, ..new.clone() }))
        }
        Item::Write(Write::CreateEventType(new)) => {
            let (id, origin) = other.unwrap_or((new.id, new.origin));
            Item::Write(Write::CreateEventType(NewType { id, origin, ..new.clone() }))
        }
        Item::Write(edit) => Item::Write(edit.clone()),
        Item::Unreadable(id) => Item::Unreadable(*id),
    }
}

/// A call that only creates: of a device, or a chunk of an import.
pub fn creates(seed: u64) -> Call {
    let mut dice = Dice(seed);
    let mut state = stored(&mut dice);
    let is_import = dice.one_in(3);
    if is_import {
        state.imports.push(job_id());
    }
    let mut items: Vec<Item> = Vec::new();
    for fresh in 0..1 + dice.below(6) {
        let item = if items.is_empty() || !dice.one_in(3) {
            Item::Write(new_item(&mut dice, &state, is_import, fresh as u128))
        } else {
            let at = dice.below(items.len());
            repeated(&mut dice, &items[at], is_import)
        };
        items.push(item);
    }
    finish(&mut dice, state, is_import, items)
}

/// A call of a device with writes of all kinds, which touch each other.
pub fn outbox(seed: u64) -> Call {
    let mut dice = Dice(seed);
    let state = stored(&mut dice);
    let mut items: Vec<Item> = Vec::new();
    for fresh in 0..1 + dice.below(6) {
        match dice.below(12) {
            0..3 => items.push(Item::Write(new_item(&mut dice, &state, false, fresh as u128))),
            3 if !items.is_empty() => {
                let at = dice.below(items.len());
                let again = repeated(&mut dice, &items[at], false);
                items.push(again);
            }
            4 => items.extend(edit::story(&mut dice, &state).into_iter().map(Item::Write)),
            5 if dice.one_in(3) => items.push(Item::Unreadable(edit::target(&mut dice, &state, &items))),
            _ => {
                let edit = edit::edit(&mut dice, &state, &items);
                items.push(Item::Write(edit));
            }
        }
    }
    finish(&mut dice, state, false, items)
}

fn finish(dice: &mut Dice, mut stored: Oracle, is_import: bool, items: Vec<Item>) -> Call {
    stored.before = stored.head;
    stored.applied.clear();
    let client_id = if dice.one_in(3) { None } else { Some("phone") };
    Call { stored, client_id, import_job_id: is_import.then(job_id), items }
}

/// The same outbox of a device that gives each edit an id, newer than the one before, and expects no
/// version.
pub fn with_edit_ids(mut call: Call) -> Call {
    for (at, item) in call.items.iter_mut().enumerate() {
        if let Item::Write(write) = item {
            edit::name_edit(write, v7(NOW_MS + i64::try_from(at).expect("small"), 600));
        }
    }
    Call { client_id: Some("phone"), ..call }
}
