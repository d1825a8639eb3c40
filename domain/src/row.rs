//! What is stored, as plain values: an event, an event type, and the meta both share.

use uuid::Uuid;

use crate::content_hash::{self, TypeKey};

/// Where something happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// Degrees, -90 to 90.
    pub latitude: f64,
    /// Degrees, -180 to 180.
    pub longitude: f64,
    /// At most 255 characters.
    pub name: Option<String>,
}

/// What an event says, but for its type and its keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventBody {
    /// Epoch milliseconds.
    pub timestamp: i64,
    /// Epoch milliseconds, not before `timestamp`.
    pub end_date: Option<i64>,
    /// Both instants are dates at 00:00 UTC.
    pub is_all_day: bool,
    /// IANA name.
    pub time_zone: Option<String>,
    /// At most 10 000 characters.
    pub notes: Option<String>,
    /// Where.
    pub location: Option<Location>,
    /// Canonical JSON text of an object.
    pub properties: String,
}

/// Who wrote last, and since which version without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The installation, where it said its name.
    pub client_id: Option<String>,
    /// The version with which its run began.
    pub run_start: i32,
    /// The newest edit that it applied.
    pub edit_id: Option<Uuid>,
}

/// Who deleted a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletedBy {
    /// A person: final but for a restore.
    User,
    /// The rollback of an import: a later create makes it anew.
    Rollback,
}

impl DeletedBy {
    /// As it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Rollback => "rollback",
        }
    }
}

/// When and by whom a row was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// Epoch milliseconds.
    pub at: i64,
    /// By whom.
    pub by: DeletedBy,
}

/// The part of a row that is the same for all kinds, and that a tombstone keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowMeta {
    /// The canonical id.
    pub id: Uuid,
    /// 1 when first created, +1 for each change.
    pub version: i32,
    /// Position in the feed.
    pub change_seq: i64,
    /// The last writer.
    pub writer: Writer,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds.
    pub updated_at: i64,
    /// Set in a tombstone.
    pub deletion: Option<Deletion>,
}

/// The content of a living event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventContent {
    /// Canonical id of its type.
    pub event_type_id: Uuid,
    /// What it says.
    pub body: EventBody,
    /// SHA-256 of all that it says.
    pub hash: [u8; 32],
    /// The import that made it.
    pub import_job_id: Option<Uuid>,
    /// The version which that import gave it.
    pub import_version: Option<i32>,
}

/// An event as stored, living or a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Id, version, position, writer, times.
    pub meta: RowMeta,
    /// Never changes.
    pub source_type: String,
    /// Never changes; unique per source.
    pub external_id: Option<String>,
    /// None in a tombstone.
    pub content: Option<EventContent>,
}

/// The content of a living event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeContent {
    /// Trimmed, NFC, 1 to 100 characters.
    pub name: String,
    /// At most 32 characters.
    pub color: Option<String>,
    /// At most 64 characters.
    pub icon: Option<String>,
    /// SHA-256 of all that it says.
    pub hash: [u8; 32],
}

/// An event type as stored, living or a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeRow {
    /// Id, version, position, writer, times.
    pub meta: RowMeta,
    /// None in a tombstone.
    pub content: Option<TypeContent>,
}

impl EventRow {
    /// The same event, saying this: its source and external id never change.
    #[must_use]
    pub fn with_content(
        &self,
        meta: RowMeta,
        event_type_id: Uuid,
        body: EventBody,
        import: Option<(Uuid, i32)>,
    ) -> Self {
        let (source_type, external_id) = (self.source_type.clone(), self.external_id.clone());
        Self { meta, source_type, external_id, content: None }.filled(event_type_id, body, import)
    }

    /// This event, saying this.
    #[must_use]
    pub fn filled(mut self, event_type_id: Uuid, body: EventBody, import: Option<(Uuid, i32)>) -> Self {
        let kind = TypeKey::Id(event_type_id);
        let hash = content_hash::of_event(kind, &self.source_type, self.external_id.as_deref(), &body);
        let (import_job_id, import_version) = import.unzip();
        self.content = Some(EventContent { event_type_id, body, hash, import_job_id, import_version });
        self
    }
}

impl TypeContent {
    /// With its hash.
    #[must_use]
    pub fn new(name: String, color: Option<String>, icon: Option<String>) -> Self {
        let hash = content_hash::of_type(&name, color.as_deref(), icon.as_deref());
        Self { name, color, icon, hash }
    }
}
