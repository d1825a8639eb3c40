//! The inputs of updates, deletions and restores, and of the outbox.

use async_graphql::{InputObject, MaybeUndefined, OneofObject};
use domain::draft::{
    EventEditDraft, EventPatchDraft, GuardDraft, RemovalDraft, Sent, TypeEditDraft, TypePatchDraft,
};
use service::apply_mutations::Mutation;

use super::{ClientWrite, EventInput, EventTypeInput, LocationInput, into_draft_field};
use crate::graphql::scalar::{DateTime, Id, JsonObject};

/// The changes to an event. An absent field keeps its value, and null clears it. Null in a field that must
/// have a value is a problem of the item. `properties` and `location` are replaced as a whole.
#[derive(Debug, Clone, InputObject)]
pub struct EventPatch {
    /// The id or alias of the event type. It cannot be null.
    event_type_id: MaybeUndefined<Id>,
    /// When the event happened or began. It cannot be null.
    timestamp: MaybeUndefined<DateTime>,
    /// When the event ended, not before `timestamp`.
    end_date: MaybeUndefined<DateTime>,
    /// Whether `timestamp` and `endDate` are dates. It cannot be null. If a patch sets true without new
    /// instants, the stored instants become their UTC dates.
    is_all_day: MaybeUndefined<bool>,
    /// The IANA time zone in which the event happened, such as Europe/Berlin.
    time_zone: MaybeUndefined<String>,
    /// Free text of at most 10 000 characters.
    notes: MaybeUndefined<String>,
    /// Where the event happened, replaced as a whole.
    location: MaybeUndefined<LocationInput>,
    /// Further data of the event, replaced as a whole. Null stores an empty object.
    properties: MaybeUndefined<JsonObject>,
}

/// The changes to an event type. An absent field keeps its value, and null clears it. Null in a field that
/// must have a value is a problem of the item.
#[derive(Debug, Clone, InputObject)]
pub struct EventTypePatch {
    /// The name, 1 to 100 characters after trimming. It cannot be null.
    name: MaybeUndefined<String>,
    /// A color for display, free text of at most 32 characters.
    color: MaybeUndefined<String>,
    /// An icon for display, free text of at most 64 characters.
    icon: MaybeUndefined<String>,
}

/// The input of `updateEvent`.
#[derive(Debug, Clone, InputObject)]
pub struct UpdateEventInput {
    /// The id or alias of the event.
    id: Id,
    /// The fields to change.
    patch: EventPatch,
    /// The version that the client saw. If another writer has changed the entity since, the edit is not
    /// applied and has the outcome CONFLICT. Changes by the same `clientId` do not count. Absent: the last
    /// write wins.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    client_id: Option<Id>,
}

/// The input of `deleteEvent`.
#[derive(Debug, Clone, InputObject)]
pub struct DeleteEventInput {
    /// The id or alias of the event.
    id: Id,
    /// The version that the client saw. If another writer has changed the entity since, the edit is not
    /// applied and has the outcome CONFLICT. Changes by the same `clientId` do not count. Absent: the last
    /// write wins.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    client_id: Option<Id>,
}

/// The input of `restoreEvent`. It has the whole content of the event, because the server keeps none of a
/// deleted event.
#[derive(Debug, Clone, InputObject)]
pub struct RestoreEventInput {
    /// The new content of the deleted event that is restored, which its `id` names. `sourceType` and
    /// `externalId` are ignored and stay as they were.
    event: EventInput,
    /// The version of the deleted event that the client saw. If another writer has changed it since, the
    /// outcome is CONFLICT. Changes by the same `clientId` do not count. Absent: any version is restored.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    client_id: Option<Id>,
}

/// The input of `updateEventType`.
#[derive(Debug, Clone, InputObject)]
pub struct UpdateEventTypeInput {
    /// The id or alias of the event type.
    id: Id,
    /// The fields to change.
    patch: EventTypePatch,
    /// The version that the client saw. If another writer has changed the entity since, the edit is not
    /// applied and has the outcome CONFLICT. Changes by the same `clientId` do not count. Absent: the last
    /// write wins.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    client_id: Option<Id>,
}

/// The input of `deleteEventType`.
#[derive(Debug, Clone, InputObject)]
pub struct DeleteEventTypeInput {
    /// The id or alias of the event type.
    id: Id,
    /// The version that the client saw. If another writer has changed the entity since, the edit is not
    /// applied and has the outcome CONFLICT. Changes by the same `clientId` do not count. Absent: the last
    /// write wins.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    client_id: Option<Id>,
}

/// The input of `applyMutations`.
#[derive(Debug, Clone, InputObject)]
pub struct ApplyMutationsInput {
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    pub client_id: Id,
    /// The mutations, 1 to 500, which are applied in this order and in one transaction.
    pub mutations: Vec<MutationInput>,
}

/// One mutation of `applyMutations`: an entry of the client's outbox, its queue of writes that are not sent
/// yet. Exactly one field must be set.
#[derive(Debug, Clone, OneofObject)]
pub enum MutationInput {
    /// Creates an event type, as `createEventType` does.
    CreateEventType(EventTypeInput),
    /// Changes an event type, as `updateEventType` does.
    UpdateEventType(EventTypeUpdate),
    /// Deletes an event type, as `deleteEventType` does.
    DeleteEventType(EntityDelete),
    /// Creates an event, as `createEvent` does.
    CreateEvent(EventInput),
    /// Changes an event, as `updateEvent` does.
    UpdateEvent(EventUpdate),
    /// Deletes an event, as `deleteEvent` does.
    DeleteEvent(EntityDelete),
    /// Restores a deleted event, as `restoreEvent` does.
    RestoreEvent(EventRestore),
}

/// An update of an event, as one mutation of `applyMutations`.
#[derive(Debug, Clone, InputObject)]
pub struct EventUpdate {
    /// The id or alias of the event.
    id: Id,
    /// The fields to change.
    patch: EventPatch,
    /// The version that the client saw. If another writer has changed the entity since, the edit is not
    /// applied and has the outcome CONFLICT. Changes by the same `clientId` do not count. Absent: the last
    /// write wins.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
}

/// An update of an event type, as one mutation of `applyMutations`.
#[derive(Debug, Clone, InputObject)]
pub struct EventTypeUpdate {
    /// The id or alias of the event type.
    id: Id,
    /// The fields to change.
    patch: EventTypePatch,
    /// The version that the client saw. If another writer has changed the entity since, the edit is not
    /// applied and has the outcome CONFLICT. Changes by the same `clientId` do not count. Absent: the last
    /// write wins.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
}

/// A deletion of an event or event type, as one mutation of `applyMutations`.
#[derive(Debug, Clone, InputObject)]
pub struct EntityDelete {
    /// The id or alias of the event or event type.
    id: Id,
    /// The version that the client saw. If another writer has changed the entity since, the edit is not
    /// applied and has the outcome CONFLICT. Changes by the same `clientId` do not count. Absent: the last
    /// write wins.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
}

/// A restore of a deleted event, as one mutation of `applyMutations`.
#[derive(Debug, Clone, InputObject)]
pub struct EventRestore {
    /// The new content of the deleted event that is restored, which its `id` names. `sourceType` and
    /// `externalId` are ignored and stay as they were.
    event: EventInput,
    /// The version of the deleted event that the client saw. If another writer has changed it since, the
    /// outcome is CONFLICT. Changes by the same `clientId` do not count. Absent: any version is restored.
    expected_version: Option<i32>,
    /// A UUIDv7 that the client makes for this edit and keeps when it sends the edit again. Later edits of
    /// the client must have greater ids. It has an effect only with a `clientId`. Together with
    /// `expectedVersion` it makes the edit safe to send again.
    edit_id: Option<Id>,
}

impl From<UpdateEventInput> for ClientWrite {
    fn from(input: UpdateEventInput) -> Self {
        let UpdateEventInput { id, patch, expected_version, edit_id, client_id } = input;
        let update = EventUpdate { id, patch, expected_version, edit_id };
        Self { client_id, mutation: Mutation::UpdateEvent(update.into()) }
    }
}

impl From<UpdateEventTypeInput> for ClientWrite {
    fn from(input: UpdateEventTypeInput) -> Self {
        let UpdateEventTypeInput { id, patch, expected_version, edit_id, client_id } = input;
        let update = EventTypeUpdate { id, patch, expected_version, edit_id };
        Self { client_id, mutation: Mutation::UpdateEventType(update.into()) }
    }
}

impl From<DeleteEventInput> for ClientWrite {
    fn from(input: DeleteEventInput) -> Self {
        let DeleteEventInput { id, expected_version, edit_id, client_id } = input;
        let delete = EntityDelete { id, expected_version, edit_id };
        Self { client_id, mutation: Mutation::DeleteEvent(delete.into()) }
    }
}

impl From<DeleteEventTypeInput> for ClientWrite {
    fn from(input: DeleteEventTypeInput) -> Self {
        let DeleteEventTypeInput { id, expected_version, edit_id, client_id } = input;
        let delete = EntityDelete { id, expected_version, edit_id };
        Self { client_id, mutation: Mutation::DeleteEventType(delete.into()) }
    }
}

impl From<RestoreEventInput> for ClientWrite {
    fn from(input: RestoreEventInput) -> Self {
        let RestoreEventInput { event, expected_version, edit_id, client_id } = input;
        Self { client_id, mutation: EventRestore { event, expected_version, edit_id }.into() }
    }
}

/// Converts a field of a patch. `None` if it is absent and so keeps its value, else what `read` makes of its
/// value, or of `None` for null.
fn into_patch_field<T, R>(
    field: MaybeUndefined<T>,
    read: impl FnOnce(Option<T>) -> Sent<R>,
) -> Option<Sent<R>> {
    match field {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(read(None)),
        MaybeUndefined::Value(value) => Some(read(Some(value))),
    }
}

fn into_guard_draft(expected_version: Option<i32>, edit_id: Option<Id>) -> GuardDraft {
    GuardDraft { expected_version, edit_id: Id::into_draft_field(edit_id) }
}

impl From<EventPatch> for EventPatchDraft {
    fn from(patch: EventPatch) -> Self {
        Self {
            event_type_id: into_patch_field(patch.event_type_id, Id::into_draft_field),
            timestamp: into_patch_field(patch.timestamp, DateTime::into_draft_field),
            end_date: into_patch_field(patch.end_date, DateTime::into_draft_field),
            is_all_day: into_patch_field(patch.is_all_day, into_draft_field),
            time_zone: into_patch_field(patch.time_zone, into_draft_field),
            notes: into_patch_field(patch.notes, into_draft_field),
            location: into_patch_field(patch.location, |place| into_draft_field(place.map(Into::into))),
            properties: into_patch_field(patch.properties, JsonObject::into_draft_field),
        }
    }
}

impl From<EventUpdate> for EventEditDraft {
    fn from(update: EventUpdate) -> Self {
        Self {
            id: Id::into_draft_field(Some(update.id)),
            patch: update.patch.into(),
            guard: into_guard_draft(update.expected_version, update.edit_id),
        }
    }
}

impl From<EventTypeUpdate> for TypeEditDraft {
    fn from(update: EventTypeUpdate) -> Self {
        let patch = TypePatchDraft {
            name: into_patch_field(update.patch.name, into_draft_field),
            color: into_patch_field(update.patch.color, into_draft_field),
            icon: into_patch_field(update.patch.icon, into_draft_field),
        };
        let guard = into_guard_draft(update.expected_version, update.edit_id);
        Self { id: Id::into_draft_field(Some(update.id)), patch, guard }
    }
}

impl From<EntityDelete> for RemovalDraft {
    fn from(delete: EntityDelete) -> Self {
        let guard = into_guard_draft(delete.expected_version, delete.edit_id);
        Self { id: Id::into_draft_field(Some(delete.id)), guard }
    }
}

impl From<EventRestore> for Mutation {
    fn from(restore: EventRestore) -> Self {
        let guard = into_guard_draft(restore.expected_version, restore.edit_id);
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
