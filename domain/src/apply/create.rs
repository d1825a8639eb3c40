//! Decides the creates of events and event types.
//!
//! A create never changes a row that exists already: its answer is the row, as it is stored. If the row was
//! found by another key than the id that was sent, this id becomes an alias of it. The one exception is an
//! event that the rollback of an import deleted. A create makes that event again.

use std::sync::Arc;

use uuid::Uuid;

use super::{Answer, Entity, MatchKey, Outcome, UnitOfWork, WriteContext};
use crate::content_hash::{self, TypeKey};
use crate::draft::{IdOrigin, NewEvent, NewType, TypeRef};
use crate::fault_injection;
use crate::problem::{Code, FieldProblem};
use crate::row::{DeletedBy, EventRow, RowMeta, TypeContent, TypeRow, Writer};

fn id_in_use_problem() -> FieldProblem {
    FieldProblem::new(
        "/id",
        Code::IdInUse,
        "the id is already used for something else of yours: use a new id",
    )
}

/// Returns a unit of work in which these event types are living and nothing else exists.
///
/// Creates of events can be decided over it before anything is read. The decision holds only if the database
/// turns out to have these types, and none of the ids and external ids of the events. Each type is given by its
/// id and its name, which is empty if it is not known. The types in the answers are placeholders.
#[must_use]
pub fn assume_only_types_exist(types: impl IntoIterator<Item = (Uuid, String)>) -> UnitOfWork {
    let mut unit = UnitOfWork::default();
    for (id, name) in types {
        let writer = Writer { client_id: None, run_start: 0, edit_id: None };
        let (created_at, updated_at) = (0, 0);
        let meta = RowMeta { id, version: 0, change_seq: 0, writer, created_at, updated_at, deletion: None };
        let content = TypeContent { name, color: None, icon: None, hash: [0; 32] };
        unit.add_stored_type(TypeRow { meta, content: Some(content) });
    }
    unit
}

/// Creates an event in the unit of work, and its type if that is given by a new name. If an event with its
/// id, its former id or its external id exists, the answer is that event, unchanged. Only an event that a
/// rollback deleted is created again.
pub fn create_event(unit: &mut UnitOfWork, context: &WriteContext<'_>, new: &NewEvent) -> Answer<EventRow> {
    if let Some(row) = unit.find_event(new.id) {
        return answer_or_recreate_existing_event(unit, context, new, &row, MatchKey::Id);
    }
    if unit.is_id_of_other_kind(Entity::Event, new.id) {
        return context.rejection_answer(new.id, vec![id_in_use_problem()]);
    }
    if let Some(row) = find_event_stored_under_former_id(unit, new) {
        return answer_or_recreate_existing_event(unit, context, new, &row, MatchKey::Id);
    }
    if let Some(row) = unit.find_event_by_external_id(&new.source_type, new.external_id.as_deref()) {
        let answer = answer_or_recreate_existing_event(unit, context, new, &row, MatchKey::ExternalId);
        if new.origin == IdOrigin::Sent && answer.outcome != Outcome::Rejected {
            unit.add_new_alias(Entity::Event, new.id, row.meta.id);
        }
        return answer;
    }
    if let Some(answer) = rejection_if_type_was_rejected(unit, new, "/eventTypeId") {
        return answer;
    }
    let mut errors = Vec::new();
    errors.extend(context.check_new_id(new.id).err());
    errors.extend(check_type_is_living(unit, new, "/eventTypeId").err());
    if !errors.is_empty() {
        return context.rejection_answer(new.id, errors);
    }
    let type_id = find_or_create_type_id(unit, context, new);
    let row = build_event_row(context, new, context.meta_of_new_row(new.id), type_id);
    Answer::new_answer_with_row(Outcome::Created, None, false, unit.put_changed_event(row))
}

/// Finds the event that an earlier version of the server stored for this record, under its former id. A
/// living event must have the same properties that distinguish such records. A deleted event always matches,
/// because its content is gone: an event that a person deleted must not come back.
fn find_event_stored_under_former_id(unit: &UnitOfWork, new: &NewEvent) -> Option<Arc<EventRow>> {
    let former = new.former_id?;
    let row = unit.find_event(former.id)?;
    let is_same = row.content.as_ref().is_none_or(|content| {
        let [stored, sent] = [&content.body.properties, &new.body.properties]
            .map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap_or_default());
        // An edit after the import may have removed the values that would have to be compared.
        let is_edited = content.import_version != Some(row.meta.version);
        let mut pointers = former.distinguished_by.iter();
        let lacks_values = former.distinguished_by.iter().all(|pointer| stored.pointer(pointer).is_none());
        (is_edited && lacks_values)
            || pointers.all(|pointer| stored.pointer(pointer) == sent.pointer(pointer))
    });
    is_same.then_some(row)
}

/// The answer to the create of an event that exists: DUPLICATE (with `differs` if the content is another), or
/// DELETED for a tombstone. An event that a rollback deleted is created again in the unit of work.
fn answer_or_recreate_existing_event(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    new: &NewEvent,
    row: &Arc<EventRow>,
    key: MatchKey,
) -> Answer<EventRow> {
    match (&row.content, row.meta.deletion.map(|deletion| deletion.by)) {
        (Some(content), _) => {
            let differs = hash_new_event(unit, new) != Some(content.hash);
            if fault_injection::is_injected("plant-duplicate-bumps") {
                unit.put_changed_event(EventRow::clone(row));
            }
            if differs && fault_injection::is_injected("plant-duplicate-overwrites") {
                let meta = context.meta_of_next_version(&row.meta, None);
                unit.put_changed_event(row.with_meta_and_content(
                    meta,
                    content.event_type_id,
                    new.body.clone(),
                    None,
                ));
            }
            let lacks_body = unit.lacks_body(row);
            let mut row = Arc::clone(row);
            if lacks_body && !differs {
                // The hashes are equal, so the sent body equals the stored one.
                if let Some(content) = &mut Arc::make_mut(&mut row).content {
                    content.body = new.body.clone();
                }
            }
            let answer = Answer::new_answer_with_row(Outcome::Duplicate, Some(key), differs, row);
            Answer { lacks_body: lacks_body && differs, ..answer }
        }
        (None, Some(by))
            if by == DeletedBy::Rollback || fault_injection::is_injected("plant-create-revives") =>
        {
            if let Some(answer) = rejection_if_type_was_rejected(unit, new, "/eventTypeId") {
                return answer;
            }
            if let Err(problem) = check_type_is_living(unit, new, "/eventTypeId") {
                return context.rejection_answer(new.id, vec![problem]);
            }
            let type_id = find_or_create_type_id(unit, context, new);
            let meta = context.meta_of_recreated_row(&row.meta);
            let import = context.import_job_id.map(|id| (id, meta.version));
            let recreated = row.with_meta_and_content(meta, type_id, new.body.clone(), import);
            Answer::new_answer_with_row(Outcome::Created, Some(key), false, unit.put_changed_event(recreated))
        }
        (None, _) => Answer::new_answer_with_row(Outcome::Deleted, Some(key), false, Arc::clone(row)),
    }
}

/// The content hash that a new event would have if it were stored now. `None` if its type does not exist yet.
pub(super) fn hash_new_event(unit: &UnitOfWork, new: &NewEvent) -> Option<[u8; 32]> {
    let type_id = match &new.type_ref {
        TypeRef::Id(id) => unit.find_type(*id).map(|row| row.meta.id),
        TypeRef::Name { name, .. } => unit.find_type_by_name(name).map(|row| row.meta.id),
    }?;
    Some(content_hash::hash_event(
        TypeKey::Id(type_id),
        &new.source_type,
        new.external_id.as_deref(),
        &new.body,
    ))
}

/// Checks that the type of an event is living, if it is given by its id. A type that is given by its name
/// always passes, because it is created if it does not exist.
///
/// # Errors
/// [`Code::EventTypeNotFound`] at `pointer` if no living type has the id.
pub(super) fn check_type_is_living(
    unit: &UnitOfWork,
    new: &NewEvent,
    pointer: &str,
) -> Result<(), FieldProblem> {
    let TypeRef::Id(id) = new.type_ref else {
        return Ok(());
    };
    if unit.find_type(id).is_some_and(|row| row.content.is_some()) {
        Ok(())
    } else {
        Err(type_not_found_problem(pointer))
    }
}

pub(super) fn type_not_found_problem(pointer: &str) -> FieldProblem {
    FieldProblem::new(
        pointer,
        Code::EventTypeNotFound,
        "no living event type has this id: create the type first",
    )
}

/// The rejection of an event whose type does not exist because an item with the id of the type was rejected
/// earlier in the call. Otherwise `None`.
pub(super) fn rejection_if_type_was_rejected(
    unit: &UnitOfWork,
    new: &NewEvent,
    pointer: &str,
) -> Option<Answer<EventRow>> {
    let TypeRef::Id(id) = new.type_ref else {
        return None;
    };
    if unit.find_type(id).is_some() {
        return None;
    }
    unit.rejected_dependency_problem(id, pointer).map(Answer::new_rejected)
}

/// The canonical id of the type of a new event. A type that is given by its name is created in the unit of
/// work if it does not exist.
pub(super) fn find_or_create_type_id(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    new: &NewEvent,
) -> Uuid {
    match &new.type_ref {
        TypeRef::Id(id) => unit.find_type(*id).map_or(*id, |row| row.meta.id),
        TypeRef::Name { name, fresh_id } => {
            if let Some(row) = unit.find_type_by_name(name) {
                return row.meta.id;
            }
            let new_type = NewType {
                id: *fresh_id,
                origin: IdOrigin::Generated,
                name: name.clone(),
                color: None,
                icon: None,
            };
            unit.put_changed_type(build_type_row(&new_type, context.meta_of_new_row(new_type.id))).meta.id
        }
    }
}

fn build_event_row(
    context: &WriteContext<'_>,
    new: &NewEvent,
    meta: RowMeta,
    event_type_id: Uuid,
) -> EventRow {
    let import = context.import_job_id.map(|id| (id, meta.version));
    let (source_type, external_id) = (new.source_type.clone(), new.external_id.clone());
    EventRow { meta, source_type, external_id, content: None }.with_content(
        event_type_id,
        new.body.clone(),
        import,
    )
}

/// Creates an event type in the unit of work. If a type with its id or its name exists, the answer is that
/// type, unchanged. If it was found by its name, an id that the client sent becomes an alias of it.
pub fn create_event_type(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    new: &NewType,
) -> Answer<TypeRow> {
    if let Some(row) = unit.find_type(new.id) {
        return answer_for_existing_type(new, row, MatchKey::Id);
    }
    if unit.is_id_of_other_kind(Entity::EventType, new.id) {
        return context.rejection_answer(new.id, vec![id_in_use_problem()]);
    }
    if let Some(row) = unit.find_type_by_name(&new.name) {
        if new.origin == IdOrigin::Sent {
            unit.add_new_alias(Entity::EventType, new.id, row.meta.id);
        }
        return answer_for_existing_type(new, row, MatchKey::Name);
    }
    if let Err(problem) = context.check_new_id(new.id) {
        return context.rejection_answer(new.id, vec![problem]);
    }
    Answer::new_answer_with_row(
        Outcome::Created,
        None,
        false,
        unit.put_changed_type(build_type_row(new, context.meta_of_new_row(new.id))),
    )
}

/// The answer to the create of an event type that exists: DUPLICATE (with `differs` if the content is
/// another), or DELETED for a tombstone.
fn answer_for_existing_type(new: &NewType, row: Arc<TypeRow>, key: MatchKey) -> Answer<TypeRow> {
    let hash = content_hash::hash_event_type(&new.name, new.color.as_deref(), new.icon.as_deref());
    match &row.content {
        Some(content) => {
            let differs = content.hash != hash;
            Answer::new_answer_with_row(Outcome::Duplicate, Some(key), differs, row)
        }
        None => Answer::new_answer_with_row(Outcome::Deleted, Some(key), false, row),
    }
}

fn build_type_row(new: &NewType, meta: RowMeta) -> TypeRow {
    let content = TypeContent::new(new.name.clone(), new.color.clone(), new.icon.clone());
    TypeRow { meta, content: Some(content) }
}
