//! Collects the keys of all rows that the items of a call can touch, and turns them into query parameters.

use std::collections::{BTreeMap, HashSet};

use sea_orm::{DbBackend, Value};
use uuid::Uuid;

use super::sql::Owners;
use crate::dialect::{self, List};
use crate::sqlite::Detail;
use domain::apply::Write;
use domain::draft::{IdOrigin, NewEvent, NewType, TypeRef};

/// The keys of the rows that must be loaded for the items of one user: ids, external ids and type names.
#[derive(Debug, Default, Clone)]
pub struct ReadSet {
    ids: HashSet<Uuid>,
    /// Events to look up by source type and external id. The third value is the id of the same item: if an
    /// event with that id is stored, its key is not looked up.
    keys: HashSet<(String, String, Uuid)>,
    type_names: HashSet<String>,
    /// Types whose living events are counted, because the call deletes them.
    counted_types: HashSet<Uuid>,
    body_source: BodySource,
    /// The types of the events that are created and name their type by its id.
    types_of_new_events: HashSet<Uuid>,
    /// Whether there is a write other than the create of such an event.
    has_other_writes: bool,
}

/// Whether the bodies of stored events are read for a write, or are taken from the request instead. Keys,
/// hashes and versions are always read (decision 0041).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BodySource {
    /// No body is needed: the response of the call shows no events.
    #[default]
    NotNeeded,
    /// No body is read. A stored event that has the same hash as the event in the request has the same body.
    /// One with another hash is read later, if the response shows it.
    FromRequest,
    /// The bodies of all events in the read set are read from the database.
    FromDatabase,
}

impl ReadSet {
    /// Adds an id of any kind of row. It also makes the load read the bodies of all events in this read set.
    pub fn add_id_and_need_bodies(&mut self, id: Uuid) {
        self.ids.insert(id);
        self.body_source = BodySource::FromDatabase;
    }

    /// Whether no body of a stored event is read. This is so for creates of events without a former id, and
    /// for creates and updates of types.
    #[must_use]
    pub fn needs_no_bodies(&self) -> bool {
        self.body_source != BodySource::FromDatabase
    }

    /// Adds the keys of a new event, to find out whether it is stored already, and the key of its type. If
    /// the event has a former id, the bodies of all events in this read set are read.
    pub fn add_event(&mut self, new: &NewEvent) {
        self.ids.insert(new.id);
        if let Some(former) = new.former_id {
            self.add_id_and_need_bodies(former.id);
        }
        if let Some(external_id) = &new.external_id {
            self.keys.insert((new.source_type.clone(), external_id.clone(), new.id));
        }
        match &new.type_ref {
            TypeRef::Id(id) => self.ids.insert(*id),
            TypeRef::Name { name, .. } => self.type_names.insert(name.clone()),
        };
    }

    /// Adds the keys of all rows that a write can touch.
    pub fn add_write(&mut self, write: &Write) {
        match write {
            Write::CreateEvent(new) => {
                self.add_event(new);
                self.body_source = self.body_source.max(BodySource::FromRequest);
                match new.type_ref {
                    TypeRef::Id(id) if new.former_id.is_none() => {
                        self.types_of_new_events.insert(id);
                        return;
                    }
                    _ => {}
                }
            }
            Write::UpdateEvent(edit) => edit.needed_row_ids().for_each(|id| self.add_id_and_need_bodies(id)),
            Write::RestoreEvent(restore) => {
                restore.needed_row_ids().for_each(|id| self.add_id_and_need_bodies(id))
            }
            Write::CreateEventType(new) => self.add_event_type(new),
            Write::UpdateEventType(edit) => {
                self.ids.insert(edit.id);
                self.type_names.extend(edit.patch.name.clone());
            }
            Write::DeleteEvent(removal) => self.add_id_and_need_bodies(removal.id),
            Write::DeleteEventType(removal) => {
                self.add_id_and_need_bodies(removal.id);
                self.counted_types.insert(removal.id);
            }
        }
        self.has_other_writes = true;
    }

    /// Returns the types that the writes name, if all writes create events whose types are given by id.
    /// Otherwise returns `None`.
    #[must_use]
    pub fn types_of_new_events(&self) -> Option<&HashSet<Uuid>> {
        let is_all = !self.has_other_writes && !self.types_of_new_events.is_empty();
        is_all.then_some(&self.types_of_new_events)
    }

    /// Counts the different ids of events, types and imports in the read set.
    #[must_use]
    pub fn count_ids(&self) -> usize {
        self.ids.len()
    }

    /// Adds all keys of another read set of the same user.
    pub fn extend(&mut self, other: &Self) {
        self.ids.extend(&other.ids);
        self.keys.extend(other.keys.iter().cloned());
        self.type_names.extend(other.type_names.iter().cloned());
        self.counted_types.extend(&other.counted_types);
        self.body_source = self.body_source.max(other.body_source);
        self.types_of_new_events.extend(&other.types_of_new_events);
        self.has_other_writes |= other.has_other_writes;
    }

    /// Adds the keys of a new event type: its name, and its id if the client has sent one.
    fn add_event_type(&mut self, new: &NewType) {
        if new.origin == IdOrigin::Sent {
            self.ids.insert(new.id);
        }
        self.type_names.insert(new.name.clone());
    }

    pub(crate) fn ids(&self) -> &HashSet<Uuid> {
        &self.ids
    }

    pub(crate) fn keys(&self) -> &HashSet<(String, String, Uuid)> {
        &self.keys
    }

    /// The names of types to look up.
    #[must_use]
    pub fn type_names(&self) -> &HashSet<String> {
        &self.type_names
    }

    pub(super) fn counted_types(&self) -> &HashSet<Uuid> {
        &self.counted_types
    }

    /// Whether a new event names its type by this id, so that it most likely is an event type.
    pub(crate) fn is_type_of_new_event(&self, id: Uuid) -> bool {
        self.types_of_new_events.contains(&id)
    }

    /// How much of each event is read on SQLite.
    pub(crate) fn detail(&self) -> Detail {
        match self.body_source {
            BodySource::NotNeeded => Detail::Keys,
            BodySource::FromRequest => Detail::Response,
            BodySource::FromDatabase => Detail::Bodies,
        }
    }

    pub(super) fn body_source(&self) -> BodySource {
        self.body_source
    }
}

/// The parameters of [`super::sql::sql_load_all_but_bodies`], and for which variant of the statement they
/// are.
pub(super) struct Parameters {
    pub(super) values: Vec<Value>,
    pub(super) owners: Owners,
    pub(super) by_key: bool,
    pub(super) by_name: bool,
}

/// Turns read sets into the parameters of the statement that loads them. The read sets must not be empty.
pub(super) fn query_parameters(read_sets: &BTreeMap<Uuid, &ReadSet>) -> Parameters {
    let backend = DbBackend::Postgres;
    let users: Vec<Uuid> = read_sets.keys().copied().collect();
    let owners = if users.len() == 1 { Owners::One } else { Owners::Many };
    // With one user, the user is a parameter of its own, and no key has an owner beside it.
    let mut values = match owners {
        Owners::One => vec![users[0].into()],
        Owners::Many => vec![dialect::ids_parameter(backend, &users)],
    };
    let mut add = |of_keys: Vec<Uuid>, columns: Vec<List<'_>>| {
        let of_keys = (owners == Owners::Many).then_some(List::Ids(of_keys));
        values.extend(dialect::table_parameters(backend, of_keys.into_iter().chain(columns).collect()));
    };

    let ids = read_sets.iter().flat_map(|(user, read_set)| read_set.ids.iter().map(move |id| (*user, *id)));
    let mut ids: Vec<(Uuid, Uuid)> = ids.collect();
    // Sorted, so that the lookups walk the index in its order.
    ids.sort_unstable();
    let (of_ids, ids) = ids.into_iter().unzip();
    add(of_ids, vec![List::Ids(ids)]);

    let keys =
        read_sets.iter().flat_map(|(user, read_set)| read_set.keys.iter().map(move |key| (*user, key)));
    let (of_keys, keys): (Vec<Uuid>, Vec<&(String, String, Uuid)>) = keys.unzip();
    if !keys.is_empty() {
        let ids = keys.iter().map(|(_, _, id)| *id).collect();
        let (sources, externals) =
            keys.iter().map(|(source, key, _)| (source.as_str(), key.as_str())).unzip();
        add(of_keys, vec![List::Ids(ids), List::Texts(sources), List::Texts(externals)]);
    }

    let names = read_sets
        .iter()
        .flat_map(|(user, read_set)| read_set.type_names.iter().map(move |name| (*user, name.as_str())));
    let (of_names, names): (Vec<Uuid>, Vec<&str>) = names.unzip();
    let by_name = !names.is_empty();
    if by_name {
        add(of_names, vec![List::Texts(names)]);
    }
    Parameters { by_key: !keys.is_empty(), by_name, owners, values }
}
