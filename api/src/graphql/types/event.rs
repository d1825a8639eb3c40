//! Events, event types and the authenticated user.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, ID, Interface, Object, SimpleObject};
use domain::row::{self, EventBody, EventContent, EventRow, RowMeta, TypeContent, TypeRow};
use uuid::Uuid;

use super::import::ImportJob;
use crate::error::ApiError;
use crate::graphql::json_writer::{JsonText, SelectedField, WriteField, WriteJson, infallible_field_writer};
use crate::graphql::loader::TypeLoader;
use crate::graphql::scalar::{DateTime, JsonObject};

/// An object that `node(id)` can find. Only types that implement `Node` have a field called `id`, so that
/// clients can normalise their cache by it.
#[derive(Debug, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The id of the object, a lower-case UUIDv7."))]
pub enum Node {
    /// An event.
    Event(Box<Event>),
    /// An event type.
    EventType(EventType),
    /// An import.
    ImportJob(Box<ImportJob>),
}

/// A living event of the database, to be returned in a response.
#[derive(Debug, Clone)]
pub struct Event {
    row: Arc<EventRow>,
    /// The event type of the event, if it was loaded with it. Otherwise a resolver loads it.
    event_type: Option<EventType>,
}

impl Event {
    /// Wraps the row of a living event. A tombstone is returned as the error.
    pub(crate) fn from_living_row(row: Arc<EventRow>) -> Result<Self, Arc<EventRow>> {
        if row.content.is_some() { Ok(Self { row, event_type: None }) } else { Err(row) }
    }

    fn content(&self) -> &EventContent {
        self.row.content.as_ref().expect("only living rows are wrapped")
    }

    /// Sets the event type as it was when the event was written or read. It may have been deleted since. With
    /// `None` a resolver loads the type when it is selected.
    pub(crate) fn with_event_type(self, event_type: Option<EventType>) -> Self {
        Self { event_type, ..self }
    }

    /// Sets the event type that `types` contains by its id. If it contains none, a resolver loads the type
    /// when it is selected.
    pub(crate) fn with_type_from(self, types: &HashMap<Uuid, EventType>) -> Self {
        let event_type = types.get(&self.type_id()).cloned();
        self.with_event_type(event_type)
    }

    /// The id of the event type of this event.
    pub(crate) fn type_id(&self) -> Uuid {
        self.content().event_type_id
    }

    /// The sort key of this event in the list of events: its `timestamp` and its id.
    pub(crate) fn sort_key(&self) -> service::queries::event::Key {
        (self.body().timestamp, self.row_meta().id)
    }

    pub(crate) fn row_meta(&self) -> &RowMeta {
        &self.row.meta
    }

    fn body(&self) -> &EventBody {
        &self.content().body
    }
}

/// Something that happened, once, at an instant or over a period.
#[Object]
impl Event {
    /// A lower-case UUIDv7. The client that created the event has usually made it.
    async fn id(&self) -> ID {
        self.row_meta().id.into()
    }

    /// The id of the event type of the event.
    async fn event_type_id(&self) -> ID {
        self.type_id().into()
    }

    /// The event type of the event.
    async fn event_type(&self, context: &Context<'_>) -> Result<EventType, ApiError> {
        if let Some(event_type) = &self.event_type {
            return Ok(event_type.clone());
        }
        let loader = context.data_unchecked::<DataLoader<TypeLoader>>();
        let event_type = loader.load_one(self.type_id()).await?;
        // An event type is deleted only after its last event. So a missing type means that this event was
        // deleted or changed since it was read.
        event_type.ok_or(ApiError::Unavailable)
    }

    /// When the event happened or began.
    async fn timestamp(&self) -> DateTime {
        DateTime::At(self.body().timestamp)
    }

    /// When the event ended; null if it has no end.
    async fn end_date(&self) -> Option<DateTime> {
        self.body().end_date.map(DateTime::At)
    }

    /// If true, `timestamp` and `endDate` are dates at 00:00 UTC. Show them as the UTC date in every time
    /// zone.
    async fn is_all_day(&self) -> bool {
        self.body().is_all_day
    }

    /// The IANA time zone in which the event happened, such as Europe/Berlin; null if unknown.
    async fn time_zone(&self) -> Option<&str> {
        self.body().time_zone.as_deref()
    }

    /// Free text of at most 10 000 characters; null if there is none.
    async fn notes(&self) -> Option<&str> {
        self.body().notes.as_deref()
    }

    /// The source of the event, such as manual, healthkit, geofence or imported. It never changes.
    async fn source_type(&self) -> &str {
        &self.row.source_type
    }

    /// The id of the event at its source, unique per user and source; null if there is none. It never
    /// changes.
    async fn external_id(&self) -> Option<&str> {
        self.row.external_id.as_deref()
    }

    /// Where the event happened; null if unknown.
    async fn location(&self) -> Option<Location> {
        self.body().location.clone().map(Location::from)
    }

    /// Further data of the event, which the server only stores. It is an empty object if there is none.
    async fn properties(&self) -> JsonObject {
        JsonObject::from_stored_text(&self.body().properties)
    }

    /// The version of the event: 1 when first created. Each write that changes something adds 1, also a
    /// deletion or a restore.
    async fn version(&self) -> i32 {
        self.row_meta().version
    }

    /// The id of the import that created the event; null if no import did, or if the event was deleted and
    /// restored since.
    async fn import_job_id(&self) -> Option<ID> {
        self.content().import_job_id.map(ID::from)
    }

    /// When the server first stored the event. It says nothing of when the event happened.
    async fn created_at(&self) -> DateTime {
        DateTime::At(self.row_meta().created_at)
    }

    /// When the content of the event last changed on the server.
    async fn updated_at(&self) -> DateTime {
        DateTime::At(self.row_meta().updated_at)
    }
}

/// The place where an event happened.
#[derive(Debug, Clone, SimpleObject)]
pub struct Location {
    /// The latitude in degrees, -90 to 90.
    latitude: f64,
    /// The longitude in degrees, -180 to 180.
    longitude: f64,
    /// The name of the place, at most 255 characters; null if there is none.
    name: Option<String>,
}

impl From<row::Location> for Location {
    fn from(place: row::Location) -> Self {
        Self { latitude: place.latitude, longitude: place.longitude, name: place.name }
    }
}

impl WriteJson for Event {
    const INTERFACE: Option<&'static str> = Some("Node");

    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.schema_field_name() {
            "id" => infallible_field_writer(|event: &Self, text| text.push_uuid(event.row_meta().id)),
            "eventTypeId" => infallible_field_writer(|event: &Self, text| text.push_uuid(event.type_id())),
            "eventType" => {
                let plan = field.compile_object_plan::<EventType>()?;
                let write = move |event: &Self, text: &mut JsonText| {
                    event.event_type.as_ref().is_some_and(|event_type| plan.write_row(event_type, text))
                };
                Some(Box::new(write))
            }
            "timestamp" => {
                infallible_field_writer(|event: &Self, text| text.push_instant(event.body().timestamp))
            }
            "endDate" => infallible_field_writer(|event: &Self, text| {
                text.push_or_null(event.body().end_date, JsonText::push_instant)
            }),
            "isAllDay" => {
                infallible_field_writer(|event: &Self, text| text.push_serialized(&event.body().is_all_day))
            }
            "timeZone" => infallible_field_writer(|event: &Self, text| {
                text.push_or_null(event.body().time_zone.as_deref(), JsonText::push_string)
            }),
            "notes" => infallible_field_writer(|event: &Self, text| {
                text.push_or_null(event.body().notes.as_deref(), JsonText::push_string)
            }),
            "sourceType" => {
                infallible_field_writer(|event: &Self, text| text.push_string(&event.row.source_type))
            }
            "externalId" => infallible_field_writer(|event: &Self, text| {
                text.push_or_null(event.row.external_id.as_deref(), JsonText::push_string)
            }),
            "location" => {
                let plan = field.compile_object_plan::<Location>()?;
                let write = move |event: &Self, text: &mut JsonText| {
                    let place = event.body().location.clone().map(Location::from);
                    plan.write_row_or_null(place.as_ref(), text)
                };
                Some(Box::new(write))
            }
            // The stored text is canonical JSON already.
            "properties" => {
                infallible_field_writer(|event: &Self, text| text.push_raw_json(&event.body().properties))
            }
            "version" => {
                infallible_field_writer(|event: &Self, text| text.push_serialized(&event.row_meta().version))
            }
            "importJobId" => infallible_field_writer(|event: &Self, text| {
                text.push_or_null(event.content().import_job_id, JsonText::push_uuid)
            }),
            "createdAt" => {
                infallible_field_writer(|event: &Self, text| text.push_instant(event.row_meta().created_at))
            }
            "updatedAt" => {
                infallible_field_writer(|event: &Self, text| text.push_instant(event.row_meta().updated_at))
            }
            _ => None,
        }
    }
}

impl WriteJson for Location {
    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.schema_field_name() {
            "latitude" => infallible_field_writer(|place: &Self, text| text.push_serialized(&place.latitude)),
            "longitude" => {
                infallible_field_writer(|place: &Self, text| text.push_serialized(&place.longitude))
            }
            "name" => infallible_field_writer(|place: &Self, text| {
                text.push_or_null(place.name.as_deref(), JsonText::push_string)
            }),
            _ => None,
        }
    }
}

/// A living event type of the database, to be returned in a response.
#[derive(Debug, Clone)]
pub struct EventType(Arc<TypeRow>);

impl EventType {
    /// Wraps the row of a living event type. A tombstone is returned as the error.
    pub(crate) fn from_living_row(row: Arc<TypeRow>) -> Result<Self, Arc<TypeRow>> {
        if row.content.is_some() { Ok(Self(row)) } else { Err(row) }
    }

    /// The sort key of this event type in the list of event types: its name and its id.
    pub(crate) fn sort_key(&self) -> service::queries::event_type::Key {
        (self.content().name.clone(), self.row_meta().id)
    }

    pub(crate) fn row_meta(&self) -> &RowMeta {
        &self.0.meta
    }

    fn content(&self) -> &TypeContent {
        self.0.content.as_ref().expect("only living rows are wrapped")
    }
}

/// A type that the user has defined for events, such as "Run" or "Headache".
#[Object]
impl EventType {
    /// A lower-case UUIDv7. The client that created the event type has usually made it.
    async fn id(&self) -> ID {
        self.row_meta().id.into()
    }

    /// The name: 1 to 100 characters, trimmed, in Unicode normalization form C. It is unique among the living
    /// event types of the user.
    async fn name(&self) -> &str {
        &self.content().name
    }

    /// A color for display, free text of at most 32 characters; null if none is set.
    async fn color(&self) -> Option<&str> {
        self.content().color.as_deref()
    }

    /// An icon for display, free text of at most 64 characters; null if none is set.
    async fn icon(&self) -> Option<&str> {
        self.content().icon.as_deref()
    }

    /// The version of the event type: 1 when first created. Each write that changes something adds 1.
    async fn version(&self) -> i32 {
        self.row_meta().version
    }

    /// When the server first stored the event type.
    async fn created_at(&self) -> DateTime {
        DateTime::At(self.row_meta().created_at)
    }

    /// When the content of the event type last changed on the server.
    async fn updated_at(&self) -> DateTime {
        DateTime::At(self.row_meta().updated_at)
    }
}

impl WriteJson for EventType {
    const INTERFACE: Option<&'static str> = Some("Node");

    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.schema_field_name() {
            "id" => {
                infallible_field_writer(|event_type: &Self, text| text.push_uuid(event_type.row_meta().id))
            }
            "name" => infallible_field_writer(|event_type: &Self, text| {
                text.push_string(&event_type.content().name)
            }),
            "color" => infallible_field_writer(|event_type: &Self, text| {
                text.push_or_null(event_type.content().color.as_deref(), JsonText::push_string)
            }),
            "icon" => infallible_field_writer(|event_type: &Self, text| {
                text.push_or_null(event_type.content().icon.as_deref(), JsonText::push_string)
            }),
            "version" => infallible_field_writer(|event_type: &Self, text| {
                text.push_serialized(&event_type.row_meta().version)
            }),
            "createdAt" => infallible_field_writer(|event_type: &Self, text| {
                text.push_instant(event_type.row_meta().created_at)
            }),
            "updatedAt" => infallible_field_writer(|event_type: &Self, text| {
                text.push_instant(event_type.row_meta().updated_at)
            }),
            _ => None,
        }
    }
}

/// The authenticated user.
#[derive(Debug, Clone, SimpleObject)]
pub struct Viewer {
    /// The id of the user on this server.
    pub user_id: ID,
    /// The `iss` claim of the token; null if the token has none.
    pub issuer: Option<String>,
    /// The `sub` claim of the token.
    pub subject: String,
}
