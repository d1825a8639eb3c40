//! Generates the rows of a user and a call from a seed.
//!
//! There are only fourteen ids, two sources, two external ids and three names, so that items often conflict.

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
/// The number of ids under which rows can be stored. They are the first of all ids.
const V7_IDS: usize = 10;
const IDS: usize = 14;

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a call has a handful of them")]
pub enum Item {
    Write(Write),
    /// An item with this id that was rejected because its values are invalid.
    Invalid(Uuid),
}

#[derive(Debug, Clone)]
pub struct Call {
    pub stored: Oracle,
    pub client_id: Option<&'static str>,
    pub import_job_id: Option<Uuid>,
    pub items: Vec<Item>,
}

/// The random number generator splitmix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

fn v7(ms: i64, tail: u128) -> Uuid {
    Uuid::from_u128((u128::try_from(ms).expect("past 1970") << 80) | (7 << 76) | (0b10 << 62) | tail)
}

/// The id with this number. 0 to 5 are in the past, and 6 to 9 around the limits in the future. Then follow
/// two of version 4, one of another variant and the nil id.
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

fn body(rng: &mut Rng) -> EventBody {
    let latitude = rng.pick(&[0.0, -0.0]);
    let is_all_day = rng.one_in(6);
    let timestamp = if is_all_day { NOW_MS - NOW_MS % DAY_MS } else { NOW_MS - i64::from(rng.one_in(4)) };
    EventBody {
        timestamp,
        end_date: rng.one_in(4).then_some(timestamp),
        is_all_day,
        time_zone: None,
        notes: rng.one_in(4).then(|| "n".to_owned()),
        location: rng.one_in(4).then_some(Location { latitude, longitude: 1.0, name: None }),
        properties: "{}".to_owned(),
    }
}

/// The metadata of an old row, with the next position.
fn meta(rng: &mut Rng, state: &mut Oracle, id: Uuid, deleted_by: Option<DeletedBy>) -> RowMeta {
    state.head += 1;
    let version = i32::try_from(1 + rng.below(4)).expect("small");
    let client_id = rng.pick(&[None, Some("old"), Some("phone"), Some("phone")]);
    let writer = Writer {
        client_id: client_id.map(str::to_owned),
        run_start: i32::try_from(1 + rng.below(4)).expect("small").min(version),
        edit_id: client_id.and_then(|_| edit::edit_id(rng)),
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

fn stored(rng: &mut Rng) -> Oracle {
    let mut state = Oracle::default();
    let mut free: Vec<usize> = (0..IDS).collect();
    let mut living = Vec::new();
    for name in NAMES {
        if rng.one_in(3) {
            continue;
        }
        let at = rng.below(V7_IDS.min(free.len()));
        if free[at] >= V7_IDS {
            continue;
        }
        let id = id(free.remove(at));
        let deleted_by = rng.one_in(4).then_some(DeletedBy::User);
        let meta = meta(rng, &mut state, id, deleted_by);
        let color = rng.one_in(3).then_some("red");
        let mut row = type_row(meta, name, color, None);
        if deleted_by.is_some() {
            row.content = None;
        } else {
            living.push(id);
        }
        state.types.push(row);
    }
    for at in free.clone() {
        if at >= V7_IDS || !rng.one_in(3) {
            continue;
        }
        free.retain(|other| *other != at);
        if rng.one_in(6) {
            state.imports.push(id(at));
            continue;
        }
        let deleted_by = rng.pick(&[None, None, Some(DeletedBy::User), Some(DeletedBy::Rollback)]);
        let deleted_by = if living.is_empty() { deleted_by.or(Some(DeletedBy::User)) } else { deleted_by };
        let meta = meta(rng, &mut state, id(at), deleted_by);
        let (source, external) = (rng.pick(&SOURCES), rng.pick(&EXTERNAL));
        let is_taken =
            |row: &domain::row::EventRow| row.source_type == source && row.external_id.as_deref() == external;
        let external = if state.events.iter().any(is_taken) { None } else { external };
        let type_id = if living.is_empty() { Uuid::nil() } else { rng.pick(&living) };
        let job = rng.one_in(3).then(job_id);
        let mut row = event_row(meta, (source, external), type_id, &body(rng), job);
        if deleted_by.is_some() {
            row.content = None;
        }
        state.events.push(row);
    }
    for at in free {
        if !rng.one_in(4) {
            continue;
        }
        if rng.one_in(2) && !state.types.is_empty() {
            let row = rng.below(state.types.len());
            state.aliases.push(Alias {
                entity: Entity::EventType,
                alias_id: id(at),
                id: state.types[row].meta.id,
            });
        } else if !state.events.is_empty() {
            let row = rng.below(state.events.len());
            state.aliases.push(Alias {
                entity: Entity::Event,
                alias_id: id(at),
                id: state.events[row].meta.id,
            });
        }
    }
    state.head += i64::try_from(rng.below(3)).expect("small");
    state
}

/// An id that the client sent, or one that the server generated. The latter has version 7, and lies in the
/// future only in an import.
fn item_id(rng: &mut Rng, is_import: bool) -> (Uuid, IdOrigin) {
    if rng.one_in(4) {
        return (id(rng.below(if is_import { V7_IDS } else { 6 })), IdOrigin::Generated);
    }
    let is_import_id = is_import && rng.one_in(20);
    (if is_import_id { job_id() } else { id(rng.below(IDS)) }, IdOrigin::Sent)
}

/// The reference of a new event to its type.
fn type_ref(rng: &mut Rng, state: &Oracle, serial: u128) -> TypeRef {
    match rng.below(5) {
        0 => TypeRef::Id(id(rng.below(IDS))),
        1 | 2 if !state.types.is_empty() => {
            let row = &state.types[rng.below(state.types.len())];
            let alias = state.aliases.iter().find(|alias| alias.id == row.meta.id && rng.one_in(2));
            TypeRef::Id(alias.map_or(row.meta.id, |alias| alias.alias_id))
        }
        _ => TypeRef::Name { name: rng.pick(&NAMES).to_owned(), fresh_id: v7(NOW_MS, 1_000 + serial) },
    }
}

fn new_item(rng: &mut Rng, state: &Oracle, is_import: bool, serial: u128) -> Write {
    let (new_id, origin) = item_id(rng, is_import);
    if rng.one_in(4) {
        let color = rng.one_in(3).then(|| "red".to_owned());
        return Write::CreateEventType(NewType {
            id: new_id,
            origin,
            name: rng.pick(&NAMES).to_owned(),
            color,
            icon: None,
        });
    }
    Write::CreateEvent(NewEvent {
        id: new_id,
        origin,
        type_ref: type_ref(rng, state, serial),
        source_type: rng.pick(&SOURCES).to_owned(),
        external_id: rng.pick(&EXTERNAL).map(str::to_owned),
        body: body(rng),
        former_id: None,
    })
}

/// The same item again. A create may get another id.
fn repeated(rng: &mut Rng, item: &Item, is_import: bool) -> Item {
    let other = rng.one_in(2).then(|| item_id(rng, is_import));
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
        Item::Invalid(id) => Item::Invalid(*id),
    }
}

/// A call with creates only, of a device or of a chunk of an import.
pub fn creates(seed: u64) -> Call {
    let mut rng = Rng(seed);
    let mut state = stored(&mut rng);
    let is_import = rng.one_in(3);
    if is_import {
        state.imports.push(job_id());
    }
    let mut items: Vec<Item> = Vec::new();
    for serial in 0..1 + rng.below(6) {
        let item = if items.is_empty() || !rng.one_in(3) {
            Item::Write(new_item(&mut rng, &state, is_import, serial as u128))
        } else {
            let at = rng.below(items.len());
            repeated(&mut rng, &items[at], is_import)
        };
        items.push(item);
    }
    finish(&mut rng, state, is_import, items)
}

/// A call of a device with writes of all kinds, which affect each other.
pub fn outbox(seed: u64) -> Call {
    let mut rng = Rng(seed);
    let state = stored(&mut rng);
    let mut items: Vec<Item> = Vec::new();
    for serial in 0..1 + rng.below(6) {
        match rng.below(12) {
            0..3 => items.push(Item::Write(new_item(&mut rng, &state, false, serial as u128))),
            3 if !items.is_empty() => {
                let at = rng.below(items.len());
                let again = repeated(&mut rng, &items[at], false);
                items.push(again);
            }
            4 => items.extend(edit::scenario(&mut rng, &state).into_iter().map(Item::Write)),
            5 if rng.one_in(3) => items.push(Item::Invalid(edit::target(&mut rng, &state, &items))),
            _ => {
                let edit = edit::edit(&mut rng, &state, &items);
                items.push(Item::Write(edit));
            }
        }
    }
    finish(&mut rng, state, false, items)
}

fn finish(rng: &mut Rng, mut stored: Oracle, is_import: bool, items: Vec<Item>) -> Call {
    stored.before = stored.head;
    stored.applied.clear();
    let client_id = if rng.one_in(3) { None } else { Some("phone") };
    Call { stored, client_id, import_job_id: is_import.then(job_id), items }
}

/// The same outbox with an edit id in each edit, greater than the one before, and without expected versions.
pub fn with_edit_ids(mut call: Call) -> Call {
    for (at, item) in call.items.iter_mut().enumerate() {
        if let Item::Write(write) = item {
            edit::set_edit_id(write, v7(NOW_MS + i64::try_from(at).expect("small"), 600));
        }
    }
    Call { client_id: Some("phone"), ..call }
}
