//! Edits, deletions and restores. The greatest id of an edit of the client that wrote last is kept with the row, so that
//! an edit which is sent again or comes late never undoes a newer one.

use std::sync::Arc;

use uuid::Uuid;

use super::{Answer, Entity, MatchKey, Outcome, UnitOfWork, WriteContext, create};
use crate::content_hash::{self, TypeKey};
use crate::draft::{EventEdit, EventPatch, Guard, Removal, Restore, TypeEdit};
use crate::fault_injection;
use crate::instant::{self, ParsedInstant};
use crate::problem::{Code, FieldProblem, Problem};
use crate::row::{DeletedBy, Deletion, EventBody, EventContent, EventRow, RowMeta, TypeContent, TypeRow};

const FOUND: Option<MatchKey> = Some(MatchKey::Id);

/// What the version and the last edit of a row say to an edit of it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes ahead.
    Go,
    /// It was applied before, or a newer one of the same client was.
    Stale,
    /// Somebody else changed the row since.
    Conflict,
}

impl WriteContext<'_> {
    fn judge(&self, unit: &UnitOfWork, entity: Entity, meta: &RowMeta, guard: &Guard) -> Verdict {
        if guard.edit_id.is_some_and(|edit| self.is_stale(unit, entity, meta, guard, edit)) {
            return Verdict::Stale;
        }
        match guard.expected_version {
            Some(expected) if expected != meta.version && !self.is_own_chain(meta, expected) => {
                Verdict::Conflict
            }
            _ => Verdict::Go,
        }
    }

    /// Whether an edit, or a newer one, was applied before. An edit that was made on the current version, and one that
    /// follows another in its call, is new whatever its id says: the clock of the device may have been put right.
    fn is_stale(&self, unit: &UnitOfWork, entity: Entity, meta: &RowMeta, guard: &Guard, edit: Uuid) -> bool {
        if self.client_id.is_none() {
            return false;
        }
        match unit.applied(entity, meta.id) {
            Some(applied) => applied.contains(&edit),
            None if guard.expected_version == Some(meta.version) => false,
            None => self.wrote(meta) && meta.writer.edit_id.is_some_and(|last| edit <= last),
        }
    }

    /// Whether every version since the expected one is this client's own.
    fn is_own_chain(&self, meta: &RowMeta, expected: i32) -> bool {
        self.wrote(meta) && expected < meta.version && expected >= meta.writer.run_start - 1
    }

    /// The meta that remembers an edit which changed nothing, if there is something to remember.
    fn meta_with_edit_id(&self, meta: &RowMeta, edit_id: Option<Uuid>) -> Option<RowMeta> {
        let edit_id = edit_id.filter(|edit| self.wrote(meta) && Some(*edit) > meta.writer.edit_id)?;
        let mut meta = meta.clone();
        meta.writer.edit_id = Some(edit_id);
        Some(meta)
    }

    fn deletion(&self) -> Option<Deletion> {
        Some(Deletion { at: self.now_ms, by: DeletedBy::User })
    }
}

impl<Row> Answer<Row> {
    fn conflict(row: Arc<Row>) -> Self {
        let detail = "it was changed since the expected version";
        let problem = Some(Problem::new(Code::VersionConflict, detail));
        Self { problem, ..Self::done(Outcome::Conflict, FOUND, false, row) }
    }
}

/// Nothing is known by the id, or it was rejected earlier in the call.
fn unknown<Row>(unit: &UnitOfWork, id: Uuid, pointer: &str) -> Answer<Row> {
    Answer::rejected(unit.dependency(id, pointer).unwrap_or_else(|| {
        Problem::of_fields(vec![FieldProblem::new(pointer, Code::NotFound, "nothing is known by this id")])
    }))
}

/// Changes an event.
pub fn update_event(unit: &mut UnitOfWork, context: &WriteContext<'_>, edit: &EventEdit) -> Answer<EventRow> {
    let Some(row) = unit.event(edit.id) else {
        return unknown(unit, edit.id, "/id");
    };
    let Some(content) = &row.content else {
        return Answer::done(Outcome::Deleted, FOUND, false, row);
    };
    let verdict = context.judge(unit, Entity::Event, &row.meta, &edit.guard);
    if verdict == Verdict::Stale {
        return Answer::done(Outcome::Unchanged, FOUND, false, row);
    }
    let body = patched(&content.body, &edit.patch);
    let wanted = edit.patch.event_type_id;
    let kind = wanted.map_or(Some(content.event_type_id), |id| unit.event_type(id).map(|row| row.meta.id));
    if let Some(kind) = kind
        && content_hash::of_event(TypeKey::Id(kind), &row.source_type, row.external_id.as_deref(), &body)
            == content.hash
    {
        return unchanged_event(unit, context, row, edit.guard.edit_id);
    }
    if verdict == Verdict::Conflict {
        return Answer::conflict(row);
    }
    if let Some(id) = wanted
        && kind.is_none()
        && let Some(problem) = unit.dependency(id, "/patch/eventTypeId")
    {
        return Answer::rejected(problem);
    }
    let mut errors = faults(&body, &edit.patch);
    let alive = kind.and_then(|id| unit.event_type(id)).is_some_and(|row| row.content.is_some());
    if wanted.is_some() && !alive {
        errors.push(create::no_type("/patch/eventTypeId"));
    }
    let Some(kind) = kind.filter(|_| errors.is_empty()) else {
        return Answer::rejected(Problem::of_fields(errors));
    };
    let import = content.import_job_id.zip(content.import_version);
    let changed = row.with_content(context.next_meta(&row.meta, edit.guard.edit_id), kind, body, import);
    unit.apply_edit(Entity::Event, row.meta.id, edit.guard.edit_id);
    Answer::done(Outcome::Updated, FOUND, false, unit.put_event(changed))
}

fn unchanged_event(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    row: Arc<EventRow>,
    edit_id: Option<Uuid>,
) -> Answer<EventRow> {
    let row = match context.meta_with_edit_id(&row.meta, edit_id) {
        Some(meta) => unit.record_event_edit_id(EventRow { meta, ..EventRow::clone(&row) }),
        None => row,
    };
    Answer::done(Outcome::Unchanged, FOUND, false, row)
}

/// What an event says once it is patched.
fn patched(old: &EventBody, patch: &EventPatch) -> EventBody {
    let is_all_day = patch.is_all_day.unwrap_or(old.is_all_day);
    let sent = |written: ParsedInstant| if is_all_day { written.date_ms } else { written.ms };
    let kept = |ms: i64| if is_all_day { instant::date_of(ms) } else { ms };
    let absent_notes =
        if fault_injection::is_injected("plant-absent-is-null") { None } else { old.notes.clone() };
    EventBody {
        timestamp: patch.timestamp.map_or_else(|| kept(old.timestamp), sent),
        end_date: patch.end_date.map_or_else(|| old.end_date.map(kept), |end| end.map(sent)),
        is_all_day,
        time_zone: patch.time_zone.clone().unwrap_or_else(|| old.time_zone.clone()),
        notes: patch.notes.clone().unwrap_or(absent_notes),
        location: patch.location.clone().unwrap_or_else(|| old.location.clone()),
        properties: patch.properties.clone().unwrap_or_else(|| old.properties.clone()),
    }
}

/// What is wrong only once patch and stored event are seen together.
fn faults(body: &EventBody, patch: &EventPatch) -> Vec<FieldProblem> {
    let mut errors = Vec::new();
    for (pointer, ms) in [("/patch/timestamp", Some(body.timestamp)), ("/patch/endDate", body.end_date)] {
        if ms.is_some_and(|ms| !instant::is_in_range(ms)) {
            errors.push(FieldProblem::new(pointer, Code::InvalidDatetime, instant::RULE));
        }
    }
    if body.end_date.is_some_and(|end| end < body.timestamp) {
        let pointer = if patch.end_date.is_some() { "/patch/endDate" } else { "/patch/timestamp" };
        errors.push(FieldProblem::new(pointer, Code::EndBeforeStart, "the end is before the start"));
    }
    errors
}

/// Deletes an event. What stays is a tombstone that keeps its id and keys.
pub fn delete_event(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    removal: &Removal,
) -> Answer<EventRow> {
    let Some(row) = unit.event(removal.id) else {
        return unknown(unit, removal.id, "/id");
    };
    match context.judge(unit, Entity::Event, &row.meta, &removal.guard) {
        Verdict::Stale => Answer::done(Outcome::Unchanged, FOUND, false, row),
        _ if row.content.is_none() => {
            let row = final_deletion(unit, row);
            unchanged_event(unit, context, row, removal.guard.edit_id)
        }
        Verdict::Conflict => Answer::conflict(row),
        Verdict::Go => {
            let next = context.next_meta(&row.meta, removal.guard.edit_id);
            let meta = RowMeta { deletion: context.deletion(), ..next };
            let tombstone = EventRow { meta, content: None, ..EventRow::clone(&row) };
            unit.apply_edit(Entity::Event, row.meta.id, removal.guard.edit_id);
            Answer::done(Outcome::Deleted, FOUND, false, unit.put_event(tombstone))
        }
    }
}

/// A person deletes what a rollback took back: nothing changes but that no import makes it anew.
fn final_deletion(unit: &mut UnitOfWork, row: Arc<EventRow>) -> Arc<EventRow> {
    match row.meta.deletion {
        Some(Deletion { at, by: DeletedBy::Rollback }) => {
            let mut row = EventRow::clone(&row);
            row.meta.deletion = Some(Deletion { at, by: DeletedBy::User });
            unit.finalize_deletion(row)
        }
        _ => row,
    }
}

/// Takes back an event that an import made and that nobody has changed since; any other stays.
pub fn take_back_event(unit: &mut UnitOfWork, context: &WriteContext<'_>, id: Uuid) {
    let Some(row) = unit.event(id) else {
        return;
    };
    let is_untouched = row.content.as_ref().is_some_and(|content| {
        content.import_job_id == context.import_job_id && content.import_version == Some(row.meta.version)
    });
    if is_untouched {
        let deletion = Some(Deletion { at: context.now_ms, by: DeletedBy::Rollback });
        let meta = RowMeta { deletion, ..context.next_meta(&row.meta, None) };
        unit.put_event(EventRow { meta, content: None, ..EventRow::clone(&row) });
    }
}

/// Brings a deleted event back, with the content that comes along.
pub fn restore_event(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    restore: &Restore,
) -> Answer<EventRow> {
    let new = &restore.event;
    let Some(row) = unit.event(new.id) else {
        return unknown(unit, new.id, "/event/id");
    };
    let verdict = context.judge(unit, Entity::Event, &row.meta, &restore.guard);
    if verdict == Verdict::Stale {
        return Answer::done(Outcome::Unchanged, FOUND, false, row);
    }
    if let Some(content) = &row.content {
        if is_same(unit, restore, &row, content) {
            return unchanged_event(unit, context, row, restore.guard.edit_id);
        }
        return Answer::conflict(row);
    }
    if verdict == Verdict::Conflict {
        return Answer::conflict(row);
    }
    if let Some(answer) = create::depends_on_rejected(unit, new, "/event/eventTypeId") {
        return answer;
    }
    if let Err(problem) = create::find_type(unit, new, "/event/eventTypeId") {
        return Answer::rejected(Problem::of_fields(vec![problem]));
    }
    let kind = create::settle_type(unit, context, new);
    let meta = RowMeta { deletion: None, ..context.next_meta(&row.meta, restore.guard.edit_id) };
    unit.apply_edit(Entity::Event, row.meta.id, restore.guard.edit_id);
    let living = row.with_content(meta, kind, new.body.clone(), None);
    Answer::done(Outcome::Updated, FOUND, false, unit.put_event(living))
}

/// Whether a living event says what a restore brings; source and external id are not compared.
fn is_same(unit: &UnitOfWork, restore: &Restore, row: &EventRow, content: &EventContent) -> bool {
    let mut new = restore.event.clone();
    new.source_type.clone_from(&row.source_type);
    new.external_id.clone_from(&row.external_id);
    create::content_of(unit, &new) == Some(content.hash)
}

/// Changes an event type.
pub fn update_event_type(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    edit: &TypeEdit,
) -> Answer<TypeRow> {
    let Some(row) = unit.event_type(edit.id) else {
        return unknown(unit, edit.id, "/id");
    };
    let Some(old) = &row.content else {
        return Answer::done(Outcome::Deleted, FOUND, false, row);
    };
    let verdict = context.judge(unit, Entity::EventType, &row.meta, &edit.guard);
    if verdict == Verdict::Stale {
        return Answer::done(Outcome::Unchanged, FOUND, false, row);
    }
    let patch = &edit.patch;
    let content = TypeContent::new(
        patch.name.clone().unwrap_or_else(|| old.name.clone()),
        patch.color.clone().unwrap_or_else(|| old.color.clone()),
        patch.icon.clone().unwrap_or_else(|| old.icon.clone()),
    );
    if content.hash == old.hash {
        return unchanged_type(unit, context, row, edit.guard.edit_id);
    }
    if verdict == Verdict::Conflict {
        return Answer::conflict(row);
    }
    if unit.type_by_name(&content.name).is_some_and(|other| other.meta.id != row.meta.id) {
        let detail = "another living event type has this name";
        let problem = FieldProblem::new("/patch/name", Code::NameTaken, detail);
        return Answer::rejected(Problem::of_fields(vec![problem]));
    }
    let meta = context.next_meta(&row.meta, edit.guard.edit_id);
    unit.apply_edit(Entity::EventType, row.meta.id, edit.guard.edit_id);
    Answer::done(Outcome::Updated, FOUND, false, unit.put_type(TypeRow { meta, content: Some(content) }))
}

fn unchanged_type(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    row: Arc<TypeRow>,
    edit_id: Option<Uuid>,
) -> Answer<TypeRow> {
    let row = match context.meta_with_edit_id(&row.meta, edit_id) {
        Some(meta) => unit.record_type_edit_id(TypeRow { meta, ..TypeRow::clone(&row) }),
        None => row,
    };
    Answer::done(Outcome::Unchanged, FOUND, false, row)
}

/// Deletes an event type; its name is free afterwards.
pub fn delete_event_type(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    removal: &Removal,
) -> Answer<TypeRow> {
    let Some(row) = unit.event_type(removal.id) else {
        return unknown(unit, removal.id, "/id");
    };
    match context.judge(unit, Entity::EventType, &row.meta, &removal.guard) {
        Verdict::Stale => Answer::done(Outcome::Unchanged, FOUND, false, row),
        _ if row.content.is_none() => unchanged_type(unit, context, row, removal.guard.edit_id),
        Verdict::Conflict => Answer::conflict(row),
        Verdict::Go if unit.is_in_use(row.meta.id) => {
            let detail = "living events are of this type: delete or change them first";
            Answer::rejected(Problem::new(Code::EventTypeInUse, detail))
        }
        Verdict::Go => {
            let next = context.next_meta(&row.meta, removal.guard.edit_id);
            let meta = RowMeta { deletion: context.deletion(), ..next };
            unit.apply_edit(Entity::EventType, row.meta.id, removal.guard.edit_id);
            Answer::done(Outcome::Deleted, FOUND, false, unit.put_type(TypeRow { meta, content: None }))
        }
    }
}
