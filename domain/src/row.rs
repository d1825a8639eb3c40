//! Defines the stored rows as plain values: events, event types, and the metadata that both have.

use uuid::Uuid;

use crate::content_hash::{self, TypeKey};

/// The place of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// Degrees, -90 to 90.
    pub latitude: f64,
    /// Degrees, -180 to 180.
    pub longitude: f64,
    /// The name of the place, at most 255 characters.
    pub name: Option<String>,
}

/// The content of an event without its type, its source and its external id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventBody {
    /// The start, in epoch milliseconds.
    pub timestamp: i64,
    /// The end, in epoch milliseconds. It is not before `timestamp`.
    pub end_date: Option<i64>,
    /// Whether `timestamp` and `end_date` are dates, at 00:00 UTC.
    pub is_all_day: bool,
    /// The time zone, a name of the IANA time zone database.
    pub time_zone: Option<String>,
    /// The notes, at most 10 000 characters of free text.
    pub notes: Option<String>,
    /// The place of the event.
    pub location: Option<Location>,
    /// The properties, a JSON object as canonical text ([`canonical_json`](crate::canonical_json)).
    pub properties: String,
}

/// The client that wrote a row last, and its writer run: the versions up to now that it alone wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The client id of the installation. `None` if its request had none.
    pub client_id: Option<String>,
    /// The first version of the writer run.
    pub run_start: i32,
    /// The greatest id of the edits that the client applied in its run.
    pub edit_id: Option<Uuid>,
}

/// Who deleted a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletedBy {
    /// The user. Only a restore brings the row back.
    User,
    /// The rollback of an import. A later create of the same event brings the row back.
    Rollback,
}

impl DeletedBy {
    /// The name that the column `deleted_by` stores.
    #[must_use]
    pub fn deleted_by_text(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Rollback => "rollback",
        }
    }
}

/// When and by whom a row was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// The time of the deletion, in epoch milliseconds.
    pub at: i64,
    /// Who deleted the row.
    pub by: DeletedBy,
}

/// The fields that events and event types have in common beside their content. A tombstone keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowMeta {
    /// The canonical id.
    pub id: Uuid,
    /// The version of the row: 1 in a new row. Each change adds 1.
    pub version: i32,
    /// The position of the row in the change feed. Each change moves it to the head.
    pub change_seq: i64,
    /// The client that wrote the current version.
    pub writer: Writer,
    /// When the row was created, in epoch milliseconds.
    pub created_at: i64,
    /// When the row was last changed or deleted, in epoch milliseconds.
    pub updated_at: i64,
    /// When and by whom the row was deleted. `None` in a living row.
    pub deletion: Option<Deletion>,
}

/// The content of a living event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventContent {
    /// The canonical id of the event type.
    pub event_type_id: Uuid,
    /// The content without the type, the source and the external id.
    pub body: EventBody,
    /// The content hash ([`content_hash::hash_event`]).
    pub hash: [u8; 32],
    /// The import that created the event.
    pub import_job_id: Option<Uuid>,
    /// The version that the event had when the import created it. If its version is another one now, it was
    /// changed since, and a rollback leaves it.
    pub import_version: Option<i32>,
}

/// A stored event, living or a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// The id, version, position, writer, times and deletion.
    pub meta: RowMeta,
    /// The source of the event. It never changes.
    pub source_type: String,
    /// The id of the event in its source. It never changes and is unique for the user and the source.
    pub external_id: Option<String>,
    /// The content. `None` in a tombstone.
    pub content: Option<EventContent>,
}

/// The content of a living event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeContent {
    /// The name, trimmed and in NFC, 1 to 100 characters. It is unique among the living types of a user.
    pub name: String,
    /// The colour, at most 32 characters. Only clients interpret it.
    pub color: Option<String>,
    /// The icon, at most 64 characters. Only clients interpret it.
    pub icon: Option<String>,
    /// The content hash ([`content_hash::hash_event_type`]).
    pub hash: [u8; 32],
}

/// A stored event type, living or a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeRow {
    /// The id, version, position, writer, times and deletion.
    pub meta: RowMeta,
    /// The content. `None` in a tombstone.
    pub content: Option<TypeContent>,
}

impl EventRow {
    /// A living copy of this event with other metadata and content. Its source and its external id stay.
    ///
    /// `import` is the import that created the event, and the version that it created.
    #[must_use]
    pub fn with_meta_and_content(
        &self,
        meta: RowMeta,
        event_type_id: Uuid,
        body: EventBody,
        import: Option<(Uuid, i32)>,
    ) -> Self {
        let (source_type, external_id) = (self.source_type.clone(), self.external_id.clone());
        Self { meta, source_type, external_id, content: None }.with_content(event_type_id, body, import)
    }

    /// Sets the content of this event and computes its hash.
    ///
    /// `import` is the import that created the event, and the version that it created.
    #[must_use]
    pub fn with_content(mut self, event_type_id: Uuid, body: EventBody, import: Option<(Uuid, i32)>) -> Self {
        let type_key = TypeKey::Id(event_type_id);
        let hash = content_hash::hash_event(type_key, &self.source_type, self.external_id.as_deref(), &body);
        let (import_job_id, import_version) = import.unzip();
        self.content = Some(EventContent { event_type_id, body, hash, import_job_id, import_version });
        self
    }
}

impl TypeContent {
    /// The content of a type, with its hash.
    #[must_use]
    pub fn new(name: String, color: Option<String>, icon: Option<String>) -> Self {
        let hash = content_hash::hash_event_type(&name, color.as_deref(), icon.as_deref());
        Self { name, color, icon, hash }
    }
}
