//! From what was sent to what may be stored: a draft is anything, a [`NewEvent`] is right. All that
//! is wrong with a draft is told at once.

mod edit;
mod fields;

use uuid::Uuid;

pub use edit::{
    EventEdit, EventEditDraft, EventPatch, EventPatchDraft, Guard, GuardDraft, Removal, RemovalDraft,
    Restore, TypeEdit, TypeEditDraft, TypePatch, TypePatchDraft, parse_event_edit, parse_removal,
    parse_restore, parse_type_edit,
};

use crate::limits;
use crate::problem::{Code, FieldProblem};
use crate::row::EventBody;
use crate::{content_hash, event_id};
use fields::Fields;

/// One field as it came in. Null is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Sent<T> {
    /// Nothing, or null.
    #[default]
    Absent,
    /// A value of the right JSON kind.
    Value(T),
    /// Another kind of JSON value.
    WrongKind,
}

/// An event as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventDraft {
    /// UUIDv7.
    pub id: Sent<String>,
    /// Id of its type.
    pub event_type_id: Sent<String>,
    /// Name of its type; only records of an import have it.
    pub event_type: Sent<String>,
    /// RFC 3339.
    pub timestamp: Sent<String>,
    /// RFC 3339.
    pub end_date: Sent<String>,
    /// Default false.
    pub is_all_day: Sent<bool>,
    /// IANA name.
    pub time_zone: Sent<String>,
    /// Free text.
    pub notes: Sent<String>,
    /// Default `manual`.
    pub source_type: Sent<String>,
    /// The source's own id.
    pub external_id: Sent<String>,
    /// Where.
    pub location: Sent<LocationDraft>,
    /// Text of a JSON object.
    pub properties: Sent<String>,
}

/// A location as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocationDraft {
    /// Degrees.
    pub latitude: Sent<f64>,
    /// Degrees.
    pub longitude: Sent<f64>,
    /// Name of the place.
    pub name: Sent<String>,
}

/// An event type as it was sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventTypeDraft {
    /// UUIDv7.
    pub id: Sent<String>,
    /// Required.
    pub name: Sent<String>,
    /// Any text.
    pub color: Sent<String>,
    /// Any text.
    pub icon: Sent<String>,
}

/// Where the id of an item comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdOrigin {
    /// The client sent it: it may become an alias.
    Sent,
    /// We made it, at random or from the content: nobody knows it.
    Made,
}

/// How an event names its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeRef {
    /// By id or alias.
    Id(Uuid),
    /// By name; made under `fresh_id` when missing.
    Name {
        /// Trimmed, NFC.
        name: String,
        /// The id it gets if it is made.
        fresh_id: Uuid,
    },
}

/// An event that is right in itself; whether it fits what is stored is for `apply` to say.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its id.
    pub id: Uuid,
    /// Whose id that is.
    pub origin: IdOrigin,
    /// Its type.
    pub type_ref: TypeRef,
    /// Where it comes from.
    pub source_type: String,
    /// The source's own id.
    pub external_id: Option<String>,
    /// What it says.
    pub body: EventBody,
    /// An id by which it may be stored as well.
    pub former_id: Option<FormerId>,
}

/// An event type that is right in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewType {
    /// Its id.
    pub id: Uuid,
    /// Whose id that is.
    pub origin: IdOrigin,
    /// Trimmed, NFC.
    pub name: String,
    /// Any text.
    pub color: Option<String>,
    /// Any text.
    pub icon: Option<String>,
}

/// What the id of an item becomes when none was sent.
#[derive(Debug, Clone, Copy)]
pub enum MissingId {
    /// This one, made for the item.
    Made(Uuid),
    /// One derived from this user and the content.
    Derived(Uuid),
    /// One derived from this user, the start, and what tells this event from others.
    Keyed(Uuid, Keys),
}

/// What tells an event of a source that has no ids from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The digest that its id is derived from.
    pub key: [u8; 32],
    /// The digest that ids of such records were derived from before more of them counted, and what counts since: JSON
    /// pointers into `properties`.
    pub former: Option<([u8; 32], &'static [&'static str])>,
}

/// The id that an event had before more counted than what tells it from others now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerId {
    /// It stands for the event if what is stored by it is equal in what counts since.
    pub id: Uuid,
    /// What counts since: JSON pointers into `properties`.
    pub told_apart_by: &'static [&'static str],
}

/// Reads an event. `fresh_type_id` is the id of its type, should it name a type that is missing.
///
/// # Errors
/// Every wrong field, in the order of the contract.
pub fn parse_event(
    draft: EventDraft,
    missing: MissingId,
    fresh_type_id: Uuid,
) -> Result<NewEvent, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let event = read_event(&mut fields, draft, missing, fresh_type_id);
    event.filter(|_| fields.are_right()).ok_or_else(|| fields.into_problems())
}

/// Reads the fields of an event; none when a required one is missing.
fn read_event(
    fields: &mut Fields,
    draft: EventDraft,
    missing: MissingId,
    fresh_type_id: Uuid,
) -> Option<NewEvent> {
    let id = fields.id("/id", draft.id);
    let type_ref = fields.type_ref(draft.event_type_id, draft.event_type, fresh_type_id);
    let is_all_day = draft.is_all_day == Sent::Value(true);
    let timestamp = fields.instant("/timestamp", draft.timestamp, is_all_day);
    if timestamp.is_none() {
        fields.require("/timestamp");
    }
    let end_date = fields.instant("/endDate", draft.end_date, is_all_day);
    if let (Some(start), Some(end)) = (timestamp, end_date)
        && end < start
    {
        fields.add("/endDate", Code::EndBeforeStart, "the end is before the start");
    }
    fields.kind("/isAllDay", draft.is_all_day);
    let time_zone = fields.time_zone(draft.time_zone);
    let notes = fields.text("/notes", draft.notes, limits::NOTES_CHARS_MAX);
    let source_type = fields.source_type(draft.source_type);
    let external_id = fields.text("/externalId", draft.external_id, limits::EXTERNAL_ID_CHARS_MAX);
    if external_id.as_deref() == Some("") {
        fields.add("/externalId", Code::InvalidValue, "must have at least one character");
    }
    let location = fields.location(draft.location);
    let properties = fields.properties(draft.properties);

    let (type_ref, timestamp) = (type_ref?, timestamp?);
    let body = EventBody { timestamp, end_date, is_all_day, time_zone, notes, location, properties };
    let mut former_id = None;
    let (id, origin) = match (id, missing) {
        (Some(id), _) => (id, IdOrigin::Sent),
        (None, MissingId::Made(id)) => (id, IdOrigin::Made),
        (None, MissingId::Derived(user_id)) => {
            let content =
                content_hash::of_event(type_key(&type_ref), &source_type, external_id.as_deref(), &body);
            (event_id::derive(user_id, timestamp, &content), IdOrigin::Made)
        }
        (None, MissingId::Keyed(user_id, Keys { key, former })) => {
            former_id = former.map(|(key, told_apart_by)| FormerId {
                id: event_id::derive(user_id, timestamp, &key),
                told_apart_by,
            });
            (event_id::derive(user_id, timestamp, &key), IdOrigin::Made)
        }
    };
    Some(NewEvent { id, origin, type_ref, source_type, external_id, body, former_id })
}

fn type_key(type_ref: &TypeRef) -> content_hash::TypeKey<'_> {
    match type_ref {
        TypeRef::Id(id) => content_hash::TypeKey::Id(*id),
        TypeRef::Name { name, .. } => content_hash::TypeKey::Name(name),
    }
}

/// Reads an event type.
///
/// # Errors
/// Every wrong field, in the order of the contract.
pub fn parse_type(draft: EventTypeDraft, made: Uuid) -> Result<NewType, Vec<FieldProblem>> {
    let mut fields = Fields::default();
    let id = fields.id("/id", draft.id);
    let name = fields.name("/name", draft.name);
    if name.is_none() {
        fields.require("/name");
    }
    let color = fields.text("/color", draft.color, limits::COLOR_CHARS_MAX);
    let icon = fields.text("/icon", draft.icon, limits::ICON_CHARS_MAX);
    let Some(name) = name.filter(|_| fields.are_right()) else {
        return Err(fields.into_problems());
    };
    let (id, origin) = id.map_or((made, IdOrigin::Made), |id| (id, IdOrigin::Sent));
    Ok(NewType { id, origin, name, color, icon })
}

/// The name of an installation: `^[A-Za-z0-9._-]{1,64}$`, else `None`.
#[must_use]
pub fn parse_client_id(text: &str) -> Option<&str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    ((1..=64).contains(&text.len()) && text.chars().all(allowed)).then_some(text)
}
