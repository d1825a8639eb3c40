//! Defines the problems of items: data in the shape of RFC 9457 with a stable code.

/// The stable codes of problems. Clients switch on them. [`Code::name`] is the name in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Several fields are wrong. [`Problem::errors`] lists them.
    ValidationFailed,
    /// A field that must have a value has none.
    Required,
    /// The text is not a UUID.
    InvalidUuid,
    /// The UUID has another version or variant.
    NotUuidV7,
    /// The time in the id is too far ahead of the server.
    IdInFuture,
    /// The id of the new object belongs to another kind of object of the same user.
    IdInUse,
    /// The text is not an RFC 3339 instant, or is outside the years 0001 to 9999.
    InvalidDatetime,
    /// The text is not a JSON object, or has a value that cannot be stored.
    InvalidJson,
    /// The field does not accept the value.
    InvalidValue,
    /// The text has more characters than allowed.
    TooLong,
    /// The value has more bytes than allowed.
    TooLarge,
    /// The value is nested deeper than allowed.
    TooDeep,
    /// The number is outside its range.
    OutOfRange,
    /// The end is before the start.
    EndBeforeStart,
    /// The text contains a NUL character, which PostgreSQL cannot store in a text.
    NulCharacter,
    /// The text is not a name of the IANA time zone database.
    UnknownTimeZone,
    /// No event, event type or import of the user has the id.
    NotFound,
    /// No living event type of the user has the id.
    EventTypeNotFound,
    /// The event type cannot be deleted, because living events have it.
    EventTypeInUse,
    /// Another living event type has the name.
    NameTaken,
    /// The row no longer has the expected version, or a restore found it living with other content.
    VersionConflict,
    /// An earlier item of the call, which this item needs, was rejected.
    DependencyRejected,
    /// An import with the id exists and has other options.
    ImportIdReused,
    /// The step is not possible in the current state of the import.
    ImportState,
    /// Too many imports of this user are waiting, or they have used up the bytes of the day.
    TooManyImports,
    /// The payload of the import did not arrive completely in time.
    UploadExpired,
    /// The payload of the import does not have the announced digest, or was changed while it was read.
    PayloadMismatch,
    /// The payload of the import is no longer stored.
    PayloadGone,
    /// The payload of the import does not have the announced format, or is damaged.
    PayloadFormat,
    /// The payload of the import is larger than announced or allowed, as sent or decoded.
    PayloadLimit,
    /// One record of the import is larger than allowed.
    RecordTooLarge,
    /// The import failed, or its workers crashed, too often without progress.
    NoProgress,
    /// The record was rejected because it made workers crash or panic.
    Poison,
    /// The event of the record is stored already with other content, which stays.
    Differs,
}

impl Code {
    /// All codes, in the order of the GraphQL schema.
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

    /// The name of the code in the API.
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

    /// The code with the name that [`Self::name`] gives. `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// The name of the code as words, such as "Version conflict", for the field `title` of a problem.
    #[must_use]
    pub fn title(self) -> String {
        let words = self.name().to_lowercase().replace('_', " ");
        let mut characters = words.chars();
        characters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + characters.as_str())
    }

    /// The HTTP status that fits the code. It is the field `status` of a problem. Only endpoints outside of
    /// GraphQL also respond with it.
    #[must_use]
    pub fn http_status(self) -> u16 {
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

/// What is wrong with one field of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field, as a JSON Pointer (RFC 6901) into the item. Empty if no single field is wrong.
    pub pointer: String,
    /// The kind of the problem.
    pub code: Code,
    /// One sentence for a person.
    pub detail: String,
}

impl FieldProblem {
    /// The problem of the field at the JSON Pointer `pointer`.
    pub fn new(pointer: impl Into<String>, code: Code, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}

/// Why a write, a record or an import was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The code of the only wrong field, or of the item as a whole.
    pub code: Code,
    /// One sentence for a person.
    pub detail: Option<String>,
    /// Whether the same item may succeed if it is sent again.
    pub retryable: bool,
    /// How many milliseconds to wait before the item is sent again.
    pub retry_after_ms: Option<i64>,
    /// The problems of all wrong fields. Empty if the item as a whole is the problem.
    pub errors: Vec<FieldProblem>,
}

impl Problem {
    /// A problem of the item as a whole. It is not retryable.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()), retryable: false, retry_after_ms: None, errors: Vec::new() }
    }

    /// A retryable problem of the item as a whole, which may be gone after `retry_after_ms`.
    pub fn new_retryable(code: Code, detail: impl Into<String>, retry_after_ms: i64) -> Self {
        Self { retryable: true, retry_after_ms: Some(retry_after_ms), ..Self::new(code, detail) }
    }

    /// One problem for all these wrong fields. If it is only one field, the code and the detail are those of
    /// the field, and otherwise the code is [`Code::ValidationFailed`]. It is not retryable.
    #[must_use]
    pub fn from_field_problems(errors: Vec<FieldProblem>) -> Self {
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

    /// The table is the one in `docs/reference/problems.md`.
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
            assert_eq!(code.http_status(), named.map_or(422, |(status, _)| *status), "{}", code.name());
        }
        let names: usize = table.iter().map(|(_, names)| names.split(' ').count()).sum();
        assert_eq!(Code::ALL.into_iter().filter(|code| code.http_status() != 422).count(), names);
    }
}
