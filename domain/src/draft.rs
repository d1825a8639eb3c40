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

/// One field of the input.
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

/// An event as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventDraft {
    /// A UUIDv7.
    pub id: Sent<String>,
    /// The id of the event type.
    pub event_type_id: Sent<String>,
    /// The name of the event type. Only records of an import have it.
    pub event_type: Sent<String>,
    /// The start, as an RFC 3339 instant.
    pub timestamp: Sent<String>,
    /// The end, as an RFC 3339 instant.
    pub end_date: Sent<String>,
    /// Whether the instants are dates. The default is false.
    pub is_all_day: Sent<bool>,
    /// A name of the IANA time zone database.
    pub time_zone: Sent<String>,
    /// Free text.
    pub notes: Sent<String>,
    /// The source of the event. The default is `manual`.
    pub source_type: Sent<String>,
    /// The id of the event in its source.
    pub external_id: Sent<String>,
    /// The place of the event.
    pub location: Sent<LocationDraft>,
    /// The text of a JSON object.
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

/// An event type as it was sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventTypeDraft {
    /// A UUIDv7.
    pub id: Sent<String>,
    /// The name. It is required.
    pub name: Sent<String>,
    /// Free text.
    pub color: Sent<String>,
    /// Free text.
    pub icon: Sent<String>,
}

/// Who chose the id of an item.
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
    /// By its id or an alias.
    Id(Uuid),
    /// By its name. A type that does not exist is created.
    Name {
        /// The name, trimmed and in NFC.
        name: String,
        /// The id of the type if it is created.
        fresh_id: Uuid,
    },
}

/// A parsed event. All its values are valid; `apply` decides whether it fits the stored rows.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The id of the event.
    pub id: Uuid,
    /// Who chose the id.
    pub origin: IdOrigin,
    /// The event type.
    pub type_ref: TypeRef,
    /// The source of the event.
    pub source_type: String,
    /// The id of the event in its source.
    pub external_id: Option<String>,
    /// The other content.
    pub body: EventBody,
    /// An older derived id, under which the same event may be stored already.
    pub former_id: Option<FormerId>,
}

/// A parsed event type. All its values are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewType {
    /// The id of the type.
    pub id: Uuid,
    /// Who chose the id.
    pub origin: IdOrigin,
    /// The name, trimmed and in NFC.
    pub name: String,
    /// Free text.
    pub color: Option<String>,
    /// Free text.
    pub icon: Option<String>,
}

/// How an item without an id gets one.
#[derive(Debug, Clone, Copy)]
pub enum MissingId {
    /// It gets this id, which the caller generated for it.
    Generated(Uuid),
    /// Its id is derived from this user, its start and its content.
    Derived(Uuid),
    /// Its id is derived from this user, its start and these keys.
    FromKeys(Uuid, Keys),
}

/// The digests that identify an event of a source without ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The digest from which its id is derived.
    pub key: [u8; 32],
    /// The digest from which earlier versions derived the id. Beside it are the properties that were added to
    /// the digest since, as JSON Pointers into `properties`.
    pub former: Option<([u8; 32], &'static [&'static str])>,
}

/// The id that earlier versions derived for an event, from fewer of its properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerId {
    /// The former id. The event stored under it is the same if both are equal in `distinguished_by`.
    pub id: Uuid,
    /// The properties from which the id is derived in addition since, as JSON Pointers into `properties`.
    pub distinguished_by: &'static [&'static str],
}

/// Parses an event.
///
/// If the event refers to its type by a name, and the type has to be created, it gets `fresh_type_id`.
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

/// Parses the fields of an event. `None` if a required one has no value.
fn parse_event_fields(
    fields: &mut Fields,
    draft: EventDraft,
    missing: MissingId,
    fresh_type_id: Uuid,
) -> Option<NewEvent> {
    let id = fields.parse_id("/id", draft.id);
    let type_ref = fields.parse_type_ref(draft.event_type_id, draft.event_type, fresh_type_id);
    let is_all_day = draft.is_all_day == Sent::Value(true);
    let timestamp = fields.parse_instant_ms("/timestamp", draft.timestamp, is_all_day);
    if timestamp.is_none() {
        fields.add_required_problem("/timestamp");
    }
    let end_date = fields.parse_instant_ms("/endDate", draft.end_date, is_all_day);
    if let (Some(start), Some(end)) = (timestamp, end_date)
        && end < start
    {
        fields.add_problem("/endDate", Code::EndBeforeStart, "the end must not be before the start");
    }
    fields.parse_value("/isAllDay", draft.is_all_day);
    let time_zone = fields.parse_time_zone(draft.time_zone);
    let notes = fields.check_text("/notes", draft.notes, limits::NOTES_CHARS_MAX);
    let source_type = fields.parse_source_type(draft.source_type);
    let external_id = fields.check_text("/externalId", draft.external_id, limits::EXTERNAL_ID_CHARS_MAX);
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

fn to_type_key(type_ref: &TypeRef) -> content_hash::TypeKey<'_> {
    match type_ref {
        TypeRef::Id(id) => content_hash::TypeKey::Id(*id),
        TypeRef::Name { name, .. } => content_hash::TypeKey::Name(name),
    }
}

/// Parses an event type. It gets `generated_id` if the draft has no id.
///
/// # Errors
/// One [`FieldProblem`] for each wrong field, in the order of the fields in the GraphQL schema.
pub fn parse_event_type(draft: EventTypeDraft, generated_id: Uuid) -> Result<NewType, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = fields.parse_id("/id", draft.id);
    let name = fields.parse_type_name("/name", draft.name);
    if name.is_none() {
        fields.add_required_problem("/name");
    }
    let color = fields.check_text("/color", draft.color, limits::COLOR_CHARS_MAX);
    let icon = fields.check_text("/icon", draft.icon, limits::ICON_CHARS_MAX);
    let Some(name) = name.filter(|_| fields.has_no_problem()) else {
        return Err(fields.into_problems());
    };
    let (id, origin) = id.map_or((generated_id, IdOrigin::Generated), |id| (id, IdOrigin::Sent));
    Ok(NewType { id, origin, name, color, icon })
}

/// Checks a client id. `None` unless it matches `^[A-Za-z0-9._-]{1,64}$`.
#[must_use]
pub fn parse_client_id(text: &str) -> Option<&str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    ((1..=64).contains(&text.len()) && text.chars().all(allowed)).then_some(text)
}
