//! The change feed and the state of a client's sync.

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
use crate::graphql::json_writer::{JsonList, JsonText, SelectedField, WriteField, WriteJson, known};
use crate::graphql::scalar::{Cursor, DateTime, Long};

/// The kinds that the feed tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Entity")]
pub enum EntityType {
    /// An event.
    Event,
    /// An event type.
    EventType,
}

/// Why a cursor does not lead on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Reset")]
pub enum ResetReason {
    /// It is none of this user's.
    CursorInvalid,
    /// It is of another counting: a backup was restored.
    EpochChanged,
}

/// What follows a cursor.
#[derive(Debug, Clone, SimpleObject)]
pub struct ChangePage {
    /// In the order of their positions.
    changes: JsonList<Change>,
    /// Where to go on. With `reset`: the start of a bootstrap.
    cursor: Cursor,
    /// More follow.
    has_more: bool,
    /// Set: the cursor was no good.
    reset: Option<ResetReason>,
    /// The server's clock.
    server_time: DateTime,
}

/// One entity at its newest position.
#[derive(Debug, Clone)]
pub enum Change {
    /// A living event.
    Event(Event),
    /// A living event type.
    EventType(EventType),
    /// What was deleted.
    Tombstone(feed::Change),
}

impl ChangePage {
    /// Of a user, at an instant.
    pub(crate) fn new(page: feed::ChangePage, user_id: Uuid, now_ms: i64) -> Self {
        let types = page.types.into_iter().filter_map(|(id, row)| Some((id, EventType::of(row).ok()?)));
        let types: HashMap<Uuid, EventType> = types.collect();
        Self {
            changes: JsonList(page.changes.into_iter().map(|change| Change::new(change, &types)).collect()),
            cursor: Cursor(page.cursor.encode(user_id)),
            has_more: page.has_more,
            reset: page.reset.map(ResetReason::from),
            server_time: DateTime::At(now_ms),
        }
    }

    /// Where to go on.
    pub(crate) fn end(&self) -> &str {
        &self.cursor.0
    }
}

impl Change {
    /// With the type of its event, where it is among those.
    fn new(change: feed::Change, types: &HashMap<Uuid, EventType>) -> Self {
        match change {
            feed::Change::Event(row) => match Event::of(row) {
                Ok(event) => Self::Event(event.with_type_of(types)),
                Err(row) => Self::Tombstone(feed::Change::Event(row)),
            },
            feed::Change::EventType(row) => match EventType::of(row) {
                Ok(event_type) => Self::EventType(event_type),
                Err(row) => Self::Tombstone(feed::Change::EventType(row)),
            },
        }
    }

    fn meta(&self) -> &RowMeta {
        match self {
            Self::Event(event) => event.meta(),
            Self::EventType(event_type) => event_type.meta(),
            Self::Tombstone(change) => change.meta(),
        }
    }

    fn kind(&self) -> EntityType {
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

/// One entity at its newest position. A type renamed late comes after its events: apply without foreign keys.
#[Object]
impl Change {
    /// Its kind.
    async fn entity(&self) -> EntityType {
        self.kind()
    }

    /// Its id.
    async fn entity_id(&self) -> ID {
        self.meta().id.into()
    }

    /// Its version.
    async fn version(&self) -> i32 {
        self.meta().version
    }

    /// Whether it is deleted.
    async fn deleted(&self) -> bool {
        self.meta().deletion.is_some()
    }

    /// The last writer; a hint, not a reason to skip.
    async fn origin_client_id(&self) -> Option<ID> {
        self.meta().writer.client_id.clone().map(ID::from)
    }

    /// The event as it is, unless deleted.
    async fn event(&self) -> Option<&Event> {
        self.living_event()
    }

    /// The type as it is, unless deleted.
    async fn event_type(&self) -> Option<&EventType> {
        self.living_type()
    }
}

impl WriteJson for Change {
    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.name() {
            "entity" => known(|change: &Self, text| text.name(change.kind())),
            "entityId" => known(|change: &Self, text| text.id(change.meta().id)),
            "version" => known(|change: &Self, text| text.json(&change.meta().version)),
            "deleted" => known(|change: &Self, text| text.json(&change.meta().deletion.is_some())),
            "originClientId" => known(|change: &Self, text| {
                text.option(change.meta().writer.client_id.as_deref(), JsonText::string)
            }),
            "event" => {
                let plan = field.plan::<Event>()?;
                Some(Box::new(move |change, text| plan.write_option(change.living_event(), text)))
            }
            "eventType" => {
                let plan = field.plan::<EventType>()?;
                Some(Box::new(move |change, text| plan.write_option(change.living_type(), text)))
            }
            _ => None,
        }
    }
}

/// What of a kind is alive, to be compared with a copy.
#[derive(Debug, Clone, SimpleObject)]
pub struct SyncDigest {
    /// The kind.
    entity: EntityType,
    /// Ascending months; those without rows are left out.
    buckets: Vec<DigestBucket>,
}

/// One UTC month of id time, YYYY-MM. hash: lower-case hex SHA-256 over the lines `id:version` + LF of its living
/// rows, sorted by id.
#[derive(Debug, Clone, SimpleObject)]
pub struct DigestBucket {
    /// YYYY-MM
    month: String,
    /// Living rows.
    count: i32,
    /// 64 hexadecimal digits.
    hash: String,
}

impl SyncDigest {
    pub(crate) fn new(entity: EntityType, buckets: Vec<Bucket>) -> Self {
        let buckets = buckets.into_iter().map(|bucket| DigestBucket {
            month: bucket.month,
            count: number(bucket.count),
            hash: bucket.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        });
        Self { entity, buckets: buckets.collect() }
    }
}

/// Where a cursor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum SyncState {
    /// Nothing follows it.
    UpToDate,
    /// Something follows it.
    Behind,
    /// It does not lead on.
    ResetRequired,
}

/// What a client shows of its sync.
#[derive(Debug, Clone, SimpleObject)]
pub struct SyncStatus {
    /// Of the cursor given as `after`; null without one.
    pub state: Option<SyncState>,
    /// Entities that a pull from `after` would bring.
    pub pending: Option<i32>,
    /// The newest position.
    pub head_cursor: Cursor,
    /// When anything last changed.
    pub last_change_at: Option<DateTime>,
    /// When the newest event happened.
    pub last_event_at: Option<DateTime>,
    /// How many of each kind.
    pub counts: Vec<EntityCount>,
    /// Living events by source, for the first 1 000 sources by name.
    pub sources: Vec<SourceStatus>,
    /// Imports by what they do.
    pub imports: ImportCounts,
    /// What a client must keep to.
    pub limits: SyncLimits,
    /// The server's clock.
    pub server_time: DateTime,
}

/// How many of a kind.
#[derive(Debug, Clone, SimpleObject)]
pub struct EntityCount {
    /// The kind.
    entity: EntityType,
    /// Living ones.
    live: i32,
    /// Tombstones.
    deleted: i32,
}

/// Living events of one source.
#[derive(Debug, Clone, SimpleObject)]
pub struct SourceStatus {
    /// Its name.
    source_type: String,
    /// How many.
    count: i32,
    /// When the newest happened.
    last_event_at: Option<DateTime>,
    /// When the newest arrived.
    last_received_at: Option<DateTime>,
}

/// Imports by what they do.
#[derive(Debug, Clone, SimpleObject)]
pub struct ImportCounts {
    /// They wait for a worker.
    queued: i32,
    /// A worker holds them.
    running: i32,
    /// Stopped by the user for now.
    paused: i32,
    /// They cannot go on.
    failed: i32,
}

/// What a client must keep to.
#[derive(Debug, Clone, SimpleObject)]
pub struct SyncLimits {
    /// Items of one batch.
    batch_items_max: i32,
    /// Bytes of one request.
    batch_bytes_max: i32,
    /// Entries of one page of `changes`.
    pull_first_max: i32,
    /// How far ahead the time of an id may be.
    future_skew_ms_max: i32,
    /// Bytes of one import.
    import_bytes_max: Long,
}

fn number(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl From<SourceTotals> for SourceStatus {
    fn from(totals: SourceTotals) -> Self {
        Self {
            source_type: totals.source_type,
            count: number(totals.count),
            last_event_at: totals.last_event_at.map(DateTime::At),
            last_received_at: totals.last_received_at.map(DateTime::At),
        }
    }
}

/// Both kinds, counted.
pub(crate) fn entity_counts(totals: &Totals) -> Vec<EntityCount> {
    let count = |entity, live, deleted| EntityCount { entity, live: number(live), deleted: number(deleted) };
    vec![
        count(EntityType::Event, totals.events_live, totals.events_deleted),
        count(EntityType::EventType, totals.types_live, totals.types_deleted),
    ]
}

/// Imports, counted.
pub(crate) fn import_counts(totals: &Totals) -> ImportCounts {
    ImportCounts {
        queued: number(totals.imports_queued),
        running: number(totals.imports_running),
        paused: number(totals.imports_paused),
        failed: number(totals.imports_failed),
    }
}

/// The limits of this server.
pub(crate) fn sync_limits() -> SyncLimits {
    SyncLimits {
        batch_items_max: limits::BATCH_ITEMS_MAX as i32,
        batch_bytes_max: limits::BODY_BYTES_MAX as i32,
        pull_first_max: limits::CHANGES_FIRST_MAX,
        future_skew_ms_max: limits::FUTURE_SKEW_MS_MAX as i32,
        import_bytes_max: Long(limits::PAYLOAD_BYTES_MAX),
    }
}
