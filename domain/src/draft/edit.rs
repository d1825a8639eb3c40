//! Edits: what was sent, and what it comes to. A field that is absent keeps what is stored, null clears it.

use uuid::Uuid;

use super::fields::Fields;
use super::{EventDraft, LocationDraft, MissingId, NewEvent, Sent, TypeRef, read_event};
use crate::event_id;
use crate::instant::ParsedInstant;
use crate::limits;
use crate::problem::{Code, FieldProblem};
use crate::row::Location;

/// A field of a patch as it was sent: absent, or what it is to be; `Sent::Absent` is null.
pub type Patched<T> = Option<Sent<T>>;

/// On what terms an edit was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GuardDraft {
    /// Version that the client saw.
    pub expected_version: Option<i32>,
    /// UUIDv7 of the edit.
    pub edit_id: Sent<String>,
}

/// A patch of an event as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventPatchDraft {
    /// Id of its type.
    pub event_type_id: Patched<String>,
    /// RFC 3339.
    pub timestamp: Patched<String>,
    /// RFC 3339.
    pub end_date: Patched<String>,
    /// Whether its instants are dates.
    pub is_all_day: Patched<bool>,
    /// IANA name.
    pub time_zone: Patched<String>,
    /// Free text.
    pub notes: Patched<String>,
    /// Where; replaced whole.
    pub location: Patched<LocationDraft>,
    /// Text of a JSON object; replaced whole.
    pub properties: Patched<String>,
}

/// An edit of an event as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventEditDraft {
    /// Of the event.
    pub id: Sent<String>,
    /// What to change.
    pub patch: EventPatchDraft,
    /// On what terms.
    pub guard: GuardDraft,
}

/// A patch of an event type as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TypePatchDraft {
    /// Must have a value.
    pub name: Patched<String>,
    /// Any text.
    pub color: Patched<String>,
    /// Any text.
    pub icon: Patched<String>,
}

/// An edit of an event type as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TypeEditDraft {
    /// Of the type.
    pub id: Sent<String>,
    /// What to change.
    pub patch: TypePatchDraft,
    /// On what terms.
    pub guard: GuardDraft,
}

/// A deletion as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemovalDraft {
    /// Of the entity.
    pub id: Sent<String>,
    /// On what terms.
    pub guard: GuardDraft,
}

/// On what terms an edit is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guard {
    /// The version that must be the current one; at least 1.
    pub expected_version: Option<i32>,
    /// UUIDv7 of the edit: later edits of a client have greater ones.
    pub edit_id: Option<Uuid>,
}

/// What to change of an event, right in itself; none keeps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventPatch {
    /// Id or alias of its type.
    pub event_type_id: Option<Uuid>,
    /// The instant, or its date.
    pub timestamp: Option<ParsedInstant>,
    /// The instant, or its date.
    pub end_date: Option<Option<ParsedInstant>>,
    /// Whether its instants are dates.
    pub is_all_day: Option<bool>,
    /// IANA name.
    pub time_zone: Option<Option<String>>,
    /// Free text.
    pub notes: Option<Option<String>>,
    /// Where.
    pub location: Option<Option<Location>>,
    /// Canonical JSON.
    pub properties: Option<String>,
}

/// An edit of an event that is right in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct EventEdit {
    /// Id or alias of the event.
    pub id: Uuid,
    /// What to change.
    pub patch: EventPatch,
    /// On what terms.
    pub guard: Guard,
}

/// What to change of an event type, right in itself; none keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypePatch {
    /// Trimmed, NFC.
    pub name: Option<String>,
    /// Any text.
    pub color: Option<Option<String>>,
    /// Any text.
    pub icon: Option<Option<String>>,
}

/// An edit of an event type that is right in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeEdit {
    /// Id or alias of the type.
    pub id: Uuid,
    /// What to change.
    pub patch: TypePatch,
    /// On what terms.
    pub guard: Guard,
}

/// A deletion that is right in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// Id or alias of the entity.
    pub id: Uuid,
    /// On what terms.
    pub guard: Guard,
}

/// A restore that is right in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Restore {
    /// What the event is to say again; its source and external id do not count.
    pub event: NewEvent,
    /// On what terms; the expected version is that of the tombstone.
    pub guard: Guard,
}

/// Reads an edit of an event.
///
/// # Errors
/// Every wrong field, in the order of the contract.
pub fn parse_event_edit(draft: EventEditDraft) -> Result<EventEdit, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = target(&mut fields, draft.id);
    let patch = event_patch(fields.below("/patch"), draft.patch);
    let guard = guard(fields.below(""), draft.guard);
    finish(fields, id.map(|id| EventEdit { id, patch, guard }))
}

/// Reads an edit of an event type.
///
/// # Errors
/// Every wrong field, in the order of the contract.
pub fn parse_type_edit(draft: TypeEditDraft) -> Result<TypeEdit, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = target(&mut fields, draft.id);
    fields.below("/patch");
    let name = kept("/name", draft.patch.name, &mut fields, |fields, sent| fields.name("/name", sent));
    let color = draft.patch.color.map(|sent| fields.text("/color", sent, limits::COLOR_CHARS_MAX));
    let icon = draft.patch.icon.map(|sent| fields.text("/icon", sent, limits::ICON_CHARS_MAX));
    let guard = guard(fields.below(""), draft.guard);
    finish(fields, id.map(|id| TypeEdit { id, patch: TypePatch { name, color, icon }, guard }))
}

/// Reads a deletion.
///
/// # Errors
/// Every wrong field, in the order of the contract.
pub fn parse_removal(draft: RemovalDraft) -> Result<Removal, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = target(&mut fields, draft.id);
    let guard = guard(&mut fields, draft.guard);
    finish(fields, id.map(|id| Removal { id, guard }))
}

/// Reads a restore. The id of the event must be sent; its source and external id are not looked at.
///
/// # Errors
/// Every wrong field, in the order of the contract.
pub fn parse_restore(event: EventDraft, draft: GuardDraft) -> Result<Restore, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    fields.below("/event");
    if event.id == Sent::Absent {
        fields.require("/id");
    }
    let event = EventDraft { source_type: Sent::Absent, external_id: Sent::Absent, ..event };
    let event = read_event(&mut fields, event, MissingId::Made(Uuid::nil()), Uuid::nil());
    let guard = guard(fields.below(""), draft);
    finish(fields, event.map(|event| Restore { event, guard }))
}

fn finish<T>(fields: Fields, item: Option<T>) -> Result<T, Vec<FieldProblem>> {
    item.filter(|_| fields.are_right()).ok_or_else(|| fields.into_problems())
}

/// The entity that an edit is about.
fn target(fields: &mut Fields, sent: Sent<String>) -> Option<Uuid> {
    let id = fields.id("/id", sent);
    if id.is_none() {
        fields.require("/id");
    }
    id
}

fn guard(fields: &mut Fields, draft: GuardDraft) -> Guard {
    if draft.expected_version.is_some_and(|version| version < 1) {
        fields.add("/expectedVersion", Code::OutOfRange, "must be at least 1");
    }
    Guard { expected_version: draft.expected_version, edit_id: fields.edit_id(draft.edit_id) }
}

fn event_patch(fields: &mut Fields, draft: EventPatchDraft) -> EventPatch {
    let event_type_id =
        kept("/eventTypeId", draft.event_type_id, fields, |fields, sent| fields.id("/eventTypeId", sent));
    let timestamp =
        kept("/timestamp", draft.timestamp, fields, |fields, sent| fields.written("/timestamp", sent));
    let end_date = draft.end_date.map(|sent| fields.written("/endDate", sent));
    let is_all_day =
        kept("/isAllDay", draft.is_all_day, fields, |fields, sent| fields.kind("/isAllDay", sent));
    let time_zone = draft.time_zone.map(|sent| fields.time_zone(sent));
    let notes = draft.notes.map(|sent| fields.text("/notes", sent, limits::NOTES_CHARS_MAX));
    let location = draft.location.map(|sent| fields.location(sent));
    let properties = draft.properties.map(|sent| fields.properties(sent));
    EventPatch { event_type_id, timestamp, end_date, is_all_day, time_zone, notes, location, properties }
}

/// A field that must have a value: absent keeps, null is a problem.
fn kept<T, R>(
    pointer: &str,
    sent: Patched<T>,
    fields: &mut Fields,
    read: impl FnOnce(&mut Fields, Sent<T>) -> Option<R>,
) -> Option<R> {
    let value = read(fields, sent?);
    if value.is_none() {
        fields.require(pointer);
    }
    value
}

impl Fields {
    fn edit_id(&mut self, sent: Sent<String>) -> Option<Uuid> {
        let id = self.id("/editId", sent)?;
        if !event_id::is_v7(id) {
            self.add("/editId", Code::NotUuidV7, "must be a UUID of version 7");
        }
        Some(id)
    }
}

impl EventEdit {
    /// The ids by which this may find something.
    pub fn ids(&self) -> impl Iterator<Item = Uuid> {
        [Some(self.id), self.patch.event_type_id].into_iter().flatten()
    }
}

impl Restore {
    /// The ids by which this may find something.
    pub fn ids(&self) -> impl Iterator<Item = Uuid> {
        let kind = if let TypeRef::Id(id) = self.event.type_ref { Some(id) } else { None };
        [Some(self.event.id), kind].into_iter().flatten()
    }
}
