//! The inputs of the contract, and how they become drafts. In items, what is required is nullable on the
//! wire: a missing field is then a problem of its item, and its neighbours are stored.

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

/// An event as a client made it.
#[derive(Debug, Clone, InputObject)]
pub struct EventInput {
    /// Client UUIDv7. Absent: the server makes one. Sent again, `createEvent` and `createEvents` make another; in an
    /// import it is made from the content, so that the same event is the same one.
    id: Option<Id>,
    /// Required.
    event_type_id: Option<Id>,
    /// Required.
    timestamp: Option<DateTime>,
    /// Not before `timestamp`.
    end_date: Option<DateTime>,
    /// When true, `timestamp` and `endDate` are dates: as written, their times and offsets dropped.
    #[graphql(default_with = "Some(false)")]
    is_all_day: Option<bool>,
    /// IANA zone in which it happened, e.g. Europe/Berlin.
    time_zone: Option<String>,
    /// At most 10 000 characters.
    notes: Option<String>,
    #[expect(rustdoc::broken_intra_doc_links, reason = "a text of the schema")]
    /// ^[a-z][a-z0-9_-]{0,31}$
    #[graphql(default_with = "Some(\"manual\".to_owned())")]
    source_type: Option<String>,
    /// 1 to 255 characters.
    external_id: Option<String>,
    /// Where it happened.
    location: Option<LocationInput>,
    /// What else there is to say.
    properties: Option<JsonObject>,
}

/// Both coordinates are required and in range, or it is a problem of the item.
#[derive(Debug, Clone, InputObject)]
pub struct LocationInput {
    /// Degrees, -90 to 90.
    latitude: Option<f64>,
    /// Degrees, -180 to 180.
    longitude: Option<f64>,
    /// At most 255 characters.
    name: Option<String>,
}

/// An event type as a client made it.
#[derive(Debug, Clone, InputObject)]
pub struct EventTypeInput {
    /// Client UUIDv7. Absent: the server makes one.
    id: Option<Id>,
    /// Required.
    name: Option<String>,
    /// At most 32 characters.
    color: Option<String>,
    /// At most 64 characters.
    icon: Option<String>,
}

/// What `createEvent` takes.
#[derive(Debug, Clone, InputObject)]
pub struct CreateEventInput {
    /// The event.
    pub event: EventInput,
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    pub client_id: Option<Id>,
}

/// What `createEvents` takes.
#[derive(Debug, Clone, InputObject)]
pub struct CreateEventsInput {
    /// 1 to 500
    pub events: Vec<EventInput>,
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    pub client_id: Option<Id>,
}

/// What `createEventType` takes.
#[derive(Debug, Clone, InputObject)]
pub struct CreateEventTypeInput {
    /// The event type.
    pub event_type: EventTypeInput,
    /// The installation that writes: ^[A-Za-z0-9._-]{1,64}$, stable between starts.
    pub client_id: Option<Id>,
}

/// One write and the installation that it comes from.
pub(crate) type ClientWrite = (Option<Id>, Mutation);

impl From<CreateEventInput> for ClientWrite {
    fn from(input: CreateEventInput) -> Self {
        (input.client_id, Mutation::CreateEvent(input.event.into()))
    }
}

impl From<CreateEventTypeInput> for ClientWrite {
    fn from(input: CreateEventTypeInput) -> Self {
        (input.client_id, Mutation::CreateEventType(input.event_type.into()))
    }
}

fn sent<T>(value: Option<T>) -> Sent<T> {
    value.map_or(Sent::Absent, Sent::Value)
}

impl From<EventInput> for EventDraft {
    fn from(input: EventInput) -> Self {
        Self {
            id: Id::draft(input.id),
            event_type_id: Id::draft(input.event_type_id),
            event_type: Sent::Absent,
            timestamp: DateTime::draft(input.timestamp),
            end_date: DateTime::draft(input.end_date),
            is_all_day: sent(input.is_all_day),
            time_zone: sent(input.time_zone),
            notes: sent(input.notes),
            source_type: sent(input.source_type),
            external_id: sent(input.external_id),
            location: sent(input.location.map(Into::into)),
            properties: JsonObject::draft(input.properties),
        }
    }
}

impl From<LocationInput> for LocationDraft {
    fn from(place: LocationInput) -> Self {
        Self { latitude: sent(place.latitude), longitude: sent(place.longitude), name: sent(place.name) }
    }
}

impl From<EventTypeInput> for EventTypeDraft {
    fn from(input: EventTypeInput) -> Self {
        Self {
            id: Id::draft(input.id),
            name: sent(input.name),
            color: sent(input.color),
            icon: sent(input.icon),
        }
    }
}

/// The `sentId` of an item: the text of its id, if text was sent.
pub(crate) fn sent_id(id: &Sent<String>) -> Option<String> {
    if let Sent::Value(text) = id { Some(text.clone()) } else { None }
}

/// The name of an installation, or the request is refused.
pub(crate) fn client_id(id: Option<Id>) -> Result<Option<String>, ApiError> {
    match Id::draft(id) {
        Sent::Absent => Ok(None),
        Sent::Value(text) if parse_client_id(&text).is_some() => Ok(Some(text)),
        _ => Err(ApiError::BadUserInput("clientId must match ^[A-Za-z0-9._-]{1,64}$".to_owned())),
    }
}

/// A list of items that is neither empty nor too long.
///
/// # Errors
/// For one that is too long with `way_out`: what to do other than to send fewer.
pub(crate) fn items<T>(
    items: Vec<T>,
    name: &'static str,
    max: usize,
    way_out: &str,
) -> Result<Vec<T>, ApiError> {
    if items.is_empty() {
        return Err(ApiError::BadUserInput("the list is empty".to_owned()));
    }
    if items.len() > max {
        let found = items.len();
        let detail = format!("{found} items; at most {max} are allowed: send fewer at once{way_out}");
        return Err(ApiError::Limit { name, max: max as u64, detail });
    }
    Ok(items)
}
