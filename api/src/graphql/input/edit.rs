//! The inputs of edits. Absent keeps, null clears.

use async_graphql::{InputObject, MaybeUndefined, OneofObject};
use domain::draft::{
    EventEditDraft, EventPatchDraft, GuardDraft, RemovalDraft, Sent, TypeEditDraft, TypePatchDraft,
};
use service::apply_mutations::Mutation;

use super::{ClientWrite, EventInput, EventTypeInput, LocationInput, sent};
use crate::graphql::scalar::{DateTime, Id, JsonObject};

/// Absent keeps, null clears; null on a field that must have a value is a problem of the item. `properties`
/// and `location` are replaced whole.
#[derive(Debug, Clone, InputObject)]
pub struct EventPatch {
    /// Must have a value.
    event_type_id: MaybeUndefined<Id>,
    /// Must have a value.
    timestamp: MaybeUndefined<DateTime>,
    /// Not before `timestamp`.
    end_date: MaybeUndefined<DateTime>,
    /// Must have a value. Alone: what is stored becomes its UTC date.
    is_all_day: MaybeUndefined<bool>,
    /// IANA zone in which it happened.
    time_zone: MaybeUndefined<String>,
    /// At most 10 000 characters.
    notes: MaybeUndefined<String>,
    /// Where it happened.
    location: MaybeUndefined<LocationInput>,
    /// What else there is to say; null is `{}`.
    properties: MaybeUndefined<JsonObject>,
}

/// Absent keeps, null clears; null on a field that must have a value is a problem of the item.
#[derive(Debug, Clone, InputObject)]
pub struct EventTypePatch {
    /// Must have a value.
    name: MaybeUndefined<String>,
    /// At most 32 characters.
    color: MaybeUndefined<String>,
    /// At most 64 characters.
    icon: MaybeUndefined<String>,
}

/// What `updateEvent` takes.
#[derive(Debug, Clone, InputObject)]
pub struct UpdateEventInput {
    /// Id or alias of the event.
    id: Id,
    /// What to change.
    patch: EventPatch,
    /// The version that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    client_id: Option<Id>,
}

/// What `deleteEvent` takes.
#[derive(Debug, Clone, InputObject)]
pub struct DeleteEventInput {
    /// Id or alias of the event.
    id: Id,
    /// The version that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    client_id: Option<Id>,
}

/// Brings the content: a deleted event has none left.
#[derive(Debug, Clone, InputObject)]
pub struct RestoreEventInput {
    /// What it is to say again; its `sourceType` and `externalId` stay as they were, whatever is sent.
    event: EventInput,
    /// The version of the tombstone that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    client_id: Option<Id>,
}

/// What `updateEventType` takes.
#[derive(Debug, Clone, InputObject)]
pub struct UpdateEventTypeInput {
    /// Id or alias of the type.
    id: Id,
    /// What to change.
    patch: EventTypePatch,
    /// The version that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    client_id: Option<Id>,
}

/// What `deleteEventType` takes.
#[derive(Debug, Clone, InputObject)]
pub struct DeleteEventTypeInput {
    /// Id or alias of the type.
    id: Id,
    /// The version that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    client_id: Option<Id>,
}

/// What `applyMutations` takes.
#[derive(Debug, Clone, InputObject)]
pub struct ApplyMutationsInput {
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    pub client_id: Id,
    /// 1 to 500, applied in order
    pub mutations: Vec<MutationInput>,
}

/// One entry of a device's outbox.
#[derive(Debug, Clone, OneofObject)]
pub enum MutationInput {
    /// As `createEventType`.
    CreateEventType(EventTypeInput),
    /// As `updateEventType`.
    UpdateEventType(EventTypeUpdate),
    /// As `deleteEventType`.
    DeleteEventType(EntityDelete),
    /// As `createEvent`.
    CreateEvent(EventInput),
    /// As `updateEvent`.
    UpdateEvent(EventUpdate),
    /// As `deleteEvent`.
    DeleteEvent(EntityDelete),
    /// As `restoreEvent`.
    RestoreEvent(EventRestore),
}

/// An edit of an event in an outbox.
#[derive(Debug, Clone, InputObject)]
pub struct EventUpdate {
    /// Id or alias of the event.
    id: Id,
    /// What to change.
    patch: EventPatch,
    /// The version that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
}

/// An edit of an event type in an outbox.
#[derive(Debug, Clone, InputObject)]
pub struct EventTypeUpdate {
    /// Id or alias of the type.
    id: Id,
    /// What to change.
    patch: EventTypePatch,
    /// The version that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
}

/// A deletion in an outbox.
#[derive(Debug, Clone, InputObject)]
pub struct EntityDelete {
    /// Id or alias of the entity.
    id: Id,
    /// The version that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
}

/// A restore in an outbox.
#[derive(Debug, Clone, InputObject)]
pub struct EventRestore {
    /// What it is to say again; its `sourceType` and `externalId` stay as they were, whatever is sent.
    event: EventInput,
    /// The version of the tombstone that the client saw: if it no longer holds, CONFLICT. Absent: the last write wins.
    expected_version: Option<i32>,
    /// UUIDv7 of the edit, made with it and kept when it is sent again; later edits of a client have greater ones. Counts
    /// only with a `clientId`. With `expectedVersion` as well the edit is safe to send again.
    edit_id: Option<Id>,
}

impl From<UpdateEventInput> for ClientWrite {
    fn from(input: UpdateEventInput) -> Self {
        let UpdateEventInput { id, patch, expected_version, edit_id, client_id } = input;
        let update = EventUpdate { id, patch, expected_version, edit_id };
        (client_id, Mutation::UpdateEvent(update.into()))
    }
}

impl From<UpdateEventTypeInput> for ClientWrite {
    fn from(input: UpdateEventTypeInput) -> Self {
        let UpdateEventTypeInput { id, patch, expected_version, edit_id, client_id } = input;
        let update = EventTypeUpdate { id, patch, expected_version, edit_id };
        (client_id, Mutation::UpdateEventType(update.into()))
    }
}

impl From<DeleteEventInput> for ClientWrite {
    fn from(input: DeleteEventInput) -> Self {
        let DeleteEventInput { id, expected_version, edit_id, client_id } = input;
        (client_id, Mutation::DeleteEvent(EntityDelete { id, expected_version, edit_id }.into()))
    }
}

impl From<DeleteEventTypeInput> for ClientWrite {
    fn from(input: DeleteEventTypeInput) -> Self {
        let DeleteEventTypeInput { id, expected_version, edit_id, client_id } = input;
        (client_id, Mutation::DeleteEventType(EntityDelete { id, expected_version, edit_id }.into()))
    }
}

impl From<RestoreEventInput> for ClientWrite {
    fn from(input: RestoreEventInput) -> Self {
        let RestoreEventInput { event, expected_version, edit_id, client_id } = input;
        (client_id, EventRestore { event, expected_version, edit_id }.into())
    }
}

/// A field of a patch: absent, or what became of it once it was read.
fn patched<T, R>(field: MaybeUndefined<T>, read: impl FnOnce(Option<T>) -> Sent<R>) -> Option<Sent<R>> {
    match field {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(read(None)),
        MaybeUndefined::Value(value) => Some(read(Some(value))),
    }
}

fn guard(expected_version: Option<i32>, edit_id: Option<Id>) -> GuardDraft {
    GuardDraft { expected_version, edit_id: Id::draft(edit_id) }
}

impl From<EventPatch> for EventPatchDraft {
    fn from(patch: EventPatch) -> Self {
        Self {
            event_type_id: patched(patch.event_type_id, Id::draft),
            timestamp: patched(patch.timestamp, DateTime::draft),
            end_date: patched(patch.end_date, DateTime::draft),
            is_all_day: patched(patch.is_all_day, sent),
            time_zone: patched(patch.time_zone, sent),
            notes: patched(patch.notes, sent),
            location: patched(patch.location, |place| sent(place.map(Into::into))),
            properties: patched(patch.properties, JsonObject::draft),
        }
    }
}

impl From<EventUpdate> for EventEditDraft {
    fn from(update: EventUpdate) -> Self {
        Self {
            id: Id::draft(Some(update.id)),
            patch: update.patch.into(),
            guard: guard(update.expected_version, update.edit_id),
        }
    }
}

impl From<EventTypeUpdate> for TypeEditDraft {
    fn from(update: EventTypeUpdate) -> Self {
        let patch = TypePatchDraft {
            name: patched(update.patch.name, sent),
            color: patched(update.patch.color, sent),
            icon: patched(update.patch.icon, sent),
        };
        let guard = guard(update.expected_version, update.edit_id);
        Self { id: Id::draft(Some(update.id)), patch, guard }
    }
}

impl From<EntityDelete> for RemovalDraft {
    fn from(delete: EntityDelete) -> Self {
        let guard = guard(delete.expected_version, delete.edit_id);
        Self { id: Id::draft(Some(delete.id)), guard }
    }
}

impl From<EventRestore> for Mutation {
    fn from(restore: EventRestore) -> Self {
        let guard = guard(restore.expected_version, restore.edit_id);
        Self::RestoreEvent { event: restore.event.into(), guard }
    }
}

impl From<MutationInput> for Mutation {
    fn from(input: MutationInput) -> Self {
        match input {
            MutationInput::CreateEventType(input) => Self::CreateEventType(input.into()),
            MutationInput::UpdateEventType(update) => Self::UpdateEventType(update.into()),
            MutationInput::DeleteEventType(delete) => Self::DeleteEventType(delete.into()),
            MutationInput::CreateEvent(input) => Self::CreateEvent(input.into()),
            MutationInput::UpdateEvent(update) => Self::UpdateEvent(update.into()),
            MutationInput::DeleteEvent(delete) => Self::DeleteEvent(delete.into()),
            MutationInput::RestoreEvent(restore) => restore.into(),
        }
    }
}
