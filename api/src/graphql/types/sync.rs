//! The change feed, the digests for comparing copies, and the sync status.

use std::collections::HashMap;

use async_graphql::{Enum, ID, Object, SimpleObject};
use domain::apply::Entity;
use domain::digest::Bucket;
use domain::limits;
use domain::row::RowMeta;
use service::queries::feed::{self, Reset};
use service::queries::status::{SourceTotals, Totals};
use uuid::Uuid;

use super::event::{Event, EventType};
use crate::graphql::json_writer::{
    JsonList, JsonText, SelectedField, WriteField, WriteJson, infallible_field_writer,
};
use crate::graphql::scalar::{Cursor, DateTime, Long};

/// The kinds of entities in the change feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Entity")]
pub enum EntityType {
    /// An `Event`.
    Event,
    /// An `EventType`.
    EventType,
}

/// Why the change feed cannot continue from a cursor, so that the client must bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Reset")]
pub enum ResetReason {
    /// The cursor is malformed or belongs to another user. Bootstrap from the returned cursor.
    CursorInvalid,
    /// The cursor belongs to another feed epoch: a backup was restored, or a failover lost changes. Send the
    /// local rows again, then bootstrap.
    EpochChanged,
}

/// One page of the change feed.
#[derive(Debug, Clone, SimpleObject)]
pub struct ChangePage {
    /// The changed entities in the order of their positions. It is empty if `reset` is set.
    changes: JsonList<Change>,
    /// The cursor for the next page. With `reset` it starts a bootstrap. Store it together with the changes.
    cursor: Cursor,
    /// Whether more changes follow. It is true if `reset` is set.
    has_more: bool,
    /// Why the feed cannot continue from `after`, so that the client must bootstrap; null if it can.
    reset: Option<ResetReason>,
    /// The time of the server's clock when it made the response.
    server_time: DateTime,
}

/// One changed entity in the change feed, in its present state.
#[derive(Debug, Clone)]
pub enum Change {
    /// A living event.
    Event(Event),
    /// A living event type.
    EventType(EventType),
    /// The tombstone of an event or an event type.
    Tombstone(feed::Change),
}

impl ChangePage {
    /// Converts a page of the feed of `user_id` for a response. `now_ms` is the server time in epoch
    /// milliseconds.
    pub(crate) fn new(page: feed::ChangePage, user_id: Uuid, now_ms: i64) -> Self {
        let types =
            page.types.into_iter().filter_map(|(id, row)| Some((id, EventType::from_living_row(row).ok()?)));
        let types: HashMap<Uuid, EventType> = types.collect();
        Self {
            changes: JsonList(page.changes.into_iter().map(|change| Change::new(change, &types)).collect()),
            cursor: Cursor(page.cursor.encode(user_id)),
            has_more: page.has_more,
            reset: page.reset.map(ResetReason::from),
            server_time: DateTime::At(now_ms),
        }
    }

    /// The encoded cursor after which the next page begins.
    pub(crate) fn next_cursor(&self) -> &str {
        &self.cursor.0
    }
}

impl Change {
    /// Converts a change for a response: a deleted row becomes a tombstone, and an event gets its type if
    /// `types` contains it by its id.
    fn new(change: feed::Change, types: &HashMap<Uuid, EventType>) -> Self {
        match change {
            feed::Change::Event(row) => match Event::from_living_row(row) {
                Ok(event) => Self::Event(event.with_type_from(types)),
                Err(row) => Self::Tombstone(feed::Change::Event(row)),
            },
            feed::Change::EventType(row) => match EventType::from_living_row(row) {
                Ok(event_type) => Self::EventType(event_type),
                Err(row) => Self::Tombstone(feed::Change::EventType(row)),
            },
        }
    }

    fn row_meta(&self) -> &RowMeta {
        match self {
            Self::Event(event) => event.row_meta(),
            Self::EventType(event_type) => event_type.row_meta(),
            Self::Tombstone(change) => change.meta(),
        }
    }

    fn entity_type(&self) -> EntityType {
        match self {
            Self::Event(_) | Self::Tombstone(feed::Change::Event(_)) => EntityType::Event,
            Self::EventType(_) | Self::Tombstone(feed::Change::EventType(_)) => EntityType::EventType,
        }
    }

    fn living_event(&self) -> Option<&Event> {
        if let Self::Event(event) = self { Some(event) } else { None }
    }

    fn living_type(&self) -> Option<&EventType> {
        if let Self::EventType(event_type) = self { Some(event_type) } else { None }
    }
}

/// One changed entity, as it is now. Pages have entities in the order of their last changes: an event type
/// that was changed lately comes after its events, so apply changes without foreign keys.
#[Object]
impl Change {
    /// The kind of the entity.
    async fn entity(&self) -> EntityType {
        self.entity_type()
    }

    /// The id of the entity.
    async fn entity_id(&self) -> ID {
        self.row_meta().id.into()
    }

    /// The version of the entity. Its deletion counts as one version.
    async fn version(&self) -> i32 {
        self.row_meta().version
    }

    /// Whether the entity is deleted. If so, remove the local row.
    async fn deleted(&self) -> bool {
        self.row_meta().deletion.is_some()
    }

    /// The `clientId` of the last writer; null if it sent none. It is a hint and no reason to skip the
    /// change.
    async fn origin_client_id(&self) -> Option<ID> {
        self.row_meta().writer.client_id.clone().map(ID::from)
    }

    /// The event as it is now; null for an event type or a deleted event.
    async fn event(&self) -> Option<&Event> {
        self.living_event()
    }

    /// The event type as it is now; null for an event or a deleted event type.
    async fn event_type(&self) -> Option<&EventType> {
        self.living_type()
    }
}

impl WriteJson for Change {
    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.schema_field_name() {
            "entity" => {
                infallible_field_writer(|change: &Self, text| text.push_enum_name(change.entity_type()))
            }
            "entityId" => infallible_field_writer(|change: &Self, text| text.push_uuid(change.row_meta().id)),
            "version" => infallible_field_writer(|change: &Self, text| {
                text.push_serialized(&change.row_meta().version)
            }),
            "deleted" => infallible_field_writer(|change: &Self, text| {
                text.push_serialized(&change.row_meta().deletion.is_some())
            }),
            "originClientId" => infallible_field_writer(|change: &Self, text| {
                text.push_or_null(change.row_meta().writer.client_id.as_deref(), JsonText::push_string)
            }),
            "event" => {
                let plan = field.compile_object_plan::<Event>()?;
                Some(Box::new(move |change, text| plan.write_row_or_null(change.living_event(), text)))
            }
            "eventType" => {
                let plan = field.compile_object_plan::<EventType>()?;
                Some(Box::new(move |change, text| plan.write_row_or_null(change.living_type(), text)))
            }
            _ => None,
        }
    }
}

/// Checksums of the living entities of one kind, for comparison with a local copy.
#[derive(Debug, Clone, SimpleObject)]
pub struct SyncDigest {
    /// The kind of the entities.
    entity: EntityType,
    /// One bucket per month, in ascending order. Months without living entities are left out.
    buckets: Vec<DigestBucket>,
}

/// The living entities whose ids were made in one UTC month, by the time inside the UUIDv7.
#[derive(Debug, Clone, SimpleObject)]
pub struct DigestBucket {
    /// The month as `YYYY-MM`, in UTC.
    month: String,
    /// The number of living entities in this month.
    count: i32,
    /// The SHA-256 of the lines `id:version`, each with a line feed, of the living entities sorted by id. It
    /// has 64 lower-case hexadecimal digits.
    hash: String,
}

impl SyncDigest {
    pub(crate) fn new(entity: EntityType, buckets: Vec<Bucket>) -> Self {
        let buckets = buckets.into_iter().map(|bucket| DigestBucket {
            month: bucket.month,
            count: to_graphql_int(bucket.count),
            hash: bucket.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        });
        Self { entity, buckets: buckets.collect() }
    }
}

/// How a cursor relates to the newest position of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum SyncState {
    /// No changes follow the cursor. The local copy is complete.
    UpToDate,
    /// Changes follow the cursor. Pull them with `changes`.
    Behind,
    /// The feed cannot continue from the cursor. `changes` gives the reason and starts a bootstrap.
    ResetRequired,
}

/// An overview of the user's data and of the sync, for display.
#[derive(Debug, Clone, SimpleObject)]
pub struct SyncStatus {
    /// Whether changes follow the cursor `after`; null if none was given.
    pub state: Option<SyncState>,
    /// How many changed entities follow the cursor `after`; null without `after` or if a reset is required.
    pub pending: Option<i32>,
    /// The cursor after the newest change of the user.
    pub head_cursor: Cursor,
    /// When an event or event type last changed on the server; null if there has been none.
    pub last_change_at: Option<DateTime>,
    /// The latest `timestamp` of all living events of the user; null if there is none.
    pub last_event_at: Option<DateTime>,
    /// The number of living and deleted entities of each kind.
    pub counts: Vec<EntityCount>,
    /// Totals of the living events of each source, for the first 1 000 sources by name.
    pub sources: Vec<SourceStatus>,
    /// How many imports are queued, running, paused or failed.
    pub imports: ImportCounts,
    /// The limits that a client must keep.
    pub limits: SyncLimits,
    /// The time of the server's clock when it made the response.
    pub server_time: DateTime,
}

/// The number of entities of one kind.
#[derive(Debug, Clone, SimpleObject)]
pub struct EntityCount {
    /// The kind of the entities.
    entity: EntityType,
    /// The number of living entities.
    live: i32,
    /// The number of deleted entities.
    deleted: i32,
}

/// Totals of the living events of one source.
#[derive(Debug, Clone, SimpleObject)]
pub struct SourceStatus {
    /// The name of the source.
    source_type: String,
    /// The number of living events.
    count: i32,
    /// The latest `timestamp` of these events.
    last_event_at: Option<DateTime>,
    /// When the server stored the newest of these events, by `createdAt`.
    last_received_at: Option<DateTime>,
}

/// How many imports are in which state. Imports in other states are not counted.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportCounts {
    /// Imports that wait for a worker.
    queued: i32,
    /// Imports that are running or being rolled back.
    running: i32,
    /// Imports that the user has paused.
    paused: i32,
    /// Imports that have failed.
    failed: i32,
}

/// The limits that a client must keep.
#[derive(Debug, Clone, SimpleObject)]
pub struct SyncLimits {
    /// The most items of one `createEvents` or `applyMutations`.
    batch_items_max: i32,
    /// The most bytes of the body of one HTTP request, other than the payload of an import.
    batch_bytes_max: i32,
    /// The most entries of one page of `changes`.
    pull_first_max: i32,
    /// How many milliseconds the time inside a new id may be ahead of the server's clock.
    future_skew_ms_max: i32,
    /// The most bytes of one import payload, as sent.
    import_bytes_max: Long,
}

/// Converts a count to GraphQL's `Int`, which has 32 bits. A greater count becomes the greatest `Int`.
fn to_graphql_int(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl From<SourceTotals> for SourceStatus {
    fn from(totals: SourceTotals) -> Self {
        Self {
            source_type: totals.source_type,
            count: to_graphql_int(totals.count),
            last_event_at: totals.last_event_at.map(DateTime::At),
            last_received_at: totals.last_received_at.map(DateTime::At),
        }
    }
}

/// Converts the totals of a user to the numbers of living and deleted events and event types.
pub(crate) fn to_entity_counts(totals: &Totals) -> Vec<EntityCount> {
    let count = |entity, live, deleted| EntityCount {
        entity,
        live: to_graphql_int(live),
        deleted: to_graphql_int(deleted),
    };
    vec![
        count(EntityType::Event, totals.events_live, totals.events_deleted),
        count(EntityType::EventType, totals.types_live, totals.types_deleted),
    ]
}

/// Converts the totals of a user to the numbers of queued, running, paused and failed imports.
pub(crate) fn to_import_counts(totals: &Totals) -> ImportCounts {
    ImportCounts {
        queued: to_graphql_int(totals.imports_queued),
        running: to_graphql_int(totals.imports_running),
        paused: to_graphql_int(totals.imports_paused),
        failed: to_graphql_int(totals.imports_failed),
    }
}

/// The limits of this server that a client must keep. They are constants.
pub(crate) fn sync_limits() -> SyncLimits {
    SyncLimits {
        batch_items_max: limits::BATCH_ITEMS_MAX as i32,
        batch_bytes_max: limits::BODY_BYTES_MAX as i32,
        pull_first_max: limits::CHANGES_FIRST_MAX,
        future_skew_ms_max: limits::FUTURE_SKEW_MS_MAX as i32,
        import_bytes_max: Long(limits::PAYLOAD_BYTES_MAX),
    }
}
