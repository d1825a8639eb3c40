//! Events, event types, and who is asking.

use std::sync::Arc;

use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, ID, Interface, Object, SimpleObject};
use domain::rules::row::{EventContent, EventRow, TypeContent, TypeRow};
use uuid::Uuid;

use super::import::ImportJob;
use crate::error::ApiError;
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

/// A living event: its row and, unwrapped, its content.
#[derive(Debug, Clone)]
pub struct Event {
    /// Without its content.
    row: Arc<EventRow>,
    content: Arc<EventContent>,
    /// Its type, where it is known already.
    event_type: Option<EventType>,
}

impl Event {
    /// None for a tombstone.
    pub(crate) fn of(row: Arc<EventRow>) -> Option<Self> {
        let mut row = Arc::unwrap_or_clone(row);
        let content = Arc::new(row.content.take()?);
        Some(Self { row: Arc::new(row), content, event_type: None })
    }

    /// With its type as it was when the event was written or read: it may be deleted since.
    pub(crate) fn with_type(self, event_type: Option<EventType>) -> Self {
        Self { event_type, ..self }
    }

    /// The id of its type.
    pub(crate) fn type_id(&self) -> Uuid {
        self.content.event_type_id
    }

    /// Its place in the list of events.
    pub(crate) fn key(&self) -> domain::store::event::Key {
        (self.content.body.timestamp, self.row.frame.id)
    }
}

/// Something that happened, once.
#[Object]
impl Event {
    /// Lower-case UUIDv7, made by the client that created it.
    async fn id(&self) -> ID {
        self.row.frame.id.into()
    }

    /// The id of its type.
    async fn event_type_id(&self) -> ID {
        self.content.event_type_id.into()
    }

    /// Its type.
    async fn event_type(&self, context: &Context<'_>) -> Result<EventType, ApiError> {
        if let Some(event_type) = &self.event_type {
            return Ok(event_type.clone());
        }
        let loader = context.data_unchecked::<DataLoader<TypeLoader>>();
        let found = loader.load_one(self.content.event_type_id).await?;
        // It goes behind its last event: this one was deleted or changed since it was read.
        found.ok_or(ApiError::Unavailable)
    }

    /// When it happened, or began.
    async fn timestamp(&self) -> DateTime {
        DateTime::At(self.content.body.timestamp)
    }

    /// When it ended.
    async fn end_date(&self) -> Option<DateTime> {
        self.content.body.end_date.map(DateTime::At)
    }

    /// When true, `timestamp` and `endDate` are dates at 00:00 UTC and are shown as the UTC date everywhere.
    async fn is_all_day(&self) -> bool {
        self.content.body.is_all_day
    }

    /// IANA zone in which it happened, e.g. Europe/Berlin.
    async fn time_zone(&self) -> Option<&str> {
        self.content.body.time_zone.as_deref()
    }

    /// Free text.
    async fn notes(&self) -> Option<&str> {
        self.content.body.notes.as_deref()
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
        self.content.body.location.as_ref().map(|place| Location {
            latitude: place.latitude,
            longitude: place.longitude,
            name: place.name.clone(),
        })
    }

    /// What else there is to say.
    async fn properties(&self) -> JsonObject {
        JsonObject::stored(&self.content.body.properties)
    }

    /// 1 when first created, +1 for each change that changed something.
    async fn version(&self) -> i32 {
        self.row.frame.version
    }

    /// The import that made it.
    async fn import_job_id(&self) -> Option<ID> {
        self.content.import_job_id.map(ID::from)
    }

    /// When the server first stored it.
    async fn created_at(&self) -> DateTime {
        DateTime::At(self.row.frame.created_at)
    }

    /// When it last changed.
    async fn updated_at(&self) -> DateTime {
        DateTime::At(self.row.frame.updated_at)
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

/// A living event type.
#[derive(Debug, Clone)]
pub struct EventType {
    /// Without its content.
    row: Arc<TypeRow>,
    content: Arc<TypeContent>,
}

impl EventType {
    /// None for a tombstone.
    pub(crate) fn of(row: Arc<TypeRow>) -> Option<Self> {
        let mut row = Arc::unwrap_or_clone(row);
        let content = Arc::new(row.content.take()?);
        Some(Self { row: Arc::new(row), content })
    }

    /// Its place in the list of types.
    pub(crate) fn key(&self) -> domain::store::event_type::Key {
        (self.content.name.clone(), self.row.frame.id)
    }
}

/// A kind of event that a user made.
#[Object]
impl EventType {
    /// Lower-case UUIDv7.
    async fn id(&self) -> ID {
        self.row.frame.id.into()
    }

    /// 1 to 100 characters, trimmed, NFC; unique among the user's living types.
    async fn name(&self) -> &str {
        &self.content.name
    }

    /// At most 32 characters.
    async fn color(&self) -> Option<&str> {
        self.content.color.as_deref()
    }

    /// At most 64 characters.
    async fn icon(&self) -> Option<&str> {
        self.content.icon.as_deref()
    }

    /// 1 when first created, +1 for each change that changed something.
    async fn version(&self) -> i32 {
        self.row.frame.version
    }

    /// When the server first stored it.
    async fn created_at(&self) -> DateTime {
        DateTime::At(self.row.frame.created_at)
    }

    /// When it last changed.
    async fn updated_at(&self) -> DateTime {
        DateTime::At(self.row.frame.updated_at)
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
