//! Parses drafts (unchecked input) into writes that are valid in themselves.
//!
//! A draft can hold any input, and a [`NewEvent`] only valid values. The parsers report all problems of a
//! draft at once. Whether a write fits the stored rows is decided later, by [`apply`](crate::apply).

mod edit;
mod fields;

use uuid::Uuid;

pub use edit::{
    EventEdit, EventEditDraft, EventPatch, EventPatchDraft, Guard, GuardDraft, Removal, RemovalDraft,
    Restore, TypeEdit, TypeEditDraft, TypePatch, TypePatchDraft, parse_event_edit, parse_event_type_edit,
    parse_removal, parse_restore,
};

use crate::limits;
use crate::problem::{Code, FieldProblem};
use crate::row::EventBody;
use crate::{content_hash, event_id};
use fields::Fields;

/// What a client or a file sent for one field.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Sent<T> {
    /// The field was missing or null.
    #[default]
    Absent,
    /// A value of the expected JSON type.
    Value(T),
    /// A value of another JSON type.
    WrongType,
}

/// A new event, or the content of a restore, as it was sent and unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventDraft {
    /// The id of the event, a UUIDv7. It is optional for a new event.
    pub id: Sent<String>,
    /// The id of the event type.
    pub event_type_id: Sent<String>,
    /// The name of the event type, in place of its id. Only records of an import have it.
    pub event_type: Sent<String>,
    /// The start, as an RFC 3339 instant.
    pub timestamp: Sent<String>,
    /// The end, as an RFC 3339 instant.
    pub end_date: Sent<String>,
    /// Whether only the dates of the start and the end count. The default is false.
    pub is_all_day: Sent<bool>,
    /// The time zone, a name of the IANA time zone database.
    pub time_zone: Sent<String>,
    /// The notes, free text.
    pub notes: Sent<String>,
    /// The source of the event. The default is `manual`.
    pub source_type: Sent<String>,
    /// The id of the event in its source.
    pub external_id: Sent<String>,
    /// The place of the event.
    pub location: Sent<LocationDraft>,
    /// The properties, as the text of a JSON object.
    pub properties: Sent<String>,
}

/// A location as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocationDraft {
    /// Degrees, -90 to 90.
    pub latitude: Sent<f64>,
    /// Degrees, -180 to 180.
    pub longitude: Sent<f64>,
    /// The name of the place.
    pub name: Sent<String>,
}

/// A new event type as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventTypeDraft {
    /// The id of the event type, a UUIDv7. It is optional.
    pub id: Sent<String>,
    /// The name. It is required.
    pub name: Sent<String>,
    /// The colour, free text.
    pub color: Sent<String>,
    /// The icon, free text.
    pub icon: Sent<String>,
}

/// Who chose the id of a new event or event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdOrigin {
    /// The client. If the row exists under another id, this id becomes an alias.
    Sent,
    /// The server, at random or from the content. No client knows the id yet.
    Generated,
}

/// How an event refers to its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeRef {
    /// By the id or an alias of the type, which must exist.
    Id(Uuid),
    /// By the name of the type. If no living type has it, the type is created with the event.
    Name {
        /// The name of the type, trimmed and in NFC.
        name: String,
        /// The id that the type gets if it has to be created.
        fresh_id: Uuid,
    },
}

/// A parsed event to create or restore. All its values are valid; `apply` decides whether it fits the stored
/// rows.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The id of the event, sent or generated. An event that is stored already keeps its own id.
    pub id: Uuid,
    /// Who chose the id.
    pub origin: IdOrigin,
    /// The event type, by its id or its name.
    pub type_ref: TypeRef,
    /// The source of the event.
    pub source_type: String,
    /// The id of the event in its source.
    pub external_id: Option<String>,
    /// The content of the event without its type, its source and its external id.
    pub body: EventBody,
    /// An older derived id, under which the same event may be stored already.
    pub former_id: Option<FormerId>,
}

/// A parsed event type to create. All its values are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewType {
    /// The id of the type, sent or generated. A type that is stored already keeps its own id.
    pub id: Uuid,
    /// Who chose the id.
    pub origin: IdOrigin,
    /// The name, trimmed and in NFC.
    pub name: String,
    /// The colour, free text.
    pub color: Option<String>,
    /// The icon, free text.
    pub icon: Option<String>,
}

/// How an event that was sent without an id gets one.
#[derive(Debug, Clone, Copy)]
pub enum MissingId {
    /// The event gets this id, which the caller generated for it.
    Generated(Uuid),
    /// The id is derived from the id of this user, the start and the content of the event.
    Derived(Uuid),
    /// The id is derived from the id of this user, the start of the event and these keys.
    FromKeys(Uuid, Keys),
}

/// The digests that identify an event of an import whose file has no ids, such as an Apple Health export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The digest from which the id of the event is derived.
    pub key: [u8; 32],
    /// The digest from which earlier versions of the server derived the id, and the properties that only
    /// `key` includes, as JSON Pointers into `properties`. `None` if both digests are equal.
    pub former: Option<([u8; 32], &'static [&'static str])>,
}

/// The id that earlier versions of the server derived for an event, from fewer of its properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerId {
    /// The former id. A living event that is stored under it counts as another event if a property in
    /// `distinguished_by` differs.
    pub id: Uuid,
    /// The properties that the former id does not depend on and the new id does, as JSON Pointers into
    /// `properties`.
    pub distinguished_by: &'static [&'static str],
}

/// Checks all fields of an event, and returns it with valid values. `missing` says which id it gets if it has
/// none.
///
/// If the event refers to its type by a name, and the type has to be created, the type gets `fresh_type_id`.
///
/// # Errors
/// One [`FieldProblem`] for each wrong field, in the order of the fields in the GraphQL schema.
pub fn parse_event(
    draft: EventDraft,
    missing: MissingId,
    fresh_type_id: Uuid,
) -> Result<NewEvent, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let event = parse_event_fields(&mut fields, draft, missing, fresh_type_id);
    event.filter(|_| fields.has_no_problem()).ok_or_else(|| fields.into_problems())
}

/// Parses the fields of an event, and adds their problems to `fields`. `None` if the type or the start is
/// missing or wrong.
fn parse_event_fields(
    fields: &mut Fields,
    draft: EventDraft,
    missing: MissingId,
    fresh_type_id: Uuid,
) -> Option<NewEvent> {
    let id = fields.parse_id("/id", draft.id);
    let type_ref = fields.parse_event_type_ref(draft.event_type_id, draft.event_type, fresh_type_id);
    let is_all_day = draft.is_all_day == Sent::Value(true);
    let timestamp = fields.parse_instant_ms("/timestamp", draft.timestamp, is_all_day);
    if timestamp.is_none() {
        fields.add_missing_field_problem("/timestamp");
    }
    let end_date = fields.parse_instant_ms("/endDate", draft.end_date, is_all_day);
    if let (Some(start), Some(end)) = (timestamp, end_date)
        && end < start
    {
        fields.add_problem("/endDate", Code::EndBeforeStart, "the end must not be before the start");
    }
    fields.value_or_wrong_type_problem("/isAllDay", draft.is_all_day);
    let time_zone = fields.parse_time_zone(draft.time_zone);
    let notes = fields.parse_text("/notes", draft.notes, limits::NOTES_CHARS_MAX);
    let source_type = fields.parse_source_type(draft.source_type);
    let external_id = fields.parse_text("/externalId", draft.external_id, limits::EXTERNAL_ID_CHARS_MAX);
    if external_id.as_deref() == Some("") {
        fields.add_problem("/externalId", Code::InvalidValue, "must have at least one character");
    }
    let location = fields.parse_location(draft.location);
    let properties = fields.parse_properties(draft.properties);

    let (type_ref, timestamp) = (type_ref?, timestamp?);
    let body = EventBody { timestamp, end_date, is_all_day, time_zone, notes, location, properties };
    let mut former_id = None;
    let (id, origin) = match (id, missing) {
        (Some(id), _) => (id, IdOrigin::Sent),
        (None, MissingId::Generated(id)) => (id, IdOrigin::Generated),
        (None, MissingId::Derived(user_id)) => {
            let content =
                content_hash::hash_event(to_type_key(&type_ref), &source_type, external_id.as_deref(), &body);
            (event_id::derive_id(user_id, timestamp, &content), IdOrigin::Generated)
        }
        (None, MissingId::FromKeys(user_id, Keys { key, former })) => {
            former_id = former.map(|(key, distinguished_by)| FormerId {
                id: event_id::derive_id(user_id, timestamp, &key),
                distinguished_by,
            });
            (event_id::derive_id(user_id, timestamp, &key), IdOrigin::Generated)
        }
    };
    Some(NewEvent { id, origin, type_ref, source_type, external_id, body, former_id })
}

/// The event type as the content hash of an event contains it.
fn to_type_key(type_ref: &TypeRef) -> content_hash::TypeKey<'_> {
    match type_ref {
        TypeRef::Id(id) => content_hash::TypeKey::Id(*id),
        TypeRef::Name { name, .. } => content_hash::TypeKey::Name(name),
    }
}

/// Checks all fields of a new event type, and returns it with valid values. It gets `generated_id` if the
/// draft has no id.
///
/// # Errors
/// One [`FieldProblem`] for each wrong field, in the order of the fields in the GraphQL schema.
pub fn parse_event_type(draft: EventTypeDraft, generated_id: Uuid) -> Result<NewType, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = fields.parse_id("/id", draft.id);
    let name = fields.parse_event_type_name("/name", draft.name);
    if name.is_none() {
        fields.add_missing_field_problem("/name");
    }
    let color = fields.parse_text("/color", draft.color, limits::COLOR_CHARS_MAX);
    let icon = fields.parse_text("/icon", draft.icon, limits::ICON_CHARS_MAX);
    let Some(name) = name.filter(|_| fields.has_no_problem()) else {
        return Err(fields.into_problems());
    };
    let (id, origin) = id.map_or((generated_id, IdOrigin::Generated), |id| (id, IdOrigin::Sent));
    Ok(NewType { id, origin, name, color, icon })
}

/// Returns the text if it is a valid client id: if it matches `^[A-Za-z0-9._-]{1,64}$`.
#[must_use]
pub fn parse_client_id(text: &str) -> Option<&str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    ((1..=64).contains(&text.len()) && text.chars().all(allowed)).then_some(text)
}
