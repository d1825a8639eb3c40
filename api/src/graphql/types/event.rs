//! Events, event types, and who is asking.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, ID, Interface, Object, SimpleObject};
use domain::row::{self, EventBody, EventContent, EventRow, RowMeta, TypeContent, TypeRow};
use uuid::Uuid;

use super::import::ImportJob;
use crate::error::ApiError;
use crate::graphql::json_writer::{JsonText, SelectedField, WriteField, WriteJson, known};
use crate::graphql::loader::TypeLoader;
use crate::graphql::scalar::{DateTime, JsonObject};

/// Anything that node(id) can find. Only types that implement Node have a field called `id`: clients
/// normalise by it.
#[derive(Debug, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Its id."))]
pub enum Node {
    /// An event.
    Event(Box<Event>),
    /// An event type.
    EventType(EventType),
    /// An import.
    ImportJob(Box<ImportJob>),
}

/// A living event.
#[derive(Debug, Clone)]
pub struct Event {
    row: Arc<EventRow>,
    /// Its type, where it is known already.
    event_type: Option<EventType>,
}

impl Event {
    /// A tombstone is none, and comes back.
    pub(crate) fn of(row: Arc<EventRow>) -> Result<Self, Arc<EventRow>> {
        if row.content.is_some() { Ok(Self { row, event_type: None }) } else { Err(row) }
    }

    fn content(&self) -> &EventContent {
        self.row.content.as_ref().expect("asked before it was made")
    }

    /// With its type as it was when the event was written or read: it may be deleted since.
    pub(crate) fn with_type(self, event_type: Option<EventType>) -> Self {
        Self { event_type, ..self }
    }

    /// With its type, where it is among those.
    pub(crate) fn with_type_of(self, types: &HashMap<Uuid, EventType>) -> Self {
        let event_type = types.get(&self.type_id()).cloned();
        self.with_type(event_type)
    }

    /// The id of its type.
    pub(crate) fn type_id(&self) -> Uuid {
        self.content().event_type_id
    }

    /// Its place in the list of events.
    pub(crate) fn key(&self) -> service::queries::event::Key {
        (self.body().timestamp, self.meta().id)
    }

    pub(crate) fn meta(&self) -> &RowMeta {
        &self.row.meta
    }

    fn body(&self) -> &EventBody {
        &self.content().body
    }
}

/// Something that happened, once.
#[Object]
impl Event {
    /// Lower-case UUIDv7, made by the client that created it.
    async fn id(&self) -> ID {
        self.meta().id.into()
    }

    /// The id of its type.
    async fn event_type_id(&self) -> ID {
        self.type_id().into()
    }

    /// Its type.
    async fn event_type(&self, context: &Context<'_>) -> Result<EventType, ApiError> {
        if let Some(event_type) = &self.event_type {
            return Ok(event_type.clone());
        }
        let loader = context.data_unchecked::<DataLoader<TypeLoader>>();
        let found = loader.load_one(self.type_id()).await?;
        // It goes behind its last event: this one was deleted or changed since it was read.
        found.ok_or(ApiError::Unavailable)
    }

    /// When it happened, or began.
    async fn timestamp(&self) -> DateTime {
        DateTime::At(self.body().timestamp)
    }

    /// When it ended.
    async fn end_date(&self) -> Option<DateTime> {
        self.body().end_date.map(DateTime::At)
    }

    /// When true, `timestamp` and `endDate` are dates at 00:00 UTC and are shown as the UTC date everywhere.
    async fn is_all_day(&self) -> bool {
        self.body().is_all_day
    }

    /// IANA zone in which it happened, e.g. Europe/Berlin.
    async fn time_zone(&self) -> Option<&str> {
        self.body().time_zone.as_deref()
    }

    /// Free text.
    async fn notes(&self) -> Option<&str> {
        self.body().notes.as_deref()
    }

    /// Where it comes from: manual, healthkit, geofence, imported, … Never changes.
    async fn source_type(&self) -> &str {
        &self.row.source_type
    }

    /// The source's own id of it, unique per user and source. Never changes.
    async fn external_id(&self) -> Option<&str> {
        self.row.external_id.as_deref()
    }

    /// Where it happened.
    async fn location(&self) -> Option<Location> {
        self.body().location.clone().map(Location::from)
    }

    /// What else there is to say.
    async fn properties(&self) -> JsonObject {
        JsonObject::stored(&self.body().properties)
    }

    /// 1 when first created, +1 for each change that changed something.
    async fn version(&self) -> i32 {
        self.meta().version
    }

    /// The import that made it.
    async fn import_job_id(&self) -> Option<ID> {
        self.content().import_job_id.map(ID::from)
    }

    /// When the server first stored it.
    async fn created_at(&self) -> DateTime {
        DateTime::At(self.meta().created_at)
    }

    /// When it last changed.
    async fn updated_at(&self) -> DateTime {
        DateTime::At(self.meta().updated_at)
    }
}

/// A place.
#[derive(Debug, Clone, SimpleObject)]
pub struct Location {
    /// Degrees, -90 to 90.
    latitude: f64,
    /// Degrees, -180 to 180.
    longitude: f64,
    /// At most 255 characters.
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
        match field.name() {
            "id" => known(|event: &Self, text| text.id(event.meta().id)),
            "eventTypeId" => known(|event: &Self, text| text.id(event.type_id())),
            "eventType" => {
                let plan = field.plan::<EventType>()?;
                let write = move |event: &Self, text: &mut JsonText| {
                    event.event_type.as_ref().is_some_and(|event_type| plan.write(event_type, text))
                };
                Some(Box::new(write))
            }
            "timestamp" => known(|event: &Self, text| text.instant(event.body().timestamp)),
            "endDate" => known(|event: &Self, text| text.option(event.body().end_date, JsonText::instant)),
            "isAllDay" => known(|event: &Self, text| text.json(&event.body().is_all_day)),
            "timeZone" => {
                known(|event: &Self, text| text.option(event.body().time_zone.as_deref(), JsonText::string))
            }
            "notes" => {
                known(|event: &Self, text| text.option(event.body().notes.as_deref(), JsonText::string))
            }
            "sourceType" => known(|event: &Self, text| text.string(&event.row.source_type)),
            "externalId" => {
                known(|event: &Self, text| text.option(event.row.external_id.as_deref(), JsonText::string))
            }
            "location" => {
                let plan = field.plan::<Location>()?;
                let write = move |event: &Self, text: &mut JsonText| {
                    let place = event.body().location.clone().map(Location::from);
                    plan.write_option(place.as_ref(), text)
                };
                Some(Box::new(write))
            }
            // It is stored as the text that it is.
            "properties" => known(|event: &Self, text| text.raw(&event.body().properties)),
            "version" => known(|event: &Self, text| text.json(&event.meta().version)),
            "importJobId" => {
                known(|event: &Self, text| text.option(event.content().import_job_id, JsonText::id))
            }
            "createdAt" => known(|event: &Self, text| text.instant(event.meta().created_at)),
            "updatedAt" => known(|event: &Self, text| text.instant(event.meta().updated_at)),
            _ => None,
        }
    }
}

impl WriteJson for Location {
    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.name() {
            "latitude" => known(|place: &Self, text| text.json(&place.latitude)),
            "longitude" => known(|place: &Self, text| text.json(&place.longitude)),
            "name" => known(|place: &Self, text| text.option(place.name.as_deref(), JsonText::string)),
            _ => None,
        }
    }
}

/// A living event type.
#[derive(Debug, Clone)]
pub struct EventType(Arc<TypeRow>);

impl EventType {
    /// A tombstone is none, and comes back.
    pub(crate) fn of(row: Arc<TypeRow>) -> Result<Self, Arc<TypeRow>> {
        if row.content.is_some() { Ok(Self(row)) } else { Err(row) }
    }

    /// Its place in the list of types.
    pub(crate) fn key(&self) -> service::queries::event_type::Key {
        (self.content().name.clone(), self.meta().id)
    }

    pub(crate) fn meta(&self) -> &RowMeta {
        &self.0.meta
    }

    fn content(&self) -> &TypeContent {
        self.0.content.as_ref().expect("asked before it was made")
    }
}

/// A kind of event that a user made.
#[Object]
impl EventType {
    /// Lower-case UUIDv7.
    async fn id(&self) -> ID {
        self.meta().id.into()
    }

    /// 1 to 100 characters, trimmed, NFC; unique among the user's living types.
    async fn name(&self) -> &str {
        &self.content().name
    }

    /// At most 32 characters.
    async fn color(&self) -> Option<&str> {
        self.content().color.as_deref()
    }

    /// At most 64 characters.
    async fn icon(&self) -> Option<&str> {
        self.content().icon.as_deref()
    }

    /// 1 when first created, +1 for each change that changed something.
    async fn version(&self) -> i32 {
        self.meta().version
    }

    /// When the server first stored it.
    async fn created_at(&self) -> DateTime {
        DateTime::At(self.meta().created_at)
    }

    /// When it last changed.
    async fn updated_at(&self) -> DateTime {
        DateTime::At(self.meta().updated_at)
    }
}

impl WriteJson for EventType {
    const INTERFACE: Option<&'static str> = Some("Node");

    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.name() {
            "id" => known(|event_type: &Self, text| text.id(event_type.meta().id)),
            "name" => known(|event_type: &Self, text| text.string(&event_type.content().name)),
            "color" => known(|event_type: &Self, text| {
                text.option(event_type.content().color.as_deref(), JsonText::string)
            }),
            "icon" => known(|event_type: &Self, text| {
                text.option(event_type.content().icon.as_deref(), JsonText::string)
            }),
            "version" => known(|event_type: &Self, text| text.json(&event_type.meta().version)),
            "createdAt" => known(|event_type: &Self, text| text.instant(event_type.meta().created_at)),
            "updatedAt" => known(|event_type: &Self, text| text.instant(event_type.meta().updated_at)),
            _ => None,
        }
    }
}

/// Who is asking.
#[derive(Debug, Clone, SimpleObject)]
pub struct Viewer {
    /// The id of the user in this system.
    pub user_id: ID,
    /// The `iss` of the token.
    pub issuer: Option<String>,
    /// The `sub` of the token.
    pub subject: String,
}
