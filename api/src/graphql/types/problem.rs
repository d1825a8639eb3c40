//! Why an item was not done.

use async_graphql::{Enum, SimpleObject};
use domain::problem;

/// RFC 9457, with a stable code.
#[derive(Debug, Clone, SimpleObject)]
pub struct Problem {
    #[expect(rustdoc::invalid_html_tags, reason = "a text of the schema")]
    /// "urn:idem:problem:<code in kebab case>"
    #[graphql(name = "type")]
    kind: String,
    /// The code in words.
    title: String,
    /// The HTTP status that says the same.
    status: i32,
    /// One sentence for a person.
    detail: Option<String>,
    /// What it is about.
    instance: Option<String>,
    /// Stable: switch on it.
    code: ProblemCode,
    /// Whether the same, sent again, may work.
    retryable: bool,
    /// When it is worth sending again.
    retry_after_ms: Option<i32>,
    /// All of them, not the first.
    errors: Vec<FieldProblem>,
}

/// One wrong field.
#[derive(Debug, Clone, SimpleObject)]
pub struct FieldProblem {
    /// JSON Pointer inside the item, e.g. /timestamp
    pointer: String,
    /// What is wrong with it.
    code: ProblemCode,
    /// One sentence for a person.
    detail: String,
}

impl From<problem::Problem> for Problem {
    fn from(problem: problem::Problem) -> Self {
        Self {
            kind: format!("urn:idem:problem:{}", problem.code.name().to_lowercase().replace('_', "-")),
            title: problem.code.title(),
            status: problem.code.status().into(),
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

/// Values may be added: treat an unknown one by `retryable`. One field problem: its own code; several:
/// VALIDATION_FAILED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "problem::Code")]
pub enum ProblemCode {
    /// Several fields are wrong: see `errors`.
    ValidationFailed,
    /// A field that must have a value has none.
    Required,
    /// Not 8-4-4-4-12 hexadecimal digits.
    InvalidUuid,
    /// A UUID of another version or variant.
    NotUuidV7,
    /// The time inside the id is more than a minute ahead.
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
    /// A NUL character, which cannot be stored.
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
