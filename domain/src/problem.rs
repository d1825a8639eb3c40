//! What can be wrong with one item, as data: RFC 9457 with a stable code.

/// The stable codes. Clients switch on them; [`Code::name`] is what travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Several fields are wrong.
    ValidationFailed,
    /// A field that must have a value has none.
    Required,
    /// Not the textual form of a UUID.
    InvalidUuid,
    /// A UUID of another version or variant.
    NotUuidV7,
    /// The time inside the id is too far ahead.
    IdInFuture,
    /// The id belongs to something else of the same user.
    IdInUse,
    /// Not RFC 3339, or outside the years 0001 to 9999.
    InvalidDatetime,
    /// Not a JSON object that can be kept exactly.
    InvalidJson,
    /// Not one of the values that the field takes.
    InvalidValue,
    /// More characters than allowed.
    TooLong,
    /// More bytes than allowed.
    TooLarge,
    /// Nested deeper than allowed.
    TooDeep,
    /// A number outside its range.
    OutOfRange,
    /// The end is before the start.
    EndBeforeStart,
    /// A NUL character, which a database text cannot hold.
    NulCharacter,
    /// Not a name of the IANA time zone database.
    UnknownTimeZone,
    /// Nothing is known by that id.
    NotFound,
    /// No living event type is known by that id.
    EventTypeNotFound,
    /// Living events are of that type.
    EventTypeInUse,
    /// Another living type has that name.
    NameTaken,
    /// The expected version no longer holds.
    VersionConflict,
    /// What it needs was rejected earlier in the call.
    DependencyRejected,
    /// The import was first sent with other options.
    ImportIdReused,
    /// Not possible in the state that the import is in.
    ImportState,
    /// Too many imports of this user are waiting.
    TooManyImports,
    /// The payload did not arrive in time.
    UploadExpired,
    /// The payload is not the one that was announced.
    PayloadMismatch,
    /// The payload is no longer there.
    PayloadGone,
    /// The payload is not what its format says.
    PayloadFormat,
    /// The payload is larger than announced or allowed.
    PayloadLimit,
    /// One record is larger than allowed.
    RecordTooLarge,
    /// The import failed too often without getting on.
    NoProgress,
    /// The record made its reader crash.
    Poison,
    /// The record is stored already, with other content.
    Differs,
}

impl Code {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 34] = [
        Self::ValidationFailed,
        Self::Required,
        Self::InvalidUuid,
        Self::NotUuidV7,
        Self::IdInFuture,
        Self::IdInUse,
        Self::InvalidDatetime,
        Self::InvalidJson,
        Self::InvalidValue,
        Self::TooLong,
        Self::TooLarge,
        Self::TooDeep,
        Self::OutOfRange,
        Self::EndBeforeStart,
        Self::NulCharacter,
        Self::UnknownTimeZone,
        Self::NotFound,
        Self::EventTypeNotFound,
        Self::EventTypeInUse,
        Self::NameTaken,
        Self::VersionConflict,
        Self::DependencyRejected,
        Self::ImportIdReused,
        Self::ImportState,
        Self::TooManyImports,
        Self::UploadExpired,
        Self::PayloadMismatch,
        Self::PayloadGone,
        Self::PayloadFormat,
        Self::PayloadLimit,
        Self::RecordTooLarge,
        Self::NoProgress,
        Self::Poison,
        Self::Differs,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ValidationFailed => "VALIDATION_FAILED",
            Self::Required => "REQUIRED",
            Self::InvalidUuid => "INVALID_UUID",
            Self::NotUuidV7 => "NOT_UUID_V7",
            Self::IdInFuture => "ID_IN_FUTURE",
            Self::IdInUse => "ID_IN_USE",
            Self::InvalidDatetime => "INVALID_DATETIME",
            Self::InvalidJson => "INVALID_JSON",
            Self::InvalidValue => "INVALID_VALUE",
            Self::TooLong => "TOO_LONG",
            Self::TooLarge => "TOO_LARGE",
            Self::TooDeep => "TOO_DEEP",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::EndBeforeStart => "END_BEFORE_START",
            Self::NulCharacter => "NUL_CHARACTER",
            Self::UnknownTimeZone => "UNKNOWN_TIME_ZONE",
            Self::NotFound => "NOT_FOUND",
            Self::EventTypeNotFound => "EVENT_TYPE_NOT_FOUND",
            Self::EventTypeInUse => "EVENT_TYPE_IN_USE",
            Self::NameTaken => "NAME_TAKEN",
            Self::VersionConflict => "VERSION_CONFLICT",
            Self::DependencyRejected => "DEPENDENCY_REJECTED",
            Self::ImportIdReused => "IMPORT_ID_REUSED",
            Self::ImportState => "IMPORT_STATE",
            Self::TooManyImports => "TOO_MANY_IMPORTS",
            Self::UploadExpired => "UPLOAD_EXPIRED",
            Self::PayloadMismatch => "PAYLOAD_MISMATCH",
            Self::PayloadGone => "PAYLOAD_GONE",
            Self::PayloadFormat => "PAYLOAD_FORMAT",
            Self::PayloadLimit => "PAYLOAD_LIMIT",
            Self::RecordTooLarge => "RECORD_TOO_LARGE",
            Self::NoProgress => "NO_PROGRESS",
            Self::Poison => "POISON",
            Self::Differs => "DIFFERS",
        }
    }

    /// The code of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// The name in words, for `title`.
    #[must_use]
    pub fn title(self) -> String {
        let words = self.name().to_lowercase().replace('_', " ");
        let mut characters = words.chars();
        characters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + characters.as_str())
    }

    /// The HTTP status that says the same.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::NotFound | Self::EventTypeNotFound => 404,
            Self::IdInUse
            | Self::EventTypeInUse
            | Self::NameTaken
            | Self::VersionConflict
            | Self::DependencyRejected
            | Self::ImportIdReused
            | Self::ImportState => 409,
            Self::UploadExpired | Self::PayloadGone => 410,
            Self::PayloadLimit | Self::RecordTooLarge => 413,
            Self::TooManyImports => 429,
            Self::ValidationFailed
            | Self::Required
            | Self::InvalidUuid
            | Self::NotUuidV7
            | Self::IdInFuture
            | Self::InvalidDatetime
            | Self::InvalidJson
            | Self::InvalidValue
            | Self::TooLong
            | Self::TooLarge
            | Self::TooDeep
            | Self::OutOfRange
            | Self::EndBeforeStart
            | Self::NulCharacter
            | Self::UnknownTimeZone
            | Self::PayloadMismatch
            | Self::PayloadFormat
            | Self::NoProgress
            | Self::Poison
            | Self::Differs => 422,
        }
    }
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// JSON Pointer (RFC 6901) inside the item.
    pub pointer: String,
    /// What is wrong.
    pub code: Code,
    /// One sentence for a person.
    pub detail: String,
}

impl FieldProblem {
    /// A problem at `pointer`.
    pub fn new(pointer: impl Into<String>, code: Code, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}

/// Why an item was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The code of the only wrong field, or of the whole.
    pub code: Code,
    /// One sentence for a person.
    pub detail: Option<String>,
    /// Whether the same, sent again, may work.
    pub retryable: bool,
    /// When, in milliseconds, it is worth sending again.
    pub retry_after_ms: Option<i64>,
    /// All wrong fields, not only the first.
    pub errors: Vec<FieldProblem>,
}

impl Problem {
    /// A problem of the item as a whole.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()), retryable: false, retry_after_ms: None, errors: Vec::new() }
    }

    /// A problem that may be gone after so many milliseconds.
    pub fn later(code: Code, detail: impl Into<String>, retry_after_ms: i64) -> Self {
        Self { retryable: true, retry_after_ms: Some(retry_after_ms), ..Self::new(code, detail) }
    }

    /// A problem of these fields: the code of the only one, or `VALIDATION_FAILED`.
    #[must_use]
    pub fn of_fields(errors: Vec<FieldProblem>) -> Self {
        let (code, detail) = match errors.as_slice() {
            [only] => (only.code, only.detail.clone()),
            many => (Code::ValidationFailed, format!("{} fields are wrong", many.len())),
        };
        Self { code, detail: Some(detail), retryable: false, retry_after_ms: None, errors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the documentation.
    #[test]
    fn every_code_has_its_status() {
        let table = [
            (404, "NOT_FOUND EVENT_TYPE_NOT_FOUND"),
            (
                409,
                "ID_IN_USE EVENT_TYPE_IN_USE NAME_TAKEN VERSION_CONFLICT DEPENDENCY_REJECTED IMPORT_ID_REUSED IMPORT_STATE",
            ),
            (410, "UPLOAD_EXPIRED PAYLOAD_GONE"),
            (413, "PAYLOAD_LIMIT RECORD_TOO_LARGE"),
            (429, "TOO_MANY_IMPORTS"),
        ];
        for code in Code::ALL {
            let named = table.iter().find(|(_, names)| names.split(' ').any(|name| name == code.name()));
            assert_eq!(code.status(), named.map_or(422, |(status, _)| *status), "{}", code.name());
        }
        let names: usize = table.iter().map(|(_, names)| names.split(' ').count()).sum();
        assert_eq!(Code::ALL.into_iter().filter(|code| code.status() != 422).count(), names);
    }
}
