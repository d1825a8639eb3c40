//! Parses drafts of updates, deletions and restores.
//!
//! A field that is missing in a patch keeps its stored value. A field that is null is cleared.

use uuid::Uuid;

use super::fields::Fields;
use super::{EventDraft, LocationDraft, MissingId, NewEvent, Sent, TypeRef, parse_event_fields};
use crate::event_id;
use crate::instant::ParsedInstant;
use crate::limits;
use crate::problem::{Code, FieldProblem};
use crate::row::Location;

/// A field of a patch as it was sent. `None` if the field is missing, and [`Sent::Absent`] if it is null.
pub type PatchField<T> = Option<Sent<T>>;

/// The expected version and the edit id of an edit, as they were sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GuardDraft {
    /// The version of the row that the client saw. `None` if the edit applies to any version.
    pub expected_version: Option<i32>,
    /// The id that the client gave the edit, a UUIDv7. It shows whether the edit was applied before.
    pub edit_id: Sent<String>,
}

/// A patch of an event as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventPatchDraft {
    /// The id or an alias of the new event type. It cannot be cleared.
    pub event_type_id: PatchField<String>,
    /// The new start, as an RFC 3339 instant. It cannot be cleared.
    pub timestamp: PatchField<String>,
    /// The new end, as an RFC 3339 instant.
    pub end_date: PatchField<String>,
    /// Whether start and end are dates without a time. It cannot be cleared.
    pub is_all_day: PatchField<bool>,
    /// The new time zone, a name of the IANA time zone database.
    pub time_zone: PatchField<String>,
    /// The new notes, free text.
    pub notes: PatchField<String>,
    /// The new place of the event. It replaces the stored place as a whole.
    pub location: PatchField<LocationDraft>,
    /// The new properties, the text of a JSON object. It replaces the stored object as a whole; null empties
    /// it.
    pub properties: PatchField<String>,
}

/// An update of an event as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventEditDraft {
    /// The id or an alias of the event to change.
    pub id: Sent<String>,
    /// The fields of the event to change. A missing field keeps its stored value.
    pub patch: EventPatchDraft,
    /// The expected version and the edit id, which decide whether the edit is applied.
    pub guard: GuardDraft,
}

/// A patch of an event type as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TypePatchDraft {
    /// The new name of the event type. It cannot be cleared.
    pub name: PatchField<String>,
    /// The new color, free text.
    pub color: PatchField<String>,
    /// The new icon, free text.
    pub icon: PatchField<String>,
}

/// An update of an event type as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TypeEditDraft {
    /// The id or an alias of the event type to change.
    pub id: Sent<String>,
    /// The fields of the event type to change. A missing field keeps its stored value.
    pub patch: TypePatchDraft,
    /// The expected version and the edit id, which decide whether the edit is applied.
    pub guard: GuardDraft,
}

/// A deletion of an event or event type as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemovalDraft {
    /// The id or an alias of the event or event type to delete.
    pub id: Sent<String>,
    /// The expected version and the edit id, which decide whether the deletion is applied.
    pub guard: GuardDraft,
}

/// The expected version and the edit id of an edit, which decide whether it is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guard {
    /// The version that the client expects, at least 1. If it is not the current one, the edit is applied
    /// only if the same client wrote all versions since. `None` if the edit applies to any version.
    pub expected_version: Option<i32>,
    /// The edit id, a UUIDv7. Later edits of a client should have greater ids, so that an old edit that
    /// arrives late is recognized.
    pub edit_id: Option<Uuid>,
}

/// A parsed patch of an event. A field that is `None` keeps the stored value, and `Some(None)` clears it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventPatch {
    /// The id or an alias of the new event type.
    pub event_type_id: Option<Uuid>,
    /// The new start, as an instant and as a date.
    pub timestamp: Option<ParsedInstant>,
    /// The new end, as an instant and as a date. `Some(None)` clears it.
    pub end_date: Option<Option<ParsedInstant>>,
    /// Whether start and end are dates without a time.
    pub is_all_day: Option<bool>,
    /// The new time zone, a name of the IANA time zone database. `Some(None)` clears it.
    pub time_zone: Option<Option<String>>,
    /// The new notes, free text. `Some(None)` clears them.
    pub notes: Option<Option<String>>,
    /// The new place of the event. `Some(None)` clears it.
    pub location: Option<Option<Location>>,
    /// The new properties: a JSON object, as canonical JSON text.
    pub properties: Option<String>,
}

/// A parsed update of an event. All its values are valid; the stored event is not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub struct EventEdit {
    /// The id or an alias of the event to change.
    pub id: Uuid,
    /// The fields of the event to change.
    pub patch: EventPatch,
    /// The expected version and the edit id, which decide whether the edit is applied.
    pub guard: Guard,
}

/// A parsed patch of an event type. A field that is `None` keeps the stored value. `Some(None)` clears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypePatch {
    /// The new name, trimmed and in Unicode NFC.
    pub name: Option<String>,
    /// The new color, free text. `Some(None)` clears it.
    pub color: Option<Option<String>>,
    /// The new icon, free text. `Some(None)` clears it.
    pub icon: Option<Option<String>>,
}

/// A parsed update of an event type. All its values are valid; the stored type is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeEdit {
    /// The id or an alias of the event type to change.
    pub id: Uuid,
    /// The fields of the event type to change.
    pub patch: TypePatch,
    /// The expected version and the edit id, which decide whether the edit is applied.
    pub guard: Guard,
}

/// A parsed deletion of an event or event type. All its values are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The id or an alias of the event or event type to delete.
    pub id: Uuid,
    /// The expected version and the edit id, which decide whether the deletion is applied.
    pub guard: Guard,
}

/// A parsed restore of a deleted event. All its values are valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Restore {
    /// The new content of the deleted event. The event keeps its source and its external id; those given
    /// here are ignored.
    pub event: NewEvent,
    /// The edit id, and the expected version: the version that the event has since its deletion.
    pub guard: Guard,
}

/// Parses an update of an event.
///
/// # Errors
/// One [`FieldProblem`] for each wrong field, in the order in which the draft declares the fields.
pub fn parse_event_edit(draft: EventEditDraft) -> Result<EventEdit, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = parse_target_id(&mut fields, draft.id);
    let patch = parse_event_patch(fields.set_base_json_pointer("/patch"), draft.patch);
    let guard = parse_guard(fields.set_base_json_pointer(""), draft.guard);
    item_or_problems(fields, id.map(|id| EventEdit { id, patch, guard }))
}

/// Parses an update of an event type.
///
/// # Errors
/// One [`FieldProblem`] for each wrong field, in the order in which the draft declares the fields.
pub fn parse_event_type_edit(draft: TypeEditDraft) -> Result<TypeEdit, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = parse_target_id(&mut fields, draft.id);
    fields.set_base_json_pointer("/patch");
    let name = parse_required_if_sent("/name", draft.patch.name, &mut fields, |fields, sent| {
        fields.parse_event_type_name("/name", sent)
    });
    let color = draft.patch.color.map(|sent| fields.parse_text("/color", sent, limits::COLOR_CHARS_MAX));
    let icon = draft.patch.icon.map(|sent| fields.parse_text("/icon", sent, limits::ICON_CHARS_MAX));
    let guard = parse_guard(fields.set_base_json_pointer(""), draft.guard);
    item_or_problems(fields, id.map(|id| TypeEdit { id, patch: TypePatch { name, color, icon }, guard }))
}

/// Parses a deletion of an event or event type.
///
/// # Errors
/// One [`FieldProblem`] for each wrong field, in the order in which the draft declares the fields.
pub fn parse_removal(draft: RemovalDraft) -> Result<Removal, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = parse_target_id(&mut fields, draft.id);
    let guard = parse_guard(&mut fields, draft.guard);
    item_or_problems(fields, id.map(|id| Removal { id, guard }))
}

/// Parses a restore of a deleted event. The new content must have the id of the event. Its source and its
/// external id are ignored.
///
/// # Errors
/// One [`FieldProblem`] for each wrong field, in the order in which the draft declares the fields.
pub fn parse_restore(event: EventDraft, draft: GuardDraft) -> Result<Restore, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    fields.set_base_json_pointer("/event");
    if event.id == Sent::Absent {
        fields.add_missing_field_problem("/id");
    }
    let event = EventDraft { source_type: Sent::Absent, external_id: Sent::Absent, ..event };
    let event = parse_event_fields(&mut fields, event, MissingId::Generated(Uuid::nil()), Uuid::nil());
    let guard = parse_guard(fields.set_base_json_pointer(""), draft);
    item_or_problems(fields, event.map(|event| Restore { event, guard }))
}

fn item_or_problems<T>(fields: Fields, item: Option<T>) -> Result<T, Vec<FieldProblem>> {
    item.filter(|_| fields.has_no_problem()).ok_or_else(|| fields.into_problems())
}

/// Parses the id of the row that an edit is about. Adds a problem if it is missing or not a UUID.
fn parse_target_id(fields: &mut Fields, sent: Sent<String>) -> Option<Uuid> {
    let id = fields.parse_id("/id", sent);
    if id.is_none() {
        fields.add_missing_field_problem("/id");
    }
    id
}

fn parse_guard(fields: &mut Fields, draft: GuardDraft) -> Guard {
    if draft.expected_version.is_some_and(|version| version < 1) {
        fields.add_problem("/expectedVersion", Code::OutOfRange, "must be at least 1");
    }
    Guard { expected_version: draft.expected_version, edit_id: fields.parse_edit_id(draft.edit_id) }
}

fn parse_event_patch(fields: &mut Fields, draft: EventPatchDraft) -> EventPatch {
    let event_type_id =
        parse_required_if_sent("/eventTypeId", draft.event_type_id, fields, |fields, sent| {
            fields.parse_id("/eventTypeId", sent)
        });
    let timestamp = parse_required_if_sent("/timestamp", draft.timestamp, fields, |fields, sent| {
        fields.parse_instant("/timestamp", sent)
    });
    let end_date = draft.end_date.map(|sent| fields.parse_instant("/endDate", sent));
    let is_all_day = parse_required_if_sent("/isAllDay", draft.is_all_day, fields, |fields, sent| {
        fields.value_or_wrong_type_problem("/isAllDay", sent)
    });
    let time_zone = draft.time_zone.map(|sent| fields.parse_time_zone(sent));
    let notes = draft.notes.map(|sent| fields.parse_text("/notes", sent, limits::NOTES_CHARS_MAX));
    let location = draft.location.map(|sent| fields.parse_location(sent));
    let properties = draft.properties.map(|sent| fields.parse_properties(sent));
    EventPatch { event_type_id, timestamp, end_date, is_all_day, time_zone, notes, location, properties }
}

/// Parses a field of a patch that cannot be cleared. Returns `None` if it is missing, and also adds a problem
/// if it is null or wrong.
fn parse_required_if_sent<T, R>(
    pointer: &str,
    sent: PatchField<T>,
    fields: &mut Fields,
    read: impl FnOnce(&mut Fields, Sent<T>) -> Option<R>,
) -> Option<R> {
    let value = read(fields, sent?);
    if value.is_none() {
        fields.add_missing_field_problem(pointer);
    }
    value
}

impl Fields {
    fn parse_edit_id(&mut self, sent: Sent<String>) -> Option<Uuid> {
        let id = self.parse_id("/editId", sent)?;
        if !event_id::is_v7(id) {
            self.add_problem("/editId", Code::NotUuidV7, "must be a UUID of version 7");
        }
        Some(id)
    }
}

impl EventEdit {
    /// The ids of the rows that the update needs to read: the event, and its new type if that is given.
    pub fn needed_row_ids(&self) -> impl Iterator<Item = Uuid> {
        [Some(self.id), self.patch.event_type_id].into_iter().flatten()
    }
}

impl Restore {
    /// The ids of the rows that the restore needs to read: the event, and its type if that is given by id.
    pub fn needed_row_ids(&self) -> impl Iterator<Item = Uuid> {
        let type_id = if let TypeRef::Id(id) = self.event.type_ref { Some(id) } else { None };
        [Some(self.event.id), type_id].into_iter().flatten()
    }
}
