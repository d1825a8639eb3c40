//! The state of one user that a call can touch, as loaded and then as changed: every lookup sees what
//! earlier items of the call did.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::rules::row::{EventRow, TypeRow};

/// The kinds of things that have ids and aliases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// An event.
    Event,
    /// An event type.
    EventType,
}

/// Rows of one kind: what was loaded, what changed, in which order.
#[derive(Debug)]
struct Rows<Row> {
    by_id: HashMap<Uuid, Arc<Row>>,
    aliases: HashMap<Uuid, Uuid>,
    loaded: HashSet<Uuid>,
}

impl<Row> Default for Rows<Row> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), aliases: HashMap::new(), loaded: HashSet::new() }
    }
}

impl<Row> Rows<Row> {
    fn find(&self, id: Uuid) -> Option<Arc<Row>> {
        let canonical = if self.by_id.contains_key(&id) { Some(&id) } else { self.aliases.get(&id) };
        canonical.and_then(|id| self.by_id.get(id)).map(Arc::clone)
    }

    fn knows(&self, id: Uuid) -> bool {
        self.by_id.contains_key(&id) || self.aliases.contains_key(&id)
    }
}

/// What the items of a call can touch.
#[derive(Debug, Default)]
pub struct World {
    events: Rows<EventRow>,
    events_by_key: HashMap<(String, String), Uuid>,
    types: Rows<TypeRow>,
    types_by_name: HashMap<String, Uuid>,
    import_ids: HashSet<Uuid>,
    changed: Vec<(Entity, Uuid)>,
    is_changed: HashSet<(Entity, Uuid)>,
    new_aliases: Vec<(Entity, Uuid, Uuid)>,
}

/// What is to be written: each changed row once, already numbered.
#[derive(Debug, Default, PartialEq)]
pub struct Net {
    /// Events that were not stored before.
    pub new_events: Vec<EventRow>,
    /// Events that were.
    pub changed_events: Vec<EventRow>,
    /// Types that were not stored before.
    pub new_types: Vec<TypeRow>,
    /// Kind, alias, canonical id.
    pub aliases: Vec<(Entity, Uuid, Uuid)>,
    /// The head of the feed afterwards.
    pub head: i64,
}

impl Net {
    /// Whether nothing is to be written at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed_rows() == 0 && self.aliases.is_empty()
    }

    /// How many positions it takes.
    #[must_use]
    pub fn changed_rows(&self) -> usize {
        self.new_events.len() + self.changed_events.len() + self.new_types.len()
    }
}

impl World {
    /// Adds a stored event.
    pub fn load_event(&mut self, row: EventRow) {
        let id = row.frame.id;
        self.index_event(&row);
        self.events.loaded.insert(id);
        self.events.by_id.insert(id, Arc::new(row));
    }

    /// Adds a stored type.
    pub fn load_type(&mut self, row: TypeRow) {
        let id = row.frame.id;
        self.index_type(&row);
        self.types.loaded.insert(id);
        self.types.by_id.insert(id, Arc::new(row));
    }

    /// Adds a stored alias.
    pub fn load_alias(&mut self, entity: Entity, alias: Uuid, id: Uuid) {
        match entity {
            Entity::Event => self.events.aliases.insert(alias, id),
            Entity::EventType => self.types.aliases.insert(alias, id),
        };
    }

    /// Adds the id of a stored import.
    pub fn load_import_id(&mut self, id: Uuid) {
        self.import_ids.insert(id);
    }

    /// The event with that id or alias.
    #[must_use]
    pub fn event(&self, id: Uuid) -> Option<Arc<EventRow>> {
        self.events.find(id)
    }

    /// The event with that external key.
    #[must_use]
    pub fn event_by_key(&self, source_type: &str, external_id: Option<&str>) -> Option<Arc<EventRow>> {
        let key = (source_type.to_owned(), external_id?.to_owned());
        self.events.find(*self.events_by_key.get(&key)?)
    }

    /// The type with that id or alias.
    #[must_use]
    pub fn event_type(&self, id: Uuid) -> Option<Arc<TypeRow>> {
        self.types.find(id)
    }

    /// The living type of that name.
    #[must_use]
    pub fn type_by_name(&self, name: &str) -> Option<Arc<TypeRow>> {
        self.types.find(*self.types_by_name.get(name)?)
    }

    /// Whether the id is in use by another kind than this.
    #[must_use]
    pub fn is_used_beside(&self, entity: Entity, id: Uuid) -> bool {
        let by_sibling = match entity {
            Entity::Event => self.types.knows(id),
            Entity::EventType => self.events.knows(id),
        };
        by_sibling || self.import_ids.contains(&id)
    }

    /// Lets an id that was sent stand for a row.
    pub fn add_alias(&mut self, entity: Entity, alias: Uuid, id: Uuid) {
        self.load_alias(entity, alias, id);
        self.new_aliases.push((entity, alias, id));
    }

    /// Writes an event, new or changed.
    pub fn put_event(&mut self, row: EventRow) -> Arc<EventRow> {
        self.mark(Entity::Event, row.frame.id);
        self.index_event(&row);
        let row = Arc::new(row);
        self.events.by_id.insert(row.frame.id, Arc::clone(&row));
        row
    }

    /// Writes a type, new or changed.
    pub fn put_type(&mut self, row: TypeRow) -> Arc<TypeRow> {
        self.mark(Entity::EventType, row.frame.id);
        self.index_type(&row);
        let row = Arc::new(row);
        self.types.by_id.insert(row.frame.id, Arc::clone(&row));
        row
    }

    /// What is to be written, numbered from `head` on in the order of the first change.
    #[must_use]
    pub fn net(self, head: i64) -> Net {
        let mut net = Net { aliases: self.new_aliases, head, ..Net::default() };
        for (entity, id) in self.changed {
            net.head += 1;
            match entity {
                Entity::Event => {
                    let mut row = EventRow::clone(&self.events.by_id[&id]);
                    row.frame.change_seq = net.head;
                    let stored = self.events.loaded.contains(&id);
                    if stored { net.changed_events.push(row) } else { net.new_events.push(row) }
                }
                Entity::EventType => {
                    let mut row = TypeRow::clone(&self.types.by_id[&id]);
                    row.frame.change_seq = net.head;
                    net.new_types.push(row);
                }
            }
        }
        net
    }

    fn mark(&mut self, entity: Entity, id: Uuid) {
        if self.is_changed.insert((entity, id)) {
            self.changed.push((entity, id));
        }
    }

    fn index_event(&mut self, row: &EventRow) {
        if let Some(external_id) = &row.external_id {
            self.events_by_key.insert((row.source_type.clone(), external_id.clone()), row.frame.id);
        }
    }

    fn index_type(&mut self, row: &TypeRow) {
        if let Some(content) = &row.content {
            self.types_by_name.insert(content.name.clone(), row.frame.id);
        }
    }
}
