//! What the items of a call can touch, by the keys under which it may be found.

use std::collections::{BTreeMap, HashSet};

use sea_orm::{DbBackend, Value};
use uuid::Uuid;

use crate::dialect::{self, List};
use domain::apply::Write;
use domain::draft::{IdOrigin, NewEvent, NewType, TypeRef};

/// The keys by which items of one user may find something.
#[derive(Debug, Default, Clone)]
pub struct ReadSet {
    ids: HashSet<Uuid>,
    /// External keys, each with the id that goes before it.
    keys: HashSet<(String, String, Uuid)>,
    type_names: HashSet<String>,
    /// Types whose living events are counted.
    usages: HashSet<Uuid>,
    bodies: Bodies,
}

/// What is to be read of what stored events say, beside keys, hash and version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bodies {
    /// Nothing, and nobody is told of it.
    #[default]
    Untold,
    /// Nothing: where the hash is the same it says what was sent. Where not, it is read later.
    Sent,
    /// All.
    Read,
}

impl ReadSet {
    /// Adds an id of any kind, of which all is read.
    pub fn id(&mut self, id: Uuid) {
        self.ids.insert(id);
        self.bodies = Bodies::Read;
    }

    /// Whether nothing is read of what stored events say: creates, and whatever is of types alone.
    #[must_use]
    pub fn needs_no_bodies(&self) -> bool {
        self.bodies != Bodies::Read
    }

    /// Adds the keys of an event, for whoever asks only whether it is there. The bodies of stored events stay empty, unless
    /// it may be stored by a former id.
    pub fn event(&mut self, new: &NewEvent) {
        self.ids.insert(new.id);
        if let Some(former) = new.former_id {
            self.id(former.id);
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
    pub fn write(&mut self, write: &Write) {
        match write {
            Write::CreateEvent(new) => {
                self.event(new);
                self.bodies = self.bodies.max(Bodies::Sent);
            }
            Write::UpdateEvent(edit) => edit.ids().for_each(|id| self.id(id)),
            Write::RestoreEvent(restore) => restore.ids().for_each(|id| self.id(id)),
            Write::CreateEventType(new) => self.event_type(new),
            Write::UpdateEventType(edit) => {
                self.ids.insert(edit.id);
                self.type_names.extend(edit.patch.name.clone());
            }
            Write::DeleteEvent(removal) => self.id(removal.id),
            Write::DeleteEventType(removal) => {
                self.id(removal.id);
                self.usages.insert(removal.id);
            }
        }
    }

    /// Adds what another call of the same user read_set.
    pub fn extend(&mut self, other: &Self) {
        self.ids.extend(&other.ids);
        self.keys.extend(other.keys.iter().cloned());
        self.type_names.extend(other.type_names.iter().cloned());
        self.usages.extend(&other.usages);
        self.bodies = self.bodies.max(other.bodies);
    }

    /// Adds the keys of a type.
    fn event_type(&mut self, new: &NewType) {
        if new.origin == IdOrigin::Sent {
            self.ids.insert(new.id);
        }
        self.type_names.insert(new.name.clone());
    }

    pub(super) fn usages(&self) -> &HashSet<Uuid> {
        &self.usages
    }

    pub(super) fn type_names(&self) -> &HashSet<String> {
        &self.type_names
    }

    pub(super) fn bodies(&self) -> Bodies {
        self.bodies
    }
}

/// The parameters of [`super::sql::load`], and whether there are external keys and names among them.
pub(super) fn tables(
    backend: DbBackend,
    users: &[Uuid],
    read_sets: &BTreeMap<Uuid, &ReadSet>,
) -> (Vec<Value>, bool, bool) {
    let of_each = || users.iter().map(|user_id| (*user_id, read_sets[user_id]));
    let ids = of_each().flat_map(|(user, read_set)| read_set.ids.iter().map(move |id| (user, *id)));
    let mut ids: Vec<(Uuid, Uuid)> = ids.collect();
    // In the order of the index.
    ids.sort_unstable();
    let (owners, ids) = ids.into_iter().unzip();
    let mut values = vec![dialect::ids(backend, users)];
    values.extend(dialect::table(backend, [List::Ids(owners), List::Ids(ids)]));

    let keys = of_each().flat_map(|(user, read_set)| read_set.keys.iter().map(move |key| (user, key)));
    let (owners, keys): (Vec<Uuid>, Vec<&(String, String, Uuid)>) = keys.unzip();
    if !keys.is_empty() {
        let ids = keys.iter().map(|(_, _, id)| *id).collect();
        let (sources, externals) =
            keys.iter().map(|(source, key, _)| (source.as_str(), key.as_str())).unzip();
        let columns = [List::Ids(owners), List::Ids(ids), List::Texts(sources), List::Texts(externals)];
        values.extend(dialect::table(backend, columns));
    }

    let names = of_each()
        .flat_map(|(user, read_set)| read_set.type_names.iter().map(move |name| (user, name.as_str())));
    let (owners, names): (Vec<Uuid>, Vec<&str>) = names.unzip();
    let has_names = !names.is_empty();
    if has_names {
        values.extend(dialect::table(backend, [List::Ids(owners), List::Texts(names)]));
    }
    (values, !keys.is_empty(), has_names)
}
