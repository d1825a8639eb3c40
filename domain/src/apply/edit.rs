//! Decides updates, deletions and restores.
//!
//! A row keeps the greatest edit id of the client that wrote it last. So an edit that is sent again, or that
//! arrives late, never undoes a newer edit.

use std::sync::Arc;

use uuid::Uuid;

use super::{Answer, Entity, MatchKey, Outcome, UnitOfWork, WriteContext, create};
use crate::content_hash::{self, TypeKey};
use crate::draft::{EventEdit, EventPatch, Guard, Removal, Restore, TypeEdit};
use crate::fault_injection;
use crate::instant::{self, ParsedInstant};
use crate::problem::{Code, FieldProblem, Problem};
use crate::row::{DeletedBy, Deletion, EventBody, EventContent, EventRow, RowMeta, TypeContent, TypeRow};

const BY_ID: Option<MatchKey> = Some(MatchKey::Id);

/// The result of comparing an edit's [`Guard`] with the row: its version, and its last writer and edit id.
#[derive(Debug, PartialEq, Eq)]
enum GuardCheck {
    /// Neither the version nor the edit id forbids the edit.
    Passed,
    /// This edit, or a newer one of the same client, was applied before.
    Stale,
    /// The row no longer has the expected version, and this client did not write all versions since.
    Conflict,
}

impl WriteContext<'_> {
    fn check_guard(&self, unit: &UnitOfWork, entity: Entity, meta: &RowMeta, guard: &Guard) -> GuardCheck {
        if guard.edit_id.is_some_and(|edit| self.is_stale_edit(unit, entity, meta, guard, edit)) {
            return GuardCheck::Stale;
        }
        match guard.expected_version {
            Some(expected) if expected != meta.version && !self.wrote_all_versions_since(meta, expected) => {
                GuardCheck::Conflict
            }
            _ => GuardCheck::Passed,
        }
    }

    /// Whether this edit, or a newer one of the same client, was applied before. Without a client id: false.
    ///
    /// If an item of the same call was applied to the row, only an edit id that was applied in this call is
    /// stale. Otherwise an edit that expects the current version is new, whatever its id. The clock of a
    /// device may have been set back, and then newer edits have smaller ids.
    fn is_stale_edit(
        &self,
        unit: &UnitOfWork,
        entity: Entity,
        meta: &RowMeta,
        guard: &Guard,
        edit: Uuid,
    ) -> bool {
        if self.client_id.is_none() {
            return false;
        }
        match unit.applied_edit_ids(entity, meta.id) {
            Some(applied) => applied.contains(&edit),
            None if guard.expected_version == Some(meta.version) => false,
            None => self.is_last_writer(meta) && meta.writer.edit_id.is_some_and(|last| edit <= last),
        }
    }

    /// Whether this client wrote every version after the expected one, which must be an earlier version.
    fn wrote_all_versions_since(&self, meta: &RowMeta, expected: i32) -> bool {
        self.is_last_writer(meta) && expected < meta.version && expected >= meta.writer.run_start - 1
    }

    /// The metadata with the id of an edit that changed nothing. `None` unless the same client wrote the row
    /// last and the id is greater than the recorded one.
    fn meta_with_newer_edit_id(&self, meta: &RowMeta, edit_id: Option<Uuid>) -> Option<RowMeta> {
        let edit_id =
            edit_id.filter(|edit| self.is_last_writer(meta) && Some(*edit) > meta.writer.edit_id)?;
        let mut meta = meta.clone();
        meta.writer.edit_id = Some(edit_id);
        Some(meta)
    }

    fn deletion_by_user(&self) -> Option<Deletion> {
        Some(Deletion { at: self.now_ms, by: DeletedBy::User })
    }
}

impl<Row> Answer<Row> {
    fn new_conflict(row: Arc<Row>) -> Self {
        let detail = "it was changed after the expected version: merge your change and send it again";
        let problem = Some(Problem::new(Code::VersionConflict, detail));
        Self { problem, ..Self::new_answer_with_row(Outcome::Conflict, BY_ID, false, row) }
    }
}

/// The rejection of an edit whose row does not exist: DEPENDENCY_REJECTED if an item with this id was
/// rejected earlier in the call, and otherwise NOT_FOUND.
fn rejection_for_missing_row<Row>(unit: &UnitOfWork, id: Uuid, pointer: &str) -> Answer<Row> {
    Answer::new_rejected(unit.rejected_dependency_problem(id, pointer).unwrap_or_else(|| {
        Problem::from_field_problems(vec![FieldProblem::new(
            pointer,
            Code::NotFound,
            "nothing of yours has this id",
        )])
    }))
}

/// Decides the update of an event, and applies it to the unit of work if it is accepted.
pub fn update_event(unit: &mut UnitOfWork, context: &WriteContext<'_>, edit: &EventEdit) -> Answer<EventRow> {
    let Some(row) = unit.find_event(edit.id) else {
        return rejection_for_missing_row(unit, edit.id, "/id");
    };
    let Some(content) = &row.content else {
        return Answer::new_answer_with_row(Outcome::Deleted, BY_ID, false, row);
    };
    let check = context.check_guard(unit, Entity::Event, &row.meta, &edit.guard);
    if check == GuardCheck::Stale {
        return Answer::new_answer_with_row(Outcome::Unchanged, BY_ID, false, row);
    }
    let body = apply_event_patch(&content.body, &edit.patch);
    let new_type_id = edit.patch.event_type_id;
    let type_id =
        new_type_id.map_or(Some(content.event_type_id), |id| unit.find_type(id).map(|row| row.meta.id));
    if let Some(type_id) = type_id
        && content_hash::hash_event(TypeKey::Id(type_id), &row.source_type, row.external_id.as_deref(), &body)
            == content.hash
    {
        return record_edit_of_unchanged_event(unit, context, row, edit.guard.edit_id);
    }
    if check == GuardCheck::Conflict {
        return Answer::new_conflict(row);
    }
    if let Some(id) = new_type_id
        && type_id.is_none()
        && let Some(problem) = unit.rejected_dependency_problem(id, "/patch/eventTypeId")
    {
        return Answer::new_rejected(problem);
    }
    let mut errors = check_patched_body(&body, &edit.patch);
    let is_living = type_id.and_then(|id| unit.find_type(id)).is_some_and(|row| row.content.is_some());
    if new_type_id.is_some() && !is_living {
        errors.push(create::type_not_found_problem("/patch/eventTypeId"));
    }
    let Some(type_id) = type_id.filter(|_| errors.is_empty()) else {
        return Answer::new_rejected(Problem::from_field_problems(errors));
    };
    let import = content.import_job_id.zip(content.import_version);
    let changed = row.with_meta_and_content(
        context.meta_of_next_version(&row.meta, edit.guard.edit_id),
        type_id,
        body,
        import,
    );
    unit.record_applied_edit(Entity::Event, row.meta.id, edit.guard.edit_id);
    Answer::new_answer_with_row(Outcome::Updated, BY_ID, false, unit.put_changed_event(changed))
}

/// Answers UNCHANGED. Records the edit id if the same client wrote the row last, with a smaller edit id.
fn record_edit_of_unchanged_event(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    row: Arc<EventRow>,
    edit_id: Option<Uuid>,
) -> Answer<EventRow> {
    let row = match context.meta_with_newer_edit_id(&row.meta, edit_id) {
        Some(meta) => unit.record_event_edit_id(EventRow { meta, ..EventRow::clone(&row) }),
        None => row,
    };
    Answer::new_answer_with_row(Outcome::Unchanged, BY_ID, false, row)
}

/// The body of an event after the patch. If the event is all-day then, kept instants become their UTC dates.
fn apply_event_patch(old: &EventBody, patch: &EventPatch) -> EventBody {
    let is_all_day = patch.is_all_day.unwrap_or(old.is_all_day);
    let sent_ms = |parsed: ParsedInstant| if is_all_day { parsed.date_ms } else { parsed.ms };
    let stored_ms = |ms: i64| if is_all_day { instant::start_of_utc_day(ms) } else { ms };
    let absent_notes =
        if fault_injection::is_injected("plant-absent-is-null") { None } else { old.notes.clone() };
    EventBody {
        timestamp: patch.timestamp.map_or_else(|| stored_ms(old.timestamp), sent_ms),
        end_date: patch.end_date.map_or_else(|| old.end_date.map(stored_ms), |end| end.map(sent_ms)),
        is_all_day,
        time_zone: patch.time_zone.clone().unwrap_or_else(|| old.time_zone.clone()),
        notes: patch.notes.clone().unwrap_or(absent_notes),
        location: patch.location.clone().unwrap_or_else(|| old.location.clone()),
        properties: patch.properties.clone().unwrap_or_else(|| old.properties.clone()),
    }
}

/// Checks a patched body for what the patch alone does not show: years out of range, and an end before the
/// start.
fn check_patched_body(body: &EventBody, patch: &EventPatch) -> Vec<FieldProblem> {
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

/// Decides the deletion of an event. In the unit of work the event becomes a tombstone, which keeps its ids.
pub fn delete_event(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    removal: &Removal,
) -> Answer<EventRow> {
    let Some(row) = unit.find_event(removal.id) else {
        return rejection_for_missing_row(unit, removal.id, "/id");
    };
    match context.check_guard(unit, Entity::Event, &row.meta, &removal.guard) {
        GuardCheck::Stale => Answer::new_answer_with_row(Outcome::Unchanged, BY_ID, false, row),
        _ if row.content.is_none() => {
            let row = attribute_deletion_to_user(unit, row);
            record_edit_of_unchanged_event(unit, context, row, removal.guard.edit_id)
        }
        GuardCheck::Conflict => Answer::new_conflict(row),
        GuardCheck::Passed => {
            let next = context.meta_of_next_version(&row.meta, removal.guard.edit_id);
            let meta = RowMeta { deletion: context.deletion_by_user(), ..next };
            let tombstone = EventRow { meta, content: None, ..EventRow::clone(&row) };
            unit.record_applied_edit(Entity::Event, row.meta.id, removal.guard.edit_id);
            Answer::new_answer_with_row(Outcome::Deleted, BY_ID, false, unit.put_changed_event(tombstone))
        }
    }
}

/// Makes the deletion of an event final if a rollback deleted it: now that a person has deleted it too, no
/// create may bring it back. Its version and its feed position stay.
fn attribute_deletion_to_user(unit: &mut UnitOfWork, row: Arc<EventRow>) -> Arc<EventRow> {
    match row.meta.deletion {
        Some(Deletion { at, by: DeletedBy::Rollback }) => {
            let mut row = EventRow::clone(&row);
            row.meta.deletion = Some(Deletion { at, by: DeletedBy::User });
            unit.put_deletion_attributed_to_user(row)
        }
        _ => row,
    }
}

/// Deletes an event in the unit of work, if the import in `context` created it and nothing changed it since.
pub fn roll_back_imported_event(unit: &mut UnitOfWork, context: &WriteContext<'_>, id: Uuid) {
    let Some(row) = unit.find_event(id) else {
        return;
    };
    let is_untouched = row.content.as_ref().is_some_and(|content| {
        content.import_job_id == context.import_job_id && content.import_version == Some(row.meta.version)
    });
    if is_untouched {
        let deletion = Some(Deletion { at: context.now_ms, by: DeletedBy::Rollback });
        let meta = RowMeta { deletion, ..context.meta_of_next_version(&row.meta, None) };
        unit.put_changed_event(EventRow { meta, content: None, ..EventRow::clone(&row) });
    }
}

/// Decides the restore of a deleted event, which gets the content of the restore in the unit of work.
pub fn restore_event(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    restore: &Restore,
) -> Answer<EventRow> {
    let new = &restore.event;
    let Some(row) = unit.find_event(new.id) else {
        return rejection_for_missing_row(unit, new.id, "/event/id");
    };
    let check = context.check_guard(unit, Entity::Event, &row.meta, &restore.guard);
    if check == GuardCheck::Stale {
        return Answer::new_answer_with_row(Outcome::Unchanged, BY_ID, false, row);
    }
    if let Some(content) = &row.content {
        if restore_changes_nothing(unit, restore, &row, content) {
            return record_edit_of_unchanged_event(unit, context, row, restore.guard.edit_id);
        }
        return Answer::new_conflict(row);
    }
    if check == GuardCheck::Conflict {
        return Answer::new_conflict(row);
    }
    if let Some(answer) = create::rejection_if_type_was_rejected(unit, new, "/event/eventTypeId") {
        return answer;
    }
    if let Err(problem) = create::check_type_is_living(unit, new, "/event/eventTypeId") {
        return Answer::new_rejected(Problem::from_field_problems(vec![problem]));
    }
    let type_id = create::find_or_create_type_id(unit, context, new);
    let meta = RowMeta { deletion: None, ..context.meta_of_next_version(&row.meta, restore.guard.edit_id) };
    unit.record_applied_edit(Entity::Event, row.meta.id, restore.guard.edit_id);
    let living = row.with_meta_and_content(meta, type_id, new.body.clone(), None);
    Answer::new_answer_with_row(Outcome::Updated, BY_ID, false, unit.put_changed_event(living))
}

/// Whether a living event has the content of the restore already. Source and external id are not compared,
/// because a restore cannot change them.
fn restore_changes_nothing(
    unit: &UnitOfWork,
    restore: &Restore,
    row: &EventRow,
    content: &EventContent,
) -> bool {
    let mut new = restore.event.clone();
    new.source_type.clone_from(&row.source_type);
    new.external_id.clone_from(&row.external_id);
    create::hash_new_event(unit, &new) == Some(content.hash)
}

/// Decides the update of an event type, and applies it to the unit of work if it is accepted.
pub fn update_event_type(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    edit: &TypeEdit,
) -> Answer<TypeRow> {
    let Some(row) = unit.find_type(edit.id) else {
        return rejection_for_missing_row(unit, edit.id, "/id");
    };
    let Some(old) = &row.content else {
        return Answer::new_answer_with_row(Outcome::Deleted, BY_ID, false, row);
    };
    let check = context.check_guard(unit, Entity::EventType, &row.meta, &edit.guard);
    if check == GuardCheck::Stale {
        return Answer::new_answer_with_row(Outcome::Unchanged, BY_ID, false, row);
    }
    let patch = &edit.patch;
    let content = TypeContent::new(
        patch.name.clone().unwrap_or_else(|| old.name.clone()),
        patch.color.clone().unwrap_or_else(|| old.color.clone()),
        patch.icon.clone().unwrap_or_else(|| old.icon.clone()),
    );
    if content.hash == old.hash {
        return record_edit_of_unchanged_type(unit, context, row, edit.guard.edit_id);
    }
    if check == GuardCheck::Conflict {
        return Answer::new_conflict(row);
    }
    if unit.find_type_by_name(&content.name).is_some_and(|other| other.meta.id != row.meta.id) {
        let detail = "another living event type has this name: choose another name";
        let problem = FieldProblem::new("/patch/name", Code::NameTaken, detail);
        return Answer::new_rejected(Problem::from_field_problems(vec![problem]));
    }
    let meta = context.meta_of_next_version(&row.meta, edit.guard.edit_id);
    unit.record_applied_edit(Entity::EventType, row.meta.id, edit.guard.edit_id);
    Answer::new_answer_with_row(
        Outcome::Updated,
        BY_ID,
        false,
        unit.put_changed_type(TypeRow { meta, content: Some(content) }),
    )
}

/// Answers UNCHANGED. Records the edit id if the same client wrote the row last, with a smaller edit id.
fn record_edit_of_unchanged_type(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    row: Arc<TypeRow>,
    edit_id: Option<Uuid>,
) -> Answer<TypeRow> {
    let row = match context.meta_with_newer_edit_id(&row.meta, edit_id) {
        Some(meta) => unit.record_type_edit_id(TypeRow { meta, ..TypeRow::clone(&row) }),
        None => row,
    };
    Answer::new_answer_with_row(Outcome::Unchanged, BY_ID, false, row)
}

/// Decides the deletion of an event type, which is rejected if a living event has it. Its name becomes free.
pub fn delete_event_type(
    unit: &mut UnitOfWork,
    context: &WriteContext<'_>,
    removal: &Removal,
) -> Answer<TypeRow> {
    let Some(row) = unit.find_type(removal.id) else {
        return rejection_for_missing_row(unit, removal.id, "/id");
    };
    match context.check_guard(unit, Entity::EventType, &row.meta, &removal.guard) {
        GuardCheck::Stale => Answer::new_answer_with_row(Outcome::Unchanged, BY_ID, false, row),
        _ if row.content.is_none() => {
            record_edit_of_unchanged_type(unit, context, row, removal.guard.edit_id)
        }
        GuardCheck::Conflict => Answer::new_conflict(row),
        GuardCheck::Passed if unit.is_type_in_use(row.meta.id) => {
            let detail = "living events have this type: delete them or change their type first";
            Answer::new_rejected(Problem::new(Code::EventTypeInUse, detail))
        }
        GuardCheck::Passed => {
            let next = context.meta_of_next_version(&row.meta, removal.guard.edit_id);
            let meta = RowMeta { deletion: context.deletion_by_user(), ..next };
            unit.record_applied_edit(Entity::EventType, row.meta.id, removal.guard.edit_id);
            Answer::new_answer_with_row(
                Outcome::Deleted,
                BY_ID,
                false,
                unit.put_changed_type(TypeRow { meta, content: None }),
            )
        }
    }
}
