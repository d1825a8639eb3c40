//! Reads the fields of a draft one by one and gathers all that is wrong with them.

use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use super::{LocationDraft, Sent, TypeRef};
use crate::instant::ParsedInstant;
use crate::limits;
use crate::mended::NO_CHARACTER;
use crate::problem::{Code, FieldProblem};
use crate::row::Location;
use crate::{canonical_json, event_id, instant};

/// The problems found so far; each method reads one field and adds what is wrong with it.
#[derive(Default)]
pub(super) struct Fields {
    /// Where in the item the fields stand.
    base: &'static str,
    problems: Vec<FieldProblem>,
}

impl Fields {
    /// Fields that stand below `base` from now on.
    pub(super) fn below(&mut self, base: &'static str) -> &mut Self {
        self.base = base;
        self
    }

    /// What is wrong, if anything is.
    pub(super) fn into_problems(self) -> Vec<FieldProblem> {
        self.problems
    }

    /// Whether nothing is wrong so far.
    pub(super) fn are_right(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn add(&mut self, pointer: &str, code: Code, detail: &str) {
        self.problems.push(FieldProblem::new(format!("{}{pointer}", self.base), code, detail));
    }

    /// Says that a field is missing, unless something else was said of it.
    pub(super) fn require(&mut self, pointer: &str) {
        let at = format!("{}{pointer}", self.base);
        if !self.problems.iter().any(|problem| problem.pointer == at) {
            self.add(pointer, Code::Required, "is required");
        }
    }

    pub(super) fn kind<T>(&mut self, pointer: &str, sent: Sent<T>) -> Option<T> {
        match sent {
            Sent::Absent => None,
            Sent::Value(value) => Some(value),
            Sent::WrongKind => {
                self.add(pointer, Code::InvalidValue, "is of the wrong kind");
                None
            }
        }
    }

    pub(super) fn text(&mut self, pointer: &str, sent: Sent<String>, chars_max: usize) -> Option<String> {
        let text = self.kind(pointer, sent)?;
        if text.contains(NO_CHARACTER) {
            let fault = canonical_json::Fault::HalfAPair;
            self.add(pointer, Code::InvalidValue, &fault.detail());
        } else if text.contains('\0') {
            self.add(pointer, Code::NulCharacter, "must not hold a NUL character");
        } else if text.chars().count() > chars_max {
            self.add(pointer, Code::TooLong, &format!("at most {chars_max} characters are allowed"));
        } else {
            return Some(text);
        }
        None
    }

    pub(super) fn name(&mut self, pointer: &str, sent: Sent<String>) -> Option<String> {
        let text = self.text(pointer, sent, usize::MAX)?;
        let trimmed = text.trim();
        // ASCII is its own NFC.
        let name = if trimmed.is_ascii() { trimmed.to_owned() } else { trimmed.nfc().collect() };
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

    pub(super) fn id(&mut self, pointer: &str, sent: Sent<String>) -> Option<Uuid> {
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

    pub(super) fn type_ref(
        &mut self,
        id: Sent<String>,
        name: Sent<String>,
        fresh_id: Uuid,
    ) -> Option<TypeRef> {
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

    /// An instant, or with `is_date` the date as written.
    pub(super) fn instant(&mut self, pointer: &str, sent: Sent<String>, is_date: bool) -> Option<i64> {
        let written = self.written(pointer, sent)?;
        let ms = if is_date { written.date_ms } else { written.ms };
        if instant::is_in_range(ms) {
            return Some(ms);
        }
        self.add(pointer, Code::InvalidDatetime, instant::RULE);
        None
    }

    /// An instant and the date as written, where it is not yet said which counts.
    pub(super) fn written(&mut self, pointer: &str, sent: Sent<String>) -> Option<ParsedInstant> {
        let parsed = match sent {
            Sent::Absent => return None,
            Sent::Value(text) => instant::parse(&text),
            Sent::WrongKind => None,
        };
        if parsed.is_none() {
            self.add(pointer, Code::InvalidDatetime, instant::RULE);
        }
        parsed
    }

    pub(super) fn time_zone(&mut self, sent: Sent<String>) -> Option<String> {
        let zone = self.text("/timeZone", sent, usize::MAX)?;
        if chrono_tz::Tz::from_str(&zone).is_ok() {
            return Some(zone);
        }
        self.add("/timeZone", Code::UnknownTimeZone, "is not a name of the IANA time zone database");
        None
    }

    pub(super) fn source_type(&mut self, sent: Sent<String>) -> String {
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

    pub(super) fn location(&mut self, sent: Sent<LocationDraft>) -> Option<Location> {
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

    pub(super) fn properties(&mut self, sent: Sent<String>) -> String {
        let canonical = match sent {
            Sent::Absent => return canonical_json::EMPTY.to_owned(),
            Sent::Value(text) => canonical_json::canonical(&text),
            Sent::WrongKind => Err(canonical_json::Fault::NoObject),
        };
        canonical.unwrap_or_else(|fault| {
            self.add("/properties", fault.code(), &fault.detail());
            String::new()
        })
    }
}
