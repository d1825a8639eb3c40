//! The state of one user that a call can touch, as loaded and then as changed: every lookup sees what
//! earlier items of the call did.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::fault_injection;
use crate::problem::{Code, FieldProblem, Problem};
use crate::row::{EventRow, TypeRow};

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

impl<Row: Clone> Rows<Row> {
    /// Hands out a row that is there, without a copy if no answer holds it.
    fn take(&mut self, id: Uuid) -> Row {
        Arc::unwrap_or_clone(self.by_id.remove(&id).expect("a changed row is there"))
    }
}

/// What the items of a call can touch.
#[derive(Debug, Default)]
pub struct UnitOfWork {
    events: Rows<EventRow>,
    events_by_key: HashMap<(String, String), Uuid>,
    types: Rows<TypeRow>,
    types_by_name: HashMap<String, Uuid>,
    import_ids: HashSet<Uuid>,
    changed: Vec<(Entity, Uuid)>,
    is_changed: HashSet<(Entity, Uuid)>,
    new_aliases: Vec<Alias>,
    recorded_edit_ids: Vec<(Entity, Uuid)>,
    finalized_deletions: Vec<Uuid>,
    /// Living events of a type: those stored, where they were counted, and those of this call.
    usage: HashMap<Uuid, i64>,
    rejected: HashMap<Uuid, Problem>,
    /// Rows to which an item of this call was applied, and the edits among those items.
    applied: HashMap<(Entity, Uuid), Vec<Uuid>>,
    /// What stored events say was not read.
    is_without_bodies: bool,
}

/// An id that was sent for a row that is stored under another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// What the row is.
    pub entity: Entity,
    /// The id that was sent.
    pub alias_id: Uuid,
    /// The id of the row.
    pub id: Uuid,
}

/// The last edit of a row that the edit did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedEdit {
    /// What the row is.
    pub entity: Entity,
    /// The id of the row.
    pub id: Uuid,
    /// The id of the edit.
    pub edit_id: Uuid,
}

/// What is to be written: each changed row once, already numbered.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Events that were not stored before.
    pub new_events: Vec<EventRow>,
    /// Events that were.
    pub changed_events: Vec<EventRow>,
    /// Types that were not stored before.
    pub new_types: Vec<TypeRow>,
    /// Types that were.
    pub changed_types: Vec<TypeRow>,
    /// Rows of which only the id of the last edit changes.
    pub recorded_edit_ids: Vec<RecordedEdit>,
    /// Events that a rollback took back and that a person has deleted since: that and nothing else changes.
    pub finalized_deletions: Vec<Uuid>,
    /// New aliases.
    pub aliases: Vec<Alias>,
    /// The head of the feed afterwards.
    pub head: i64,
}

impl Changes {
    /// Whether nothing is to be written at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let moves_nothing = self.recorded_edit_ids.is_empty() && self.finalized_deletions.is_empty();
        self.changed_rows() == 0 && self.aliases.is_empty() && moves_nothing
    }

    /// How many positions it takes.
    #[must_use]
    pub fn changed_rows(&self) -> usize {
        self.new_events.len() + self.changed_events.len() + self.new_types.len() + self.changed_types.len()
    }
}

impl UnitOfWork {
    /// For creates: the events that are loaded have keys, hash, version and times, but no body.
    #[must_use]
    pub fn without_bodies() -> Self {
        Self { is_without_bodies: true, ..Self::default() }
    }

    /// Whether this event is as it was loaded, without its body.
    pub(super) fn lacks_body(&self, row: &EventRow) -> bool {
        let id = row.meta.id;
        self.is_without_bodies
            && self.events.loaded.contains(&id)
            && !self.is_changed.contains(&(Entity::Event, id))
    }

    /// Adds a stored event.
    pub fn load_event(&mut self, row: EventRow) {
        let id = row.meta.id;
        self.index_event(&row);
        self.events.loaded.insert(id);
        self.events.by_id.insert(id, Arc::new(row));
    }

    /// Adds a stored type.
    pub fn load_type(&mut self, row: TypeRow) {
        let id = row.meta.id;
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

    /// Adds how many living events a type has; a lower bound will do.
    pub fn load_usage(&mut self, event_type_id: Uuid, events: i64) {
        self.usage.insert(event_type_id, events);
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
        let named = |row: &Arc<TypeRow>| row.content.as_ref().is_some_and(|content| content.name == name);
        self.types.find(*self.types_by_name.get(name)?).filter(named)
    }

    /// Whether a living event is of that type, whose usage was loaded.
    #[must_use]
    pub fn is_in_use(&self, event_type_id: Uuid) -> bool {
        self.usage.get(&event_type_id).is_some_and(|events| *events > 0)
    }

    /// Keeps in mind that the item about this id was rejected. Of several rejections one that may be sent
    /// again counts: a create that is to come again is not made hopeless by a bad edit behind it.
    pub fn reject(&mut self, id: Uuid, problem: Problem) {
        if !self.rejected.get(&id).is_some_and(|known| known.retryable) {
            self.rejected.insert(id, problem);
        }
    }

    /// Another call begins: what was rejected or applied before is no matter of its items.
    pub fn begin_call(&mut self) {
        self.rejected.clear();
        self.applied.clear();
    }

    /// The edits of this call that were applied to a row; none if no item of it was.
    pub(super) fn applied(&self, entity: Entity, id: Uuid) -> Option<&[Uuid]> {
        self.applied.get(&(entity, id)).map(Vec::as_slice)
    }

    /// An item of this call was applied to a row, perhaps an edit with an id.
    pub(super) fn apply_edit(&mut self, entity: Entity, id: Uuid, edit_id: Option<Uuid>) {
        self.applied.entry((entity, id)).or_default().extend(edit_id);
    }

    /// The problem of an item that needs what was rejected earlier in the call under this id.
    #[must_use]
    pub fn dependency(&self, id: Uuid, pointer: &str) -> Option<Problem> {
        let needed = self.rejected.get(&id)?;
        let detail = "what it needs was rejected earlier in the call";
        let mut problem =
            Problem::of_fields(vec![FieldProblem::new(pointer, Code::DependencyRejected, detail)]);
        problem.retryable = needed.retryable;
        problem.retry_after_ms = needed.retry_after_ms;
        Some(problem)
    }

    /// The events that are known.
    pub fn event_ids(&self) -> impl Iterator<Item = Uuid> {
        self.events.by_id.keys().copied()
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
        self.new_aliases.push(Alias { entity, alias_id: alias, id });
    }

    /// Writes an event, new or changed.
    pub fn put_event(&mut self, row: EventRow) -> Arc<EventRow> {
        self.mark(Entity::Event, row.meta.id);
        self.index_event(&row);
        let row = Arc::new(row);
        let old = self.events.by_id.insert(row.meta.id, Arc::clone(&row));
        for (content, change) in
            [(old.as_ref().and_then(|old| old.content.as_ref()), -1), (row.content.as_ref(), 1)]
        {
            if let Some(content) = content {
                *self.usage.entry(content.event_type_id).or_default() += change;
            }
        }
        row
    }

    /// Keeps the last edit of an event that it did not change.
    pub fn record_event_edit_id(&mut self, row: EventRow) -> Arc<EventRow> {
        let row = Arc::new(row);
        self.events.by_id.insert(row.meta.id, Arc::clone(&row));
        self.apply_edit(Entity::Event, row.meta.id, row.meta.writer.edit_id);
        self.recorded_edit_ids.push((Entity::Event, row.meta.id));
        row
    }

    /// Keeps that a person has deleted what a rollback took back.
    pub fn finalize_deletion(&mut self, row: EventRow) -> Arc<EventRow> {
        let row = Arc::new(row);
        self.events.by_id.insert(row.meta.id, Arc::clone(&row));
        self.finalized_deletions.push(row.meta.id);
        row
    }

    /// Keeps the last edit of a type that it did not change.
    pub fn record_type_edit_id(&mut self, row: TypeRow) -> Arc<TypeRow> {
        let row = Arc::new(row);
        self.types.by_id.insert(row.meta.id, Arc::clone(&row));
        self.apply_edit(Entity::EventType, row.meta.id, row.meta.writer.edit_id);
        self.recorded_edit_ids.push((Entity::EventType, row.meta.id));
        row
    }

    /// Writes a type, new or changed.
    pub fn put_type(&mut self, row: TypeRow) -> Arc<TypeRow> {
        self.mark(Entity::EventType, row.meta.id);
        self.index_type(&row);
        let row = Arc::new(row);
        self.types.by_id.insert(row.meta.id, Arc::clone(&row));
        row
    }

    /// What is to be written, numbered from `head` on in the order of the first change.
    #[must_use]
    pub fn into_changes(mut self, head: i64) -> Changes {
        let recorded_edit_ids = self.recorded_edit_ids();
        let is_changed = |id: &Uuid| self.is_changed.contains(&(Entity::Event, *id));
        self.finalized_deletions.retain(|id| !is_changed(id));
        let (aliases, finalized_deletions) = (self.new_aliases, self.finalized_deletions);
        let mut changes =
            Changes { aliases, recorded_edit_ids, finalized_deletions, head, ..Changes::default() };
        for (entity, id) in self.changed {
            changes.head += 1;
            match entity {
                Entity::Event => {
                    let mut row = self.events.take(id);
                    let stored = self.events.loaded.contains(&id);
                    if stored
                        && row.content.is_none()
                        && fault_injection::is_injected("plant-silent-tombstone")
                    {
                        changes.head -= 1;
                    } else {
                        row.meta.change_seq = changes.head;
                    }
                    if stored { changes.changed_events.push(row) } else { changes.new_events.push(row) }
                }
                Entity::EventType => {
                    let mut row = self.types.take(id);
                    row.meta.change_seq = changes.head;
                    let stored = self.types.loaded.contains(&id);
                    if stored { changes.changed_types.push(row) } else { changes.new_types.push(row) }
                }
            }
        }
        changes
    }

    /// Each recorded_edit_ids edit once, and none of a row that is written anyway.
    fn recorded_edit_ids(&mut self) -> Vec<RecordedEdit> {
        let mut seen = HashSet::new();
        let mut edits = Vec::new();
        for (entity, id) in std::mem::take(&mut self.recorded_edit_ids) {
            let meta = match entity {
                Entity::Event => &self.events.by_id[&id].meta,
                Entity::EventType => &self.types.by_id[&id].meta,
            };
            if let Some(edit_id) = meta.writer.edit_id
                && !self.is_changed.contains(&(entity, id))
                && seen.insert((entity, id))
            {
                edits.push(RecordedEdit { entity, id, edit_id });
            }
        }
        edits
    }

    fn mark(&mut self, entity: Entity, id: Uuid) {
        self.apply_edit(entity, id, None);
        if self.is_changed.insert((entity, id)) {
            self.changed.push((entity, id));
        }
    }

    fn index_event(&mut self, row: &EventRow) {
        if let Some(external_id) = &row.external_id {
            self.events_by_key.insert((row.source_type.clone(), external_id.clone()), row.meta.id);
        }
    }

    fn index_type(&mut self, row: &TypeRow) {
        if let Some(content) = &row.content {
            self.types_by_name.insert(content.name.clone(), row.meta.id);
        }
    }
}
