//! The input types of the schema, and their conversion into drafts.
//!
//! Required fields of items are nullable in the schema. A missing field is then a problem of its item, and
//! the other items are stored.

mod edit;
mod import;

use async_graphql::InputObject;
use domain::draft::{EventDraft, EventTypeDraft, LocationDraft, Sent, parse_client_id};
use service::apply_mutations::Mutation;

pub use edit::{
    ApplyMutationsInput, DeleteEventInput, DeleteEventTypeInput, MutationInput, RestoreEventInput,
    UpdateEventInput, UpdateEventTypeInput,
};
pub use import::{CreateImportInput, CsvMapping, ImportControlInput, ImportEventsInput};

use super::scalar::{DateTime, Id, JsonObject};
use crate::error::ApiError;

/// An event to create or to import, or the new content of a deleted event to restore.
#[derive(Debug, Clone, InputObject)]
pub struct EventInput {
    /// A UUIDv7 that the client makes. Without it the server makes a new one each time, so `createEvent` and
    /// `createEvents` store another event when they are sent again. An import derives a missing id from the
    /// content, so the same record stays the same event.
    id: Option<Id>,
    /// Required. The id or alias of an event type.
    event_type_id: Option<Id>,
    /// Required. When the event happened or began.
    timestamp: Option<DateTime>,
    /// When the event ended, not before `timestamp`.
    end_date: Option<DateTime>,
    /// If true, `timestamp` and `endDate` are dates: the date as written counts, and time and offset are
    /// dropped.
    #[graphql(default_with = "Some(false)")]
    is_all_day: Option<bool>,
    /// The IANA time zone in which the event happened, such as Europe/Berlin.
    time_zone: Option<String>,
    /// Free text of at most 10 000 characters.
    notes: Option<String>,
    /// The name of the source of the event: `^[a-z][a-z0-9_-]{0,31}$`. It cannot be changed later.
    #[graphql(default_with = "Some(\"manual\".to_owned())")]
    source_type: Option<String>,
    /// The id of the event at its source, 1 to 255 characters, unique per user and source. It cannot be
    /// changed later.
    external_id: Option<String>,
    /// Where the event happened.
    location: Option<LocationInput>,
    /// Further data of the event, which the server only stores. Absent: an empty object.
    properties: Option<JsonObject>,
}

/// The place where an event happened. Both coordinates are required and must be in range.
#[derive(Debug, Clone, InputObject)]
pub struct LocationInput {
    /// Required. In degrees, -90 to 90.
    latitude: Option<f64>,
    /// Required. In degrees, -180 to 180.
    longitude: Option<f64>,
    /// The name of the place, at most 255 characters.
    name: Option<String>,
}

/// An event type to create.
#[derive(Debug, Clone, InputObject)]
pub struct EventTypeInput {
    /// A UUIDv7 that the client makes. Without it the server makes one.
    id: Option<Id>,
    /// Required. 1 to 100 characters after trimming, unique among the living event types of the user.
    name: Option<String>,
    /// A color for display, free text of at most 32 characters.
    color: Option<String>,
    /// An icon for display, free text of at most 64 characters.
    icon: Option<String>,
}

/// The input of `createEvent`.
#[derive(Debug, Clone, InputObject)]
pub struct CreateEventInput {
    /// The event to create.
    pub event: EventInput,
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    pub client_id: Option<Id>,
}

/// The input of `createEvents`.
#[derive(Debug, Clone, InputObject)]
pub struct CreateEventsInput {
    /// The events to create, 1 to 500.
    pub events: Vec<EventInput>,
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    pub client_id: Option<Id>,
}

/// The input of `createEventType`.
#[derive(Debug, Clone, InputObject)]
pub struct CreateEventTypeInput {
    /// The event type to create.
    pub event_type: EventTypeInput,
    /// The name of the app installation that writes: `^[A-Za-z0-9._-]{1,64}$`, the same at every start.
    pub client_id: Option<Id>,
}

/// One write of a client, with the `clientId` that it sent. Both are still unchecked.
pub(crate) struct ClientWrite {
    pub(crate) client_id: Option<Id>,
    pub(crate) mutation: Mutation,
}

impl From<CreateEventInput> for ClientWrite {
    fn from(input: CreateEventInput) -> Self {
        Self { client_id: input.client_id, mutation: Mutation::CreateEvent(input.event.into()) }
    }
}

impl From<CreateEventTypeInput> for ClientWrite {
    fn from(input: CreateEventTypeInput) -> Self {
        Self { client_id: input.client_id, mutation: Mutation::CreateEventType(input.event_type.into()) }
    }
}

fn into_draft_field<T>(value: Option<T>) -> Sent<T> {
    value.map_or(Sent::Absent, Sent::Value)
}

impl From<EventInput> for EventDraft {
    fn from(input: EventInput) -> Self {
        Self {
            id: Id::into_draft_field(input.id),
            event_type_id: Id::into_draft_field(input.event_type_id),
            event_type: Sent::Absent,
            timestamp: DateTime::into_draft_field(input.timestamp),
            end_date: DateTime::into_draft_field(input.end_date),
            is_all_day: into_draft_field(input.is_all_day),
            time_zone: into_draft_field(input.time_zone),
            notes: into_draft_field(input.notes),
            source_type: into_draft_field(input.source_type),
            external_id: into_draft_field(input.external_id),
            location: into_draft_field(input.location.map(Into::into)),
            properties: JsonObject::into_draft_field(input.properties),
        }
    }
}

impl From<LocationInput> for LocationDraft {
    fn from(place: LocationInput) -> Self {
        Self {
            latitude: into_draft_field(place.latitude),
            longitude: into_draft_field(place.longitude),
            name: into_draft_field(place.name),
        }
    }
}

impl From<EventTypeInput> for EventTypeDraft {
    fn from(input: EventTypeInput) -> Self {
        Self {
            id: Id::into_draft_field(input.id),
            name: into_draft_field(input.name),
            color: into_draft_field(input.color),
            icon: into_draft_field(input.icon),
        }
    }
}

/// The id of an item for the `sentId` of its result: unchecked, and `None` if the client sent no string.
pub(crate) fn sent_id_text(id: &Sent<String>) -> Option<String> {
    if let Sent::Value(text) = id { Some(text.clone()) } else { None }
}

/// Checks a `clientId` and returns its text. `None` if it is absent or null.
///
/// # Errors
/// [`ApiError::BadUserInput`] if it does not match `^[A-Za-z0-9._-]{1,64}$`.
pub(crate) fn check_client_id(id: Option<Id>) -> Result<Option<String>, ApiError> {
    match Id::into_draft_field(id) {
        Sent::Absent => Ok(None),
        Sent::Value(text) if parse_client_id(&text).is_some() => Ok(Some(text)),
        _ => Err(ApiError::BadUserInput("clientId must match ^[A-Za-z0-9._-]{1,64}$".to_owned())),
    }
}

/// Checks the length of a list of items, and returns the list unchanged. `name` is the name of its limit, and
/// `way_out` ends the sentence that tells the client to send fewer items.
///
/// # Errors
/// [`ApiError::BadUserInput`] if the list is empty, [`ApiError::Limit`] if it has more than `max` items.
pub(crate) fn check_item_count<T>(
    items: Vec<T>,
    name: &'static str,
    max: usize,
    way_out: &str,
) -> Result<Vec<T>, ApiError> {
    if items.is_empty() {
        return Err(ApiError::BadUserInput("the list of items is empty: send at least 1 item".to_owned()));
    }
    if items.len() > max {
        let count = items.len();
        let detail =
            format!("{count} items were sent and at most {max} are allowed: send fewer at once{way_out}");
        return Err(ApiError::Limit { name, max: max as u64, detail });
    }
    Ok(items)
}
