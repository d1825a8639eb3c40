//! Collects the keys of all rows that the items of a call can touch, and turns them into query parameters.

use std::collections::{BTreeMap, HashSet};

use sea_orm::{DbBackend, Value};
use uuid::Uuid;

use super::sql::Owners;
use crate::dialect::{self, List};
use domain::apply::Write;
use domain::draft::{IdOrigin, NewEvent, NewType, TypeRef};

/// The keys of the rows that the items of one user can touch.
#[derive(Debug, Default, Clone)]
pub struct ReadSet {
    ids: HashSet<Uuid>,
    /// External keys: source type, external id, and the id of the item. A key is looked up only if no event
    /// has the id.
    keys: HashSet<(String, String, Uuid)>,
    type_names: HashSet<String>,
    /// Types whose living events are counted, because the call deletes them.
    counted_types: HashSet<Uuid>,
    bodies: Bodies,
}

/// Where the bodies of stored events come from. Keys, hashes and versions are always read (decision 0041).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bodies {
    /// No body is needed: the call has no response that shows events.
    #[default]
    NotNeeded,
    /// The request has the body of every event whose hash is unchanged. An event with another hash is read
    /// later.
    FromRequest,
    /// All bodies are read from the database.
    FromDatabase,
}

impl ReadSet {
    /// Adds an id of any kind of row. The bodies of all events in this read set are then read.
    pub fn add_id_and_need_bodies(&mut self, id: Uuid) {
        self.ids.insert(id);
        self.bodies = Bodies::FromDatabase;
    }

    /// Whether no body of a stored event is read. This is so for creates, and for writes of types alone.
    #[must_use]
    pub fn needs_no_bodies(&self) -> bool {
        self.bodies != Bodies::FromDatabase
    }

    /// Adds the keys of an event to find out whether it is stored. Its body is read only if the event may be
    /// stored under a former id.
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

    /// Adds the keys of a write.
    pub fn add_write(&mut self, write: &Write) {
        match write {
            Write::CreateEvent(new) => {
                self.add_event(new);
                self.bodies = self.bodies.max(Bodies::FromRequest);
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
    }

    /// Adds the read set of another call of the same user.
    pub fn extend(&mut self, other: &Self) {
        self.ids.extend(&other.ids);
        self.keys.extend(other.keys.iter().cloned());
        self.type_names.extend(other.type_names.iter().cloned());
        self.counted_types.extend(&other.counted_types);
        self.bodies = self.bodies.max(other.bodies);
    }

    /// Adds the keys of a new type.
    fn add_event_type(&mut self, new: &NewType) {
        if new.origin == IdOrigin::Sent {
            self.ids.insert(new.id);
        }
        self.type_names.insert(new.name.clone());
    }

    pub(super) fn counted_types(&self) -> &HashSet<Uuid> {
        &self.counted_types
    }

    pub(super) fn type_names(&self) -> &HashSet<String> {
        &self.type_names
    }

    pub(super) fn bodies(&self) -> Bodies {
        self.bodies
    }
}

/// The parameters of [`super::sql::sql_load_all_but_bodies`], and which variant they are for.
pub(super) struct Parameters {
    pub(super) values: Vec<Value>,
    pub(super) owners: Owners,
    pub(super) by_key: bool,
    pub(super) by_name: bool,
}

/// Returns the parameters that load these read sets.
pub(super) fn query_parameters(backend: DbBackend, read_sets: &BTreeMap<Uuid, &ReadSet>) -> Parameters {
    let users: Vec<Uuid> = read_sets.keys().copied().collect();
    let owners = if users.len() == 1 && backend == DbBackend::Postgres { Owners::One } else { Owners::Many };
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
