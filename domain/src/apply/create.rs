//! Creates: pure in the stored state. What is there already is returned as it is.

use std::sync::Arc;

use uuid::Uuid;

use super::{Answer, Entity, MatchKey, Outcome, UnitOfWork, WriteContext};
use crate::content_hash::{self, TypeKey};
use crate::draft::{IdOrigin, NewEvent, NewType, TypeRef};
use crate::fault_injection;
use crate::problem::{Code, FieldProblem};
use crate::row::{DeletedBy, EventRow, RowMeta, TypeContent, TypeRow};

fn id_in_use() -> FieldProblem {
    FieldProblem::new("/id", Code::IdInUse, "the id belongs to something else of yours")
}

/// Creates an event, or says what is there in its place.
pub fn create_event(unit: &mut UnitOfWork, context: &WriteContext<'_>, new: &NewEvent) -> Answer<EventRow> {
    if let Some(row) = unit.event(new.id) {
        return found_event(unit, context, new, &row, MatchKey::Id);
    }
    if unit.is_used_beside(Entity::Event, new.id) {
        return context.reject(new.id, vec![id_in_use()]);
    }
    if let Some(row) = by_former_id(unit, new) {
        return found_event(unit, context, new, &row, MatchKey::Id);
    }
    if let Some(row) = unit.event_by_key(&new.source_type, new.external_id.as_deref()) {
        let answer = found_event(unit, context, new, &row, MatchKey::ExternalId);
        if new.origin == IdOrigin::Sent && answer.outcome != Outcome::Rejected {
            unit.add_alias(Entity::Event, new.id, row.meta.id);
        }
        return answer;
    }
    if let Some(answer) = depends_on_rejected(unit, new, "/eventTypeId") {
        return answer;
    }
    let mut errors = Vec::new();
    errors.extend(context.check_new_id(new.id).err());
    errors.extend(find_type(unit, new, "/eventTypeId").err());
    if !errors.is_empty() {
        return context.reject(new.id, errors);
    }
    let type_id = settle_type(unit, context, new);
    let row = event_row(context, new, context.meta(new.id), type_id);
    Answer::done(Outcome::Created, None, false, unit.put_event(row))
}

/// The event that is stored by the id that such records had before. Of one that was deleted nothing tells whether it is
/// the same: what a person has deleted does not come back.
fn by_former_id(unit: &UnitOfWork, new: &NewEvent) -> Option<Arc<EventRow>> {
    let former = new.former_id?;
    let row = unit.event(former.id)?;
    let is_same = row.content.as_ref().is_none_or(|content| {
        let [stored, sent] = [&content.body.properties, &new.body.properties]
            .map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap_or_default());
        // Of what somebody has changed since it was imported nothing may be left to compare.
        let is_edited = content.import_version != Some(row.meta.version);
        let mut pointers = former.told_apart_by.iter();
        let is_bare = former.told_apart_by.iter().all(|pointer| stored.pointer(pointer).is_none());
        (is_edited && is_bare) || pointers.all(|pointer| stored.pointer(pointer) == sent.pointer(pointer))
    });
    is_same.then_some(row)
}

fn found_event(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    new: &NewEvent,
    row: &Arc<EventRow>,
    key: MatchKey,
) -> Answer<EventRow> {
    match (&row.content, row.meta.deletion.map(|deletion| deletion.by)) {
        (Some(content), _) => {
            let differs = content_of(unit, new) != Some(content.hash);
            if fault_injection::is_injected("plant-duplicate-bumps") {
                unit.put_event(EventRow::clone(row));
            }
            if differs && fault_injection::is_injected("plant-duplicate-overwrites") {
                let meta = context.next_meta(&row.meta, None);
                unit.put_event(row.with_content(meta, content.event_type_id, new.body.clone(), None));
            }
            let lacks_body = unit.lacks_body(row);
            let mut row = Arc::clone(row);
            if lacks_body && !differs {
                // Equal hashes mean equal bodies, so that the one that was sent stands for the one that is stored.
                if let Some(content) = &mut Arc::make_mut(&mut row).content {
                    content.body = new.body.clone();
                }
            }
            let answer = Answer::done(Outcome::Duplicate, Some(key), differs, row);
            Answer { lacks_body: lacks_body && differs, ..answer }
        }
        (None, Some(by))
            if by == DeletedBy::Rollback || fault_injection::is_injected("plant-create-revives") =>
        {
            if let Some(answer) = depends_on_rejected(unit, new, "/eventTypeId") {
                return answer;
            }
            if let Err(problem) = find_type(unit, new, "/eventTypeId") {
                return context.reject(new.id, vec![problem]);
            }
            let type_id = settle_type(unit, context, new);
            let meta = context.recreated_meta(&row.meta);
            let import = context.import_job_id.map(|id| (id, meta.version));
            let anew = row.with_content(meta, type_id, new.body.clone(), import);
            Answer::done(Outcome::Created, Some(key), false, unit.put_event(anew))
        }
        (None, _) => Answer::done(Outcome::Deleted, Some(key), false, Arc::clone(row)),
    }
}

/// The hash of an input as it would be stored now; none when its type is not there.
pub(super) fn content_of(unit: &UnitOfWork, new: &NewEvent) -> Option<[u8; 32]> {
    let type_id = match &new.type_ref {
        TypeRef::Id(id) => unit.event_type(*id).map(|row| row.meta.id),
        TypeRef::Name { name, .. } => unit.type_by_name(name).map(|row| row.meta.id),
    }?;
    Some(content_hash::of_event(
        TypeKey::Id(type_id),
        &new.source_type,
        new.external_id.as_deref(),
        &new.body,
    ))
}

/// Whether the type of a row that would be written is alive, or can be made.
pub(super) fn find_type(unit: &UnitOfWork, new: &NewEvent, pointer: &str) -> Result<(), FieldProblem> {
    let TypeRef::Id(id) = new.type_ref else {
        return Ok(());
    };
    if unit.event_type(id).is_some_and(|row| row.content.is_some()) { Ok(()) } else { Err(no_type(pointer)) }
}

pub(super) fn no_type(pointer: &str) -> FieldProblem {
    FieldProblem::new(pointer, Code::EventTypeNotFound, "no living event type is known by it")
}

/// Whether the type is one that was rejected earlier in the call.
pub(super) fn depends_on_rejected(
    unit: &UnitOfWork,
    new: &NewEvent,
    pointer: &str,
) -> Option<Answer<EventRow>> {
    let TypeRef::Id(id) = new.type_ref else {
        return None;
    };
    if unit.event_type(id).is_some() {
        return None;
    }
    unit.dependency(id, pointer).map(Answer::rejected)
}

/// The canonical id of the type; a type that is only named is made when missing.
pub(super) fn settle_type(unit: &mut UnitOfWork, context: &WriteContext<'_>, new: &NewEvent) -> Uuid {
    match &new.type_ref {
        TypeRef::Id(id) => unit.event_type(*id).map_or(*id, |row| row.meta.id),
        TypeRef::Name { name, fresh_id } => {
            if let Some(row) = unit.type_by_name(name) {
                return row.meta.id;
            }
            let made = NewType {
                id: *fresh_id,
                origin: IdOrigin::Made,
                name: name.clone(),
                color: None,
                icon: None,
            };
            unit.put_type(type_row(&made, context.meta(made.id))).meta.id
        }
    }
}

fn event_row(context: &WriteContext<'_>, new: &NewEvent, meta: RowMeta, event_type_id: Uuid) -> EventRow {
    let import = context.import_job_id.map(|id| (id, meta.version));
    let (source_type, external_id) = (new.source_type.clone(), new.external_id.clone());
    EventRow { meta, source_type, external_id, content: None }.filled(event_type_id, new.body.clone(), import)
}

/// Creates an event type, or says what is there in its place.
pub fn create_event_type(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    new: &NewType,
) -> Answer<TypeRow> {
    if let Some(row) = unit.event_type(new.id) {
        return found_type(new, row, MatchKey::Id);
    }
    if unit.is_used_beside(Entity::EventType, new.id) {
        return context.reject(new.id, vec![id_in_use()]);
    }
    if let Some(row) = unit.type_by_name(&new.name) {
        if new.origin == IdOrigin::Sent {
            unit.add_alias(Entity::EventType, new.id, row.meta.id);
        }
        return found_type(new, row, MatchKey::Name);
    }
    if let Err(problem) = context.check_new_id(new.id) {
        return context.reject(new.id, vec![problem]);
    }
    Answer::done(Outcome::Created, None, false, unit.put_type(type_row(new, context.meta(new.id))))
}

fn found_type(new: &NewType, row: Arc<TypeRow>, key: MatchKey) -> Answer<TypeRow> {
    let hash = content_hash::of_type(&new.name, new.color.as_deref(), new.icon.as_deref());
    match &row.content {
        Some(content) => {
            let differs = content.hash != hash;
            Answer::done(Outcome::Duplicate, Some(key), differs, row)
        }
        None => Answer::done(Outcome::Deleted, Some(key), false, row),
    }
}

fn type_row(new: &NewType, meta: RowMeta) -> TypeRow {
    let content = TypeContent::new(new.name.clone(), new.color.clone(), new.icon.clone());
    TypeRow { meta, content: Some(content) }
}
