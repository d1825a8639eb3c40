//! Problems: why an item, an import or a record was refused.

use async_graphql::{Enum, SimpleObject};
use domain::problem;

/// Why an item or an import was refused, or why an import failed, as problem details (RFC 9457) with a stable
/// code.
#[derive(Debug, Clone, SimpleObject)]
pub struct Problem {
    /// `urn:idem:problem:` and the code in kebab case, such as `urn:idem:problem:not-found`.
    #[graphql(name = "type")]
    kind: String,
    /// The code in words, the same for all problems with this code.
    title: String,
    /// The HTTP status that fits the code. The HTTP response itself can have another, such as 200.
    status: i32,
    /// One sentence for people, which may change; null if there is none.
    detail: Option<String>,
    /// A URI of this occurrence of the problem. It is always null for items and imports.
    instance: Option<String>,
    /// The stable code. Programs decide by it and by `retryable`, not by the texts.
    code: ProblemCode,
    /// Whether the same input may succeed if it is sent again later, unchanged.
    retryable: bool,
    /// How many milliseconds to wait before sending again; null if the server gives no time.
    retry_after_ms: Option<i32>,
    /// All wrong fields, not only the first one. The list is empty if no single field is at fault.
    errors: Vec<FieldProblem>,
}

/// What is wrong with one field of an item.
#[derive(Debug, Clone, SimpleObject)]
pub struct FieldProblem {
    /// The wrong field, as a JSON Pointer (RFC 6901) within the item, such as `/timestamp` or `/patch/notes`.
    pointer: String,
    /// What is wrong with the field.
    code: ProblemCode,
    /// One sentence for people, which may change.
    detail: String,
}

impl From<problem::Problem> for Problem {
    fn from(problem: problem::Problem) -> Self {
        Self {
            kind: format!("urn:idem:problem:{}", problem.code.name().to_lowercase().replace('_', "-")),
            title: problem.code.title(),
            status: problem.code.http_status().into(),
            detail: problem.detail,
            instance: None,
            code: problem.code.into(),
            retryable: problem.retryable,
            retry_after_ms: problem.retry_after_ms.map(|ms| i32::try_from(ms).unwrap_or(i32::MAX)),
            errors: problem
                .errors
                .into_iter()
                .map(|error| FieldProblem {
                    pointer: error.pointer,
                    code: error.code.into(),
                    detail: error.detail,
                })
                .collect(),
        }
    }
}

/// The stable code of a problem. Values may be added: treat an unknown one by `retryable`. If one field is
/// wrong, the problem has the code of that field; if several are, it is VALIDATION_FAILED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "problem::Code")]
pub enum ProblemCode {
    /// Several fields are wrong; `errors` lists them.
    ValidationFailed,
    /// A required field is absent or null.
    Required,
    /// The id is not a UUID of 8-4-4-4-12 hexadecimal digits.
    InvalidUuid,
    /// The new id or the `editId` is a UUID of another version or variant than UUIDv7.
    NotUuidV7,
    /// The time inside the new id is more than 60 s ahead of the server. It is retryable up to 24 h ahead.
    IdInFuture,
    /// The new id already belongs to an object of another kind, such as an event type or an import. Use a new
    /// id.
    IdInUse,
    /// The value is not an RFC 3339 instant, or is outside the years 0001 to 9999.
    InvalidDatetime,
    /// The value is not a JSON object that can be stored exactly.
    InvalidJson,
    /// The value is not one that the field accepts.
    InvalidValue,
    /// The text has more characters than allowed.
    TooLong,
    /// The value has more bytes than allowed.
    TooLarge,
    /// The JSON object is nested more deeply than allowed.
    TooDeep,
    /// The number is outside its range.
    OutOfRange,
    /// `endDate` is before `timestamp`.
    EndBeforeStart,
    /// The text contains a NUL character, which cannot be stored.
    NulCharacter,
    /// The time zone is not in the IANA time zone database.
    UnknownTimeZone,
    /// The user has no event, event type or import with this id.
    NotFound,
    /// The event refers to an event type that does not exist or is deleted. Create the event type first.
    EventTypeNotFound,
    /// The event type cannot be deleted while living events have this type.
    EventTypeInUse,
    /// Another living event type has this name.
    NameTaken,
    /// Another writer has changed the entity after `expectedVersion`, or the event to restore is not deleted.
    VersionConflict,
    /// An entity that the item needs was rejected earlier in the same call.
    DependencyRejected,
    /// The id belongs to an import that was first sent with other options.
    ImportIdReused,
    /// The import cannot be paused, resumed, canceled, retried or rolled back in its present state.
    ImportState,
    /// Too many imports of the user are waiting, or the daily allowance of bytes is used up.
    TooManyImports,
    /// The payload did not arrive completely within 24 hours. Create a new import.
    UploadExpired,
    /// The payload differs from the announced one, for example in its SHA-256. If the import awaits its
    /// upload, send the payload again.
    PayloadMismatch,
    /// The server no longer has the payload, so it cannot be read again.
    PayloadGone,
    /// The content of the payload does not have the announced format.
    PayloadFormat,
    /// The payload is larger than announced or allowed.
    PayloadLimit,
    /// The record is larger than allowed.
    RecordTooLarge,
    /// Too many attempts of the server to continue the import failed without progress. `retryImport` tries
    /// again.
    NoProgress,
    /// The record repeatedly crashed the worker that read it, or cannot be stored.
    Poison,
    /// The event of this record is already stored, with other content. It was not changed.
    Differs,
}
