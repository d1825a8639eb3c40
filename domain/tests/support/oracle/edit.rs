//! Implements the rules of updates, deletions and restores as simply as possible.

use domain::apply::{Entity, MatchKey, Outcome, WriteContext};
use domain::draft::{EventEdit, EventPatch, Guard, Removal, Restore, TypeEdit};
use domain::instant::{MAX_MS, MIN_MS, ParsedInstant};
use domain::problem::Code;
use domain::row::{DeletedBy, Deletion, EventBody, EventContent, EventRow, RowMeta, TypeRow, Writer};
use uuid::Uuid;

use super::{FlatAnswer, Oracle, event_row, matched, rejection, type_row};

const BY_ID: Option<MatchKey> = Some(MatchKey::Id);

/// Whether the client that writes also wrote the current version. Both must have a client id.
fn is_last_writer(context: &WriteContext<'_>, meta: &RowMeta) -> bool {
    match (context.client_id, &meta.writer.client_id) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

fn conflict<Row>(row: Row) -> FlatAnswer<Row> {
    FlatAnswer { code: Some(Code::VersionConflict), ..matched(Outcome::Conflict, BY_ID, false, row) }
}

fn start_of_day(ms: i64) -> i64 {
    ms.div_euclid(24 * 60 * 60 * 1000) * 24 * 60 * 60 * 1000
}

fn apply_patch(old: &EventBody, patch: &EventPatch) -> EventBody {
    let mut body = old.clone();
    if let Some(is_all_day) = patch.is_all_day {
        body.is_all_day = is_all_day;
    }
    if body.is_all_day {
        body.timestamp = start_of_day(body.timestamp);
        body.end_date = body.end_date.map(start_of_day);
    }
    let read = |sent: ParsedInstant| if body.is_all_day { sent.date_ms } else { sent.ms };
    if let Some(sent) = patch.timestamp {
        body.timestamp = read(sent);
    }
    if let Some(sent) = patch.end_date {
        body.end_date = sent.map(read);
    }
    if let Some(time_zone) = &patch.time_zone {
        body.time_zone.clone_from(time_zone);
    }
    if let Some(notes) = &patch.notes {
        body.notes.clone_from(notes);
    }
    if let Some(location) = &patch.location {
        body.location.clone_from(location);
    }
    if let Some(properties) = &patch.properties {
        body.properties.clone_from(properties);
    }
    body
}

/// What is wrong with the event that would be stored.
fn faults(body: &EventBody, patch: &EventPatch) -> Vec<(&'static str, Code)> {
    let mut faults = Vec::new();
    let is_outside = |ms: i64| !(MIN_MS..=MAX_MS).contains(&ms);
    if is_outside(body.timestamp) {
        faults.push(("/patch/timestamp", Code::InvalidDatetime));
    }
    if body.end_date.is_some_and(is_outside) {
        faults.push(("/patch/endDate", Code::InvalidDatetime));
    }
    if body.end_date.is_some_and(|end| end < body.timestamp) {
        // The problem belongs to the field that was sent.
        let pointer = if patch.end_date.is_some() { "/patch/endDate" } else { "/patch/timestamp" };
        faults.push((pointer, Code::EndBeforeStart));
    }
    faults
}

impl Oracle {
    /// Whether the edit id shows that the edit, or a newer one, was applied before.
    fn is_stale(
        &mut self,
        context: &WriteContext<'_>,
        entity: Entity,
        meta: &RowMeta,
        guard: &Guard,
    ) -> bool {
        let (Some(edit), Some(_)) = (guard.edit_id, context.client_id) else {
            return false;
        };
        let of_row: Vec<_> =
            self.applied.iter().filter(|applied| (applied.0, applied.1) == (entity, meta.id)).collect();
        if of_row.iter().any(|applied| applied.2 == Some(edit)) {
            self.covered.push("an edit applied in this call");
            return true;
        }
        let is_not_greater =
            meta.writer.edit_id.is_some_and(|greatest| edit.to_string() <= greatest.to_string());
        let would_be_stale = is_not_greater && is_last_writer(context, meta);
        if guard.expected_version == Some(meta.version) || !of_row.is_empty() {
            self.covered.extend(would_be_stale.then_some("an edit whose id does not count"));
            return false;
        }
        self.covered.extend(would_be_stale.then_some("a stale edit"));
        would_be_stale
    }

    fn applied(&mut self, entity: Entity, id: Uuid, edit_id: Option<Uuid>) {
        self.applied.push((entity, id, edit_id));
    }

    /// Whether the expected version is the current one, or the client itself wrote all versions since.
    fn is_expected(&mut self, context: &WriteContext<'_>, meta: &RowMeta, guard: &Guard) -> bool {
        let Some(expected) = guard.expected_version else {
            return true;
        };
        let is_own = |version: i32| is_last_writer(context, meta) && version >= meta.writer.run_start;
        let is_expected = expected <= meta.version && (expected + 1..=meta.version).all(is_own);
        self.covered.extend((is_expected && expected < meta.version).then_some("an own writer run"));
        is_expected
    }

    /// The position of a changed row. A row that changes again in the call keeps its position.
    fn next_position(&mut self, old: i64) -> i64 {
        if old > self.before {
            return old;
        }
        self.head += 1;
        self.head
    }

    /// The metadata of a row after a change.
    fn next_meta(&mut self, context: &WriteContext<'_>, old: &RowMeta, edit_id: Option<Uuid>) -> RowMeta {
        let continues_run = is_last_writer(context, old);
        let version = old.version + 1;
        let kept = if continues_run { old.writer.edit_id } else { None };
        let counted = if context.client_id.is_some() { edit_id } else { None };
        let writer = Writer {
            client_id: context.client_id.map(str::to_owned),
            run_start: if continues_run { old.writer.run_start } else { version },
            edit_id: [counted, kept].into_iter().flatten().max_by_key(|id| id.to_string()),
        };
        let change_seq = self.next_position(old.change_seq);
        RowMeta { version, change_seq, writer, updated_at: context.now_ms, ..old.clone() }
    }

    fn tombstone(&mut self, context: &WriteContext<'_>, old: &RowMeta, edit_id: Option<Uuid>) -> RowMeta {
        let deletion = Some(Deletion { at: context.now_ms, by: DeletedBy::User });
        RowMeta { deletion, ..self.next_meta(context, old, edit_id) }
    }

    /// Records the id of an edit that changed nothing, if it is greater than the last one.
    fn record_edit_id(
        &mut self,
        context: &WriteContext<'_>,
        entity: Entity,
        at: usize,
        edit_id: Option<Uuid>,
    ) {
        let meta = match entity {
            Entity::Event => &mut self.events[at].meta,
            Entity::EventType => &mut self.types[at].meta,
        };
        let is_greater = edit_id.map(|id| id.to_string()) > meta.writer.edit_id.map(|id| id.to_string());
        if is_greater && is_last_writer(context, meta) {
            self.covered.push("a recorded edit id");
            meta.writer.edit_id = edit_id;
            let kept = (entity, meta.id);
            self.applied.push((entity, kept.1, edit_id));
            if !self.recorded_edit_ids.contains(&kept) {
                self.recorded_edit_ids.push(kept);
            }
        }
    }

    fn unchanged_event(
        &mut self,
        context: &WriteContext<'_>,
        at: usize,
        edit_id: Option<Uuid>,
    ) -> FlatAnswer<EventRow> {
        self.record_edit_id(context, Entity::Event, at, edit_id);
        matched(Outcome::Unchanged, BY_ID, false, self.events[at].clone())
    }

    fn unchanged_type(
        &mut self,
        context: &WriteContext<'_>,
        at: usize,
        edit_id: Option<Uuid>,
    ) -> FlatAnswer<TypeRow> {
        self.record_edit_id(context, Entity::EventType, at, edit_id);
        matched(Outcome::Unchanged, BY_ID, false, self.types[at].clone())
    }

    fn not_found<Row>(&self, context: &WriteContext<'_>, id: Uuid, pointer: &str) -> FlatAnswer<Row> {
        self.rejected_dependency(id, pointer)
            .unwrap_or_else(|| rejection(context, id, &[(pointer, Code::NotFound)]))
    }

    pub fn update_event(&mut self, context: &WriteContext<'_>, edit: &EventEdit) -> FlatAnswer<EventRow> {
        let Some(at) = self.event_at(edit.id) else {
            return self.not_found(context, edit.id, "/id");
        };
        let row = self.events[at].clone();
        let Some(content) = &row.content else {
            return matched(Outcome::Deleted, BY_ID, false, row);
        };
        if self.is_stale(context, Entity::Event, &row.meta, &edit.guard) {
            return matched(Outcome::Unchanged, BY_ID, false, row);
        }
        let body = apply_patch(&content.body, &edit.patch);
        let type_id = match edit.patch.event_type_id {
            None => Some(content.event_type_id),
            Some(id) => self.type_at(id).map(|at| self.types[at].meta.id),
        };
        if body == content.body && type_id == Some(content.event_type_id) {
            return self.unchanged_event(context, at, edit.guard.edit_id);
        }
        if !self.is_expected(context, &row.meta, &edit.guard) {
            return conflict(row);
        }
        let mut faults = faults(&body, &edit.patch);
        if let Some(type_ref) = edit.patch.event_type_id {
            match self.type_at(type_ref) {
                None => {
                    if let Some(answer) = self.rejected_dependency(type_ref, "/patch/eventTypeId") {
                        return answer;
                    }
                    faults.push(("/patch/eventTypeId", Code::EventTypeNotFound));
                }
                Some(at) if self.types[at].content.is_none() => {
                    faults.push(("/patch/eventTypeId", Code::EventTypeNotFound));
                }
                Some(_) => {}
            }
        }
        if !faults.is_empty() {
            return rejection(context, row.meta.id, &faults);
        }
        self.applied(Entity::Event, row.meta.id, edit.guard.edit_id);
        let meta = self.next_meta(context, &row.meta, edit.guard.edit_id);
        let EventContent { import_job_id, import_version, .. } = *content;
        let key = (row.source_type.as_str(), row.external_id.as_deref());
        let mut changed = event_row(meta, key, type_id.expect("the type is living"), &body, import_job_id);
        // The version that the import created stays, so that a rollback notices the later edit.
        changed.content.as_mut().expect("it has content").import_version = import_version;
        self.events[at] = changed.clone();
        matched(Outcome::Updated, BY_ID, false, changed)
    }

    pub fn delete_event(&mut self, context: &WriteContext<'_>, removal: &Removal) -> FlatAnswer<EventRow> {
        let Some(at) = self.event_at(removal.id) else {
            return self.not_found(context, removal.id, "/id");
        };
        let row = self.events[at].clone();
        if self.is_stale(context, Entity::Event, &row.meta, &removal.guard) {
            return matched(Outcome::Unchanged, BY_ID, false, row);
        }
        if row.content.is_none() {
            let deletion = self.events[at].meta.deletion.as_mut().expect("it is deleted");
            if deletion.by == DeletedBy::Rollback {
                deletion.by = DeletedBy::User;
                self.covered.push("a deletion made final");
                self.finalized_deletions.push(row.meta.id);
            }
            return self.unchanged_event(context, at, removal.guard.edit_id);
        }
        if !self.is_expected(context, &row.meta, &removal.guard) {
            return conflict(row);
        }
        self.applied(Entity::Event, row.meta.id, removal.guard.edit_id);
        self.events[at].meta = self.tombstone(context, &row.meta, removal.guard.edit_id);
        self.events[at].content = None;
        matched(Outcome::Deleted, BY_ID, false, self.events[at].clone())
    }

    pub fn restore_event(&mut self, context: &WriteContext<'_>, restore: &Restore) -> FlatAnswer<EventRow> {
        let new = &restore.event;
        let Some(at) = self.event_at(new.id) else {
            return self.not_found(context, new.id, "/event/id");
        };
        let row = self.events[at].clone();
        if self.is_stale(context, Entity::Event, &row.meta, &restore.guard) {
            return matched(Outcome::Unchanged, BY_ID, false, row);
        }
        if let Some(content) = &row.content {
            let is_equal =
                content.body == new.body && self.referenced_type(new) == Some(content.event_type_id);
            return if is_equal {
                self.unchanged_event(context, at, restore.guard.edit_id)
            } else {
                conflict(row)
            };
        }
        if !self.is_expected(context, &row.meta, &restore.guard) {
            return conflict(row);
        }
        if let Some(answer) = self.rejected_type(new, "/event/eventTypeId") {
            return answer;
        }
        let Some(type_id) = self.referenced_type(new) else {
            return rejection(context, new.id, &[("/event/eventTypeId", Code::EventTypeNotFound)]);
        };
        self.applied(Entity::Event, row.meta.id, restore.guard.edit_id);
        let meta = RowMeta { deletion: None, ..self.next_meta(context, &row.meta, restore.guard.edit_id) };
        let key = (row.source_type.as_str(), row.external_id.as_deref());
        self.events[at] = event_row(meta, key, type_id, &new.body, None);
        matched(Outcome::Updated, BY_ID, false, self.events[at].clone())
    }

    pub fn update_type(&mut self, context: &WriteContext<'_>, edit: &TypeEdit) -> FlatAnswer<TypeRow> {
        let Some(at) = self.type_at(edit.id) else {
            return self.not_found(context, edit.id, "/id");
        };
        let row = self.types[at].clone();
        let Some(content) = &row.content else {
            return matched(Outcome::Deleted, BY_ID, false, row);
        };
        if self.is_stale(context, Entity::EventType, &row.meta, &edit.guard) {
            return matched(Outcome::Unchanged, BY_ID, false, row);
        }
        let name = edit.patch.name.as_ref().unwrap_or(&content.name);
        let color = edit.patch.color.as_ref().unwrap_or(&content.color);
        let icon = edit.patch.icon.as_ref().unwrap_or(&content.icon);
        if (name, color, icon) == (&content.name, &content.color, &content.icon) {
            return self.unchanged_type(context, at, edit.guard.edit_id);
        }
        if !self.is_expected(context, &row.meta, &edit.guard) {
            return conflict(row);
        }
        if self.type_named(name).is_some_and(|other| other != at) {
            return rejection(context, edit.id, &[("/patch/name", Code::NameTaken)]);
        }
        self.applied(Entity::EventType, row.meta.id, edit.guard.edit_id);
        let meta = self.next_meta(context, &row.meta, edit.guard.edit_id);
        self.types[at] = type_row(meta, name, color.as_deref(), icon.as_deref());
        matched(Outcome::Updated, BY_ID, false, self.types[at].clone())
    }

    pub fn delete_type(&mut self, context: &WriteContext<'_>, removal: &Removal) -> FlatAnswer<TypeRow> {
        let Some(at) = self.type_at(removal.id) else {
            return self.not_found(context, removal.id, "/id");
        };
        let row = self.types[at].clone();
        if self.is_stale(context, Entity::EventType, &row.meta, &removal.guard) {
            return matched(Outcome::Unchanged, BY_ID, false, row);
        }
        if row.content.is_none() {
            return self.unchanged_type(context, at, removal.guard.edit_id);
        }
        if !self.is_expected(context, &row.meta, &removal.guard) {
            return conflict(row);
        }
        let has_type = |event: &EventRow| {
            event.content.as_ref().is_some_and(|content| content.event_type_id == row.meta.id)
        };
        if self.events.iter().any(has_type) {
            return FlatAnswer {
                code: Some(Code::EventTypeInUse),
                errors: Vec::new(),
                ..rejection(context, row.meta.id, &[])
            };
        }
        self.applied(Entity::EventType, row.meta.id, removal.guard.edit_id);
        self.types[at].meta = self.tombstone(context, &row.meta, removal.guard.edit_id);
        self.types[at].content = None;
        matched(Outcome::Deleted, BY_ID, false, self.types[at].clone())
    }
}
