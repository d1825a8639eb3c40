//! Holds the rows of one user that a call can touch, and collects the changes.
//! Each lookup sees what earlier items of the call did.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::row_set::RowSet;
use crate::fault_injection;
use crate::problem::{Code, FieldProblem, Problem};
use crate::row::{EventRow, TypeRow};

/// A kind of row that has an id and can have aliases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// An event.
    Event,
    /// An event type.
    EventType,
}

/// The loaded rows of one user that the items of its calls can touch, and the changes by these items.
#[derive(Debug, Default)]
pub struct UnitOfWork {
    events: RowSet<EventRow>,
    events_by_key: HashMap<(String, String), Uuid>,
    types: RowSet<TypeRow>,
    types_by_name: HashMap<String, Uuid>,
    import_ids: HashSet<Uuid>,
    change_order: Vec<(Entity, Uuid)>,
    changed: HashSet<(Entity, Uuid)>,
    new_aliases: Vec<Alias>,
    recorded_edit_ids: Vec<(Entity, Uuid)>,
    finalized_deletions: Vec<Uuid>,
    /// How many living events each type has: the stored ones, if they were counted, and those of this call.
    event_counts: HashMap<Uuid, i64>,
    rejected: HashMap<Uuid, Problem>,
    /// The rows to which an item of this call was applied, with the edit ids of those items.
    applied: HashMap<(Entity, Uuid), Vec<Uuid>>,
    /// Whether the events were loaded without their bodies, except those in `with_body`.
    is_without_bodies: bool,
    with_body: HashSet<Uuid>,
}

/// An id that was sent for a row that is stored under another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// The kind of the row.
    pub entity: Entity,
    /// The alias: the id that was sent.
    pub alias_id: Uuid,
    /// The canonical id of the row, under which it is stored.
    pub id: Uuid,
}

/// An edit id to store with a row that the edit did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedEdit {
    /// The kind of the row.
    pub entity: Entity,
    /// The id of the row.
    pub id: Uuid,
    /// The id of the edit.
    pub edit_id: Uuid,
}

/// The changes of one user to store. Each changed row is in it once, with its new feed position.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Events to insert.
    pub new_events: Vec<EventRow>,
    /// Events to update.
    pub changed_events: Vec<EventRow>,
    /// Event types to insert.
    pub new_types: Vec<TypeRow>,
    /// Event types to update.
    pub changed_types: Vec<TypeRow>,
    /// Rows in which only the id of the last edit changes.
    pub recorded_edit_ids: Vec<RecordedEdit>,
    /// Ids of events that a rollback deleted and a person has deleted since. Only `deleted_by` changes.
    pub finalized_deletions: Vec<Uuid>,
    /// Aliases to insert.
    pub aliases: Vec<Alias>,
    /// The feed head after the changes.
    pub head: i64,
}

impl Changes {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let records_nothing = self.recorded_edit_ids.is_empty() && self.finalized_deletions.is_empty();
        self.count_changed_rows() == 0 && self.aliases.is_empty() && records_nothing
    }

    /// How many events and event types are new or changed. Each of them takes one position of the feed.
    #[must_use]
    pub fn count_changed_rows(&self) -> usize {
        self.new_events.len() + self.changed_events.len() + self.new_types.len() + self.changed_types.len()
    }
}

impl UnitOfWork {
    /// An empty unit of work for creates. Its stored events have keys, hash, version and times, but no body.
    #[must_use]
    pub fn new_without_event_bodies() -> Self {
        Self { is_without_bodies: true, ..Self::default() }
    }

    /// Whether the body of this event was not loaded, and no item of the call has set it.
    pub(super) fn lacks_body(&self, row: &EventRow) -> bool {
        let id = row.meta.id;
        self.is_without_bodies
            && self.events.loaded.contains(&id)
            && !self.with_body.contains(&id)
            && !self.changed.contains(&(Entity::Event, id))
    }

    /// Adds an event that was loaded from the database, or replaces it. It does not count as changed.
    pub fn add_stored_event(&mut self, row: EventRow) {
        let id = row.meta.id;
        self.index_external_id(&row);
        self.events.loaded.insert(id);
        self.events.by_id.insert(id, Arc::new(row));
    }

    /// As [`Self::add_stored_event`], for an event that was loaded with its body although the others have none.
    pub fn add_stored_event_with_body(&mut self, row: EventRow) {
        self.with_body.insert(row.meta.id);
        self.add_stored_event(row);
    }

    /// Adds an event type that was loaded from the database, or replaces it. It does not count as changed.
    pub fn add_stored_type(&mut self, row: TypeRow) {
        let id = row.meta.id;
        self.index_type_name(&row);
        self.types.loaded.insert(id);
        self.types.by_id.insert(id, Arc::new(row));
    }

    /// Adds an alias that was loaded from the database: `alias` stands for the row with `id`.
    pub fn add_stored_alias(&mut self, entity: Entity, alias: Uuid, id: Uuid) {
        match entity {
            Entity::Event => self.events.aliases.insert(alias, id),
            Entity::EventType => self.types.aliases.insert(alias, id),
        };
    }

    /// Sets how many living events of a type are stored. The count may stop above what one call can delete.
    pub fn set_event_count_of_type(&mut self, event_type_id: Uuid, events: i64) {
        self.event_counts.insert(event_type_id, events);
    }

    /// Adds the id of a stored import, so that no new event or event type can have it.
    pub fn add_stored_import_id(&mut self, id: Uuid) {
        self.import_ids.insert(id);
    }

    /// The event with that id or alias, living or deleted.
    #[must_use]
    pub fn find_event(&self, id: Uuid) -> Option<Arc<EventRow>> {
        self.events.find_by_id_or_alias(id)
    }

    /// The event with that source and external id, living or deleted. `None` without an external id.
    #[must_use]
    pub fn find_event_by_external_id(
        &self,
        source_type: &str,
        external_id: Option<&str>,
    ) -> Option<Arc<EventRow>> {
        let key = (source_type.to_owned(), external_id?.to_owned());
        self.events.find_by_id_or_alias(*self.events_by_key.get(&key)?)
    }

    /// The event type with that id or alias, living or deleted.
    #[must_use]
    pub fn find_type(&self, id: Uuid) -> Option<Arc<TypeRow>> {
        self.types.find_by_id_or_alias(id)
    }

    /// The living event type with that name.
    #[must_use]
    pub fn find_type_by_name(&self, name: &str) -> Option<Arc<TypeRow>> {
        let named = |row: &Arc<TypeRow>| row.content.as_ref().is_some_and(|content| content.name == name);
        self.types.find_by_id_or_alias(*self.types_by_name.get(name)?).filter(named)
    }

    /// Whether a living event has that type. Stored events count only after `set_event_count_of_type`.
    #[must_use]
    pub fn is_type_in_use(&self, event_type_id: Uuid) -> bool {
        self.event_counts.get(&event_type_id).is_some_and(|events| *events > 0)
    }

    /// Records that an item with this id was rejected. A retryable rejection is not replaced: after a create
    /// that can be sent again, a wrong edit of the same id must not make its dependents fail for good.
    pub fn record_rejection(&mut self, id: Uuid, problem: Problem) {
        if !self.rejected.get(&id).is_some_and(|known| known.retryable) {
            self.rejected.insert(id, problem);
        }
    }

    /// Forgets which items were rejected and applied, before another call of the user. All changes stay.
    pub fn clear_rejections_and_applied_edits(&mut self) {
        self.rejected.clear();
        self.applied.clear();
    }

    /// The ids of the edits of this call that were applied to a row. `None` if no item was applied to it.
    pub(super) fn applied_edit_ids(&self, entity: Entity, id: Uuid) -> Option<&[Uuid]> {
        self.applied.get(&(entity, id)).map(Vec::as_slice)
    }

    /// Records that an item of this call was applied to a row, with its edit id if it has one.
    pub(super) fn record_applied_edit(&mut self, entity: Entity, id: Uuid, edit_id: Option<Uuid>) {
        self.applied.entry((entity, id)).or_default().extend(edit_id);
    }

    /// The problem for an item that needs this id, if an item with the id was rejected earlier in the call.
    #[must_use]
    pub fn rejected_dependency_problem(&self, id: Uuid, pointer: &str) -> Option<Problem> {
        let needed = self.rejected.get(&id)?;
        let detail = "an earlier item of the call, which this one needs, was rejected";
        let mut problem =
            Problem::from_field_problems(vec![FieldProblem::new(pointer, Code::DependencyRejected, detail)]);
        problem.retryable = needed.retryable;
        problem.retry_after_ms = needed.retry_after_ms;
        Some(problem)
    }

    /// The canonical ids of all events in the unit of work, living or deleted.
    pub fn event_ids(&self) -> impl Iterator<Item = Uuid> {
        self.events.by_id.keys().copied()
    }

    /// Whether an import, or a row of another kind than `entity`, has this id or alias.
    #[must_use]
    pub fn is_id_of_other_kind(&self, entity: Entity, id: Uuid) -> bool {
        let by_sibling = match entity {
            Entity::Event => self.types.contains_id_or_alias(id),
            Entity::EventType => self.events.contains_id_or_alias(id),
        };
        by_sibling || self.import_ids.contains(&id)
    }

    /// Adds an alias to store: `alias` was sent for the row that has the canonical id `id`.
    pub fn add_new_alias(&mut self, entity: Entity, alias: Uuid, id: Uuid) {
        self.add_stored_alias(entity, alias, id);
        self.new_aliases.push(Alias { entity, alias_id: alias, id });
    }

    /// Inserts or replaces an event in the unit of work, and marks it as changed. `row` must have its body.
    pub fn put_changed_event(&mut self, row: EventRow) -> Arc<EventRow> {
        self.mark_row_changed(Entity::Event, row.meta.id);
        self.index_external_id(&row);
        let row = Arc::new(row);
        let old = self.events.by_id.insert(row.meta.id, Arc::clone(&row));
        for (content, change) in
            [(old.as_ref().and_then(|old| old.content.as_ref()), -1), (row.content.as_ref(), 1)]
        {
            if let Some(content) = content {
                *self.event_counts.entry(content.event_type_id).or_default() += change;
            }
        }
        row
    }

    /// Records an edit that did not change an event. Only the edit id in `row` is to be stored.
    pub fn record_event_edit_id(&mut self, row: EventRow) -> Arc<EventRow> {
        let row = Arc::new(row);
        self.events.by_id.insert(row.meta.id, Arc::clone(&row));
        self.record_applied_edit(Entity::Event, row.meta.id, row.meta.writer.edit_id);
        self.recorded_edit_ids.push((Entity::Event, row.meta.id));
        row
    }

    /// Records that a person has deleted an event which a rollback had deleted. `row` is its tombstone.
    pub fn put_deletion_attributed_to_user(&mut self, row: EventRow) -> Arc<EventRow> {
        let row = Arc::new(row);
        self.events.by_id.insert(row.meta.id, Arc::clone(&row));
        self.finalized_deletions.push(row.meta.id);
        row
    }

    /// Records an edit that did not change an event type. Only the edit id in `row` is to be stored.
    pub fn record_type_edit_id(&mut self, row: TypeRow) -> Arc<TypeRow> {
        let row = Arc::new(row);
        self.types.by_id.insert(row.meta.id, Arc::clone(&row));
        self.record_applied_edit(Entity::EventType, row.meta.id, row.meta.writer.edit_id);
        self.recorded_edit_ids.push((Entity::EventType, row.meta.id));
        row
    }

    /// Inserts or replaces an event type in the unit of work, and marks it as changed.
    pub fn put_changed_type(&mut self, row: TypeRow) -> Arc<TypeRow> {
        self.mark_row_changed(Entity::EventType, row.meta.id);
        self.index_type_name(&row);
        let row = Arc::new(row);
        self.types.by_id.insert(row.meta.id, Arc::clone(&row));
        row
    }

    /// The changes to store. Positions follow the feed head `head`, in the order of each row's first change.
    #[must_use]
    pub fn into_changes(mut self, head: i64) -> Changes {
        let recorded_edit_ids = self.take_recorded_edits();
        let is_changed = |id: &Uuid| self.changed.contains(&(Entity::Event, *id));
        self.finalized_deletions.retain(|id| !is_changed(id));
        let (aliases, finalized_deletions) = (self.new_aliases, self.finalized_deletions);
        let mut changes =
            Changes { aliases, recorded_edit_ids, finalized_deletions, head, ..Changes::default() };
        for (entity, id) in self.change_order {
            changes.head += 1;
            match entity {
                Entity::Event => {
                    let mut row = self.events.take_row(id);
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
                    let mut row = self.types.take_row(id);
                    row.meta.change_seq = changes.head;
                    let stored = self.types.loaded.contains(&id);
                    if stored { changes.changed_types.push(row) } else { changes.new_types.push(row) }
                }
            }
        }
        changes
    }

    /// Empties the list of recorded edits, and returns one for each row that is otherwise unchanged.
    fn take_recorded_edits(&mut self) -> Vec<RecordedEdit> {
        let mut seen = HashSet::new();
        let mut edits = Vec::new();
        for (entity, id) in std::mem::take(&mut self.recorded_edit_ids) {
            let meta = match entity {
                Entity::Event => &self.events.by_id[&id].meta,
                Entity::EventType => &self.types.by_id[&id].meta,
            };
            if let Some(edit_id) = meta.writer.edit_id
                && !self.changed.contains(&(entity, id))
                && seen.insert((entity, id))
            {
                edits.push(RecordedEdit { entity, id, edit_id });
            }
        }
        edits
    }

    fn mark_row_changed(&mut self, entity: Entity, id: Uuid) {
        self.record_applied_edit(entity, id, None);
        if self.changed.insert((entity, id)) {
            self.change_order.push((entity, id));
        }
    }

    fn index_external_id(&mut self, row: &EventRow) {
        if let Some(external_id) = &row.external_id {
            self.events_by_key.insert((row.source_type.clone(), external_id.clone()), row.meta.id);
        }
    }

    fn index_type_name(&mut self, row: &TypeRow) {
        if let Some(content) = &row.content {
            self.types_by_name.insert(content.name.clone(), row.meta.id);
        }
    }
}
