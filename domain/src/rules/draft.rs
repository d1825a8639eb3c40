//! From what was sent to what may be stored: a draft is anything, a [`NewEvent`] is right. All that
//! is wrong with a draft is told at once.

use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::limits;
use crate::rules::problem::{Code, FieldProblem};
use crate::rules::row::{EventBody, Location};
use crate::rules::{canonical_json, content_hash, event_id, instant};

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

    let (Some(type_ref), Some(timestamp), []) = (type_ref, timestamp, fields.0.as_slice()) else {
        return Err(fields.0);
    };
    let body = EventBody { timestamp, end_date, is_all_day, time_zone, notes, location, properties };
    let (id, origin) = match (id, missing) {
        (Some(id), _) => (id, IdOrigin::Sent),
        (None, MissingId::Made(id)) => (id, IdOrigin::Made),
        (None, MissingId::Derived(user_id)) => {
            let content =
                content_hash::of_event(type_key(&type_ref), &source_type, external_id.as_deref(), &body);
            (event_id::derive(user_id, timestamp, &content), IdOrigin::Made)
        }
    };
    Ok(NewEvent { id, origin, type_ref, source_type, external_id, body })
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
    let (Some(name), []) = (name, fields.0.as_slice()) else {
        return Err(fields.0);
    };
    let (id, origin) = id.map_or((made, IdOrigin::Made), |id| (id, IdOrigin::Sent));
    Ok(NewType { id, origin, name, color, icon })
}

/// The problems found so far; each method reads one field and adds what is wrong with it.
#[derive(Default)]
struct Fields(Vec<FieldProblem>);

impl Fields {
    fn add(&mut self, pointer: &str, code: Code, detail: &str) {
        self.0.push(FieldProblem::new(pointer, code, detail));
    }

    /// Says that a field is missing, unless something else was said of it.
    fn require(&mut self, pointer: &str) {
        if !self.0.iter().any(|problem| problem.pointer == pointer) {
            self.add(pointer, Code::Required, "is required");
        }
    }

    fn kind<T>(&mut self, pointer: &str, sent: Sent<T>) -> Option<T> {
        match sent {
            Sent::Absent => None,
            Sent::Value(value) => Some(value),
            Sent::WrongKind => {
                self.add(pointer, Code::InvalidValue, "is of the wrong kind");
                None
            }
        }
    }

    fn text(&mut self, pointer: &str, sent: Sent<String>, chars_max: usize) -> Option<String> {
        let text = self.kind(pointer, sent)?;
        if text.contains('\0') {
            self.add(pointer, Code::NulCharacter, "must not hold a NUL character");
        } else if text.chars().count() > chars_max {
            self.add(pointer, Code::TooLong, &format!("at most {chars_max} characters are allowed"));
        } else {
            return Some(text);
        }
        None
    }

    fn name(&mut self, pointer: &str, sent: Sent<String>) -> Option<String> {
        let text = self.text(pointer, sent, usize::MAX)?;
        let name: String = text.trim().nfc().collect();
        if name.is_empty() {
            self.add(pointer, Code::InvalidValue, "must have at least one character");
        } else if name.chars().count() > limits::TYPE_NAME_CHARS_MAX {
            let detail = format!("at most {} characters are allowed", limits::TYPE_NAME_CHARS_MAX);
            self.add(pointer, Code::TooLong, &detail);
        } else {
            return Some(name);
        }
        None
    }

    fn id(&mut self, pointer: &str, sent: Sent<String>) -> Option<Uuid> {
        let parsed = match sent {
            Sent::Absent => return None,
            Sent::Value(text) => event_id::parse(&text),
            Sent::WrongKind => None,
        };
        if parsed.is_none() {
            self.add(pointer, Code::InvalidUuid, "must be a UUID: 8-4-4-4-12 hexadecimal digits");
        }
        parsed
    }

    fn type_ref(&mut self, id: Sent<String>, name: Sent<String>, fresh_id: Uuid) -> Option<TypeRef> {
        if id != Sent::Absent {
            return self.id("/eventTypeId", id).map(TypeRef::Id);
        }
        if name != Sent::Absent {
            let name = self.name("/eventType", name)?;
            return Some(TypeRef::Name { name, fresh_id });
        }
        self.require("/eventTypeId");
        None
    }

    fn instant(&mut self, pointer: &str, sent: Sent<String>, is_date: bool) -> Option<i64> {
        let parsed = match sent {
            Sent::Absent => return None,
            Sent::Value(text) => instant::parse(&text),
            Sent::WrongKind => None,
        };
        let ms = parsed.map(|written| if is_date { written.date_ms } else { written.ms });
        let ms = ms.filter(|ms| (instant::MIN_MS..=instant::MAX_MS).contains(ms));
        if ms.is_none() {
            self.add(pointer, Code::InvalidDatetime, "must be RFC 3339, in the years 0001 to 9999");
        }
        ms
    }

    fn time_zone(&mut self, sent: Sent<String>) -> Option<String> {
        let zone = self.text("/timeZone", sent, usize::MAX)?;
        if chrono_tz::Tz::from_str(&zone).is_ok() {
            return Some(zone);
        }
        self.add("/timeZone", Code::UnknownTimeZone, "is not a name of the IANA time zone database");
        None
    }

    fn source_type(&mut self, sent: Sent<String>) -> String {
        let Some(source) = self.text("/sourceType", sent, usize::MAX) else {
            return "manual".to_owned();
        };
        let starts = source.starts_with(|c: char| c.is_ascii_lowercase());
        let goes_on = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if !(starts && source.len() <= 32 && source.chars().all(goes_on)) {
            self.add("/sourceType", Code::InvalidValue, "must match ^[a-z][a-z0-9_-]{0,31}$");
        }
        source
    }

    fn location(&mut self, sent: Sent<LocationDraft>) -> Option<Location> {
        let draft = self.kind("/location", sent)?;
        let latitude = self.degrees("/location/latitude", draft.latitude, 90.0);
        let longitude = self.degrees("/location/longitude", draft.longitude, 180.0);
        let name = self.text("/location/name", draft.name, limits::LOCATION_NAME_CHARS_MAX);
        Some(Location { latitude: latitude?, longitude: longitude?, name })
    }

    fn degrees(&mut self, pointer: &str, sent: Sent<f64>, max: f64) -> Option<f64> {
        let value = self.kind(pointer, sent);
        match value {
            None => self.require(pointer),
            Some(value) if !(-max..=max).contains(&value) => {
                self.add(pointer, Code::OutOfRange, &format!("must be between -{max} and {max}"));
            }
            Some(_) => {}
        }
        value
    }

    fn properties(&mut self, sent: Sent<String>) -> String {
        let canonical = match sent {
            Sent::Absent => return canonical_json::EMPTY.to_owned(),
            Sent::Value(text) => canonical_json::canonical(&text),
            Sent::WrongKind => Err(Code::InvalidJson),
        };
        canonical.unwrap_or_else(|code| {
            let detail = match code {
                Code::NulCharacter => "must not hold a NUL character".to_owned(),
                Code::TooDeep => format!("nested deeper than {}", limits::PROPERTIES_DEPTH_MAX),
                Code::TooLarge => format!("larger than {} bytes", limits::PROPERTIES_BYTES_MAX),
                _ => "must be a JSON object without duplicate keys".to_owned(),
            };
            self.add("/properties", code, &detail);
            String::new()
        })
    }
}

/// The name of an installation: `^[A-Za-z0-9._-]{1,64}$`, else `None`.
#[must_use]
pub fn parse_client_id(text: &str) -> Option<&str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    ((1..=64).contains(&text.len()) && text.chars().all(allowed)).then_some(text)
}
