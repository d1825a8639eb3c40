//! Parses the fields of a draft one by one and collects their problems.

use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use super::{LocationDraft, Sent, TypeRef};
use crate::instant::ParsedInstant;
use crate::limits;
use crate::problem::{Code, FieldProblem};
use crate::row::Location;
use crate::text_repair::LONE_SURROGATE_MARKER;
use crate::{canonical_json, event_id, instant};

/// The problems found so far in a draft. Each parsing method parses one field, and adds a problem if the
/// field is wrong.
#[derive(Default)]
pub(super) struct Fields {
    /// The JSON Pointer of the object whose fields are parsed. It is put before the pointer of each problem.
    base: &'static str,
    problems: Vec<FieldProblem>,
}

impl Fields {
    /// Sets the JSON Pointer of the object whose fields are parsed next. It is put before their pointers.
    pub(super) fn set_base_json_pointer(&mut self, base: &'static str) -> &mut Self {
        self.base = base;
        self
    }

    /// All problems that were found.
    pub(super) fn into_problems(self) -> Vec<FieldProblem> {
        self.problems
    }

    /// Whether no problem was found so far.
    pub(super) fn has_no_problem(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn add_problem(&mut self, pointer: &str, code: Code, detail: &str) {
        self.problems.push(FieldProblem::new(format!("{}{pointer}", self.base), code, detail));
    }

    /// Adds the problem that a field is missing, unless the field has another problem already.
    pub(super) fn add_missing_field_problem(&mut self, pointer: &str) {
        let at = format!("{}{pointer}", self.base);
        if !self.problems.iter().any(|problem| problem.pointer == at) {
            self.add_problem(pointer, Code::Required, "is required");
        }
    }

    pub(super) fn value_or_wrong_type_problem<T>(&mut self, pointer: &str, sent: Sent<T>) -> Option<T> {
        match sent {
            Sent::Absent => None,
            Sent::Value(value) => Some(value),
            Sent::WrongType => {
                self.add_problem(pointer, Code::InvalidValue, "has a value of the wrong type");
                None
            }
        }
    }

    /// Returns the text if it has at most `chars_max` characters, and no NUL or lone surrogate. Otherwise
    /// adds a problem and returns `None`. A missing text is no problem.
    pub(super) fn parse_text(
        &mut self,
        pointer: &str,
        sent: Sent<String>,
        chars_max: usize,
    ) -> Option<String> {
        let text = self.value_or_wrong_type_problem(pointer, sent)?;
        if text.contains(LONE_SURROGATE_MARKER) {
            let fault = canonical_json::Fault::LoneSurrogate;
            self.add_problem(pointer, Code::InvalidValue, &fault.problem_detail());
        } else if text.contains('\0') {
            self.add_problem(pointer, Code::NulCharacter, "must not contain a NUL character");
        } else if text.chars().count() > chars_max {
            self.add_problem(pointer, Code::TooLong, &format!("at most {chars_max} characters are allowed"));
        } else {
            return Some(text);
        }
        None
    }

    pub(super) fn parse_event_type_name(&mut self, pointer: &str, sent: Sent<String>) -> Option<String> {
        let text = self.parse_text(pointer, sent, usize::MAX)?;
        let trimmed = text.trim();
        // ASCII text is in NFC already (UAX 15).
        let name = if trimmed.is_ascii() { trimmed.to_owned() } else { trimmed.nfc().collect() };
        if name.is_empty() {
            self.add_problem(pointer, Code::InvalidValue, "must have at least one character");
        } else if name.chars().count() > limits::TYPE_NAME_CHARS_MAX {
            let detail = format!("at most {} characters are allowed", limits::TYPE_NAME_CHARS_MAX);
            self.add_problem(pointer, Code::TooLong, &detail);
        } else {
            return Some(name);
        }
        None
    }

    pub(super) fn parse_id(&mut self, pointer: &str, sent: Sent<String>) -> Option<Uuid> {
        let parsed = match sent {
            Sent::Absent => return None,
            Sent::Value(text) => event_id::parse(&text),
            Sent::WrongType => None,
        };
        if parsed.is_none() {
            self.add_problem(pointer, Code::InvalidUuid, "must be a UUID: 8-4-4-4-12 hexadecimal digits");
        }
        parsed
    }

    pub(super) fn parse_event_type_ref(
        &mut self,
        id: Sent<String>,
        name: Sent<String>,
        fresh_id: Uuid,
    ) -> Option<TypeRef> {
        if id != Sent::Absent {
            return self.parse_id("/eventTypeId", id).map(TypeRef::Id);
        }
        if name != Sent::Absent {
            let name = self.parse_event_type_name("/eventType", name)?;
            return Some(TypeRef::Name { name, fresh_id });
        }
        self.add_missing_field_problem("/eventTypeId");
        None
    }

    /// Parses an instant into epoch milliseconds. With `is_date`, it is the date as it was written, at 00:00
    /// UTC.
    pub(super) fn parse_instant_ms(
        &mut self,
        pointer: &str,
        sent: Sent<String>,
        is_date: bool,
    ) -> Option<i64> {
        let parsed_instant = self.parse_instant(pointer, sent)?;
        let ms = if is_date { parsed_instant.date_ms } else { parsed_instant.ms };
        if instant::is_in_range(ms) {
            return Some(ms);
        }
        self.add_problem(pointer, Code::InvalidDatetime, instant::RULE);
        None
    }

    /// Parses an instant, and its date as it was written. A patch needs both, because the stored event may
    /// decide which counts: the date if it is all-day.
    pub(super) fn parse_instant(&mut self, pointer: &str, sent: Sent<String>) -> Option<ParsedInstant> {
        let parsed = match sent {
            Sent::Absent => return None,
            Sent::Value(text) => instant::parse(&text),
            Sent::WrongType => None,
        };
        if parsed.is_none() {
            self.add_problem(pointer, Code::InvalidDatetime, instant::RULE);
        }
        parsed
    }

    pub(super) fn parse_time_zone(&mut self, sent: Sent<String>) -> Option<String> {
        let zone = self.parse_text("/timeZone", sent, usize::MAX)?;
        if chrono_tz::Tz::from_str(&zone).is_ok() {
            return Some(zone);
        }
        self.add_problem("/timeZone", Code::UnknownTimeZone, "is not a name of the IANA time zone database");
        None
    }

    pub(super) fn parse_source_type(&mut self, sent: Sent<String>) -> String {
        let Some(source) = self.parse_text("/sourceType", sent, usize::MAX) else {
            return "manual".to_owned();
        };
        let has_valid_start = source.starts_with(|c: char| c.is_ascii_lowercase());
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if !(has_valid_start && source.len() <= 32 && source.chars().all(is_allowed)) {
            self.add_problem("/sourceType", Code::InvalidValue, "must match ^[a-z][a-z0-9_-]{0,31}$");
        }
        source
    }

    pub(super) fn parse_location(&mut self, sent: Sent<LocationDraft>) -> Option<Location> {
        let draft = self.value_or_wrong_type_problem("/location", sent)?;
        let latitude = self.parse_degrees("/location/latitude", draft.latitude, 90.0);
        let longitude = self.parse_degrees("/location/longitude", draft.longitude, 180.0);
        let name = self.parse_text("/location/name", draft.name, limits::LOCATION_NAME_CHARS_MAX);
        Some(Location { latitude: latitude?, longitude: longitude?, name })
    }

    fn parse_degrees(&mut self, pointer: &str, sent: Sent<f64>, max: f64) -> Option<f64> {
        let value = self.value_or_wrong_type_problem(pointer, sent);
        match value {
            None => self.add_missing_field_problem(pointer),
            Some(value) if !(-max..=max).contains(&value) => {
                self.add_problem(pointer, Code::OutOfRange, &format!("must be between -{max} and {max}"));
            }
            Some(_) => {}
        }
        value
    }

    pub(super) fn parse_properties(&mut self, sent: Sent<String>) -> String {
        let canonical = match sent {
            Sent::Absent => return canonical_json::EMPTY.to_owned(),
            Sent::Value(text) => canonical_json::canonicalize_object(&text),
            Sent::WrongType => Err(canonical_json::Fault::NotAnObject),
        };
        canonical.unwrap_or_else(|fault| {
            self.add_problem("/properties", fault.problem_code(), &fault.problem_detail());
            String::new()
        })
    }
}
