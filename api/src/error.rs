//! Defines the errors that refuse a whole request. A problem with a single item is data of the response, not
//! an error.
//!
//! Internal error texts cannot leak to clients: [`ApiError`] has no `Display`, and internal errors become one
//! only through `From<service::Error>`.

use async_graphql::{ErrorExtensionValues, Response, ServerError, Value};
use domain::limits::RESPONSE_BYTES_MAX;
use domain::problem::{Code, FieldProblem};
use domain::stats::Exceeded;
use serde_json::json;
use service::Error;
use service::LogThrottle;

use crate::limiter::Level;
use crate::query_limits::Refusal;

/// How long a client should wait before it repeats a request that was refused with the status 503, or with
/// 429 and no time of its own, in milliseconds.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;

/// The extension in which an error carries the problems of fields until it gets its problem object.
const ERRORS: &str = "errors";

/// Why a request, or one field of a GraphQL request, was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// The request has no valid token.
    Unauthenticated,
    /// The web page that opens the WebSocket has an origin that is not allowed.
    Forbidden,
    /// The request is malformed or invalid. The text says why.
    BadUserInput(String),
    /// Fields of an argument are wrong. The pointers begin at the argument `input`, or at the arguments if the field
    /// has no such argument.
    Invalid(Vec<FieldProblem>),
    /// The request has only the hash of a GraphQL document, and the server has no document with this hash.
    PersistedQueryNotFound,
    /// The request, or its response, exceeds a limit other than the rate limit and the size of the body.
    Limit {
        /// The name of the limit in the table of limits (`docs/reference/limits.md`).
        name: &'static str,
        /// The largest value that is allowed.
        max: u64,
        /// One sentence that also says how to stay within the limit.
        detail: String,
    },
    /// The body of the request is larger than allowed.
    PayloadTooLarge {
        /// The largest size that is allowed, in bytes.
        max: u64,
    },
    /// The bucket of the user's rate limit has too few points left for this request.
    RateLimited {
        /// After this time the user has enough points, in milliseconds.
        retry_after_ms: u64,
        /// How full the bucket is. The refused request took nothing from it.
        level: Level,
    },
    /// The request failed for a temporary reason, such as a database outage or too much load, and may succeed
    /// later. If it was a mutation, it may have taken effect.
    Unavailable,
    /// The server has a fault. The log has the details, and the client gets none.
    Internal,
}

impl ApiError {
    /// The error for a response that would have more than [`RESPONSE_BYTES_MAX`] bytes by its estimated size.
    pub(crate) fn response_too_large() -> Self {
        let mib = RESPONSE_BYTES_MAX / (1024 * 1024);
        let detail = format!("the response would be larger than {mib} MiB: request less at once");
        Self::Limit { name: "answer", max: RESPONSE_BYTES_MAX as u64, detail }
    }

    /// The error for one wrong field.
    pub(crate) fn invalid(pointer: &str, code: Code, detail: &str) -> Self {
        Self::Invalid(vec![FieldProblem::new(pointer, code, detail)])
    }

    /// The error for statistics that exceed a limit.
    pub(crate) fn from_exceeded(exceeded: Exceeded) -> Self {
        let Exceeded { name, max, detail } = exceeded;
        Self::Limit { name, max: max as u64, detail: detail.to_owned() }
    }

    /// The stable code that clients compare with.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::BadUserInput(_) | Self::Invalid(_) => "BAD_USER_INPUT",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::Limit { .. } => "LIMIT_EXCEEDED",
            Self::PayloadTooLarge { .. } => "PAYLOAD_TOO_LARGE",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// The HTTP status that fits this error. A GraphQL response with data has the status 200 nevertheless.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::BadUserInput(_) | Self::Invalid(_) | Self::Limit { .. } => 400,
            Self::PersistedQueryNotFound => 404,
            Self::PayloadTooLarge { .. } => 413,
            Self::RateLimited { .. } => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthenticated => "a valid token is required".to_owned(),
            // Clients with automatic persisted queries compare the message with exactly this text.
            Self::PersistedQueryNotFound => "PersistedQueryNotFound".to_owned(),
            Self::Forbidden => "pages of this origin may not use this API".to_owned(),
            Self::BadUserInput(detail) | Self::Limit { detail, .. } => detail.clone(),
            Self::Invalid(errors) => match errors.as_slice() {
                [FieldProblem { pointer, detail, .. }] => format!("{pointer} {detail}"),
                many => format!("{} fields are wrong", many.len()),
            },
            Self::PayloadTooLarge { max } => format!("the body is larger than {max} bytes"),
            Self::RateLimited { .. } => {
                "too many points were used in a short time: retry after retryAfterMs".to_owned()
            }
            Self::Unavailable => "the server is not available at the moment: retry later".to_owned(),
            Self::Internal => {
                "an error occurred in the server: if it persists, report the requestId".to_owned()
            }
        }
    }

    /// Returns the problem object (RFC 9457) of this error, as `problem_json` makes it, with `retryAfterMs`
    /// of the rate limit.
    #[must_use]
    pub fn to_problem_json(&self, request_id: &str) -> serde_json::Value {
        let mut problem = problem_json(self.code(), self.http_status(), &self.detail(), request_id);
        if let Self::RateLimited { retry_after_ms, .. } = self {
            problem["retryAfterMs"] = (*retry_after_ms).into();
        }
        problem
    }

    fn graphql_extensions(&self) -> ErrorExtensionValues {
        let mut values = ErrorExtensionValues::default();
        values.set("code", self.code());
        if let Self::Limit { name, max, .. } = self {
            let limit = Value::from_json(json!({ "name": name, "max": max })).unwrap_or_default();
            values.set("limit", limit);
        }
        if let Self::Invalid(errors) = self {
            let errors = errors.iter().map(|FieldProblem { pointer, code, detail }| {
                json!({ "pointer": pointer, "code": code.name(), "detail": detail })
            });
            values.set(ERRORS, Value::from_json(errors.collect()).unwrap_or_default());
        }
        values
    }

    /// Returns the error as an entry of `errors` in a GraphQL response.
    #[must_use]
    pub fn to_graphql_error(&self) -> ServerError {
        let mut error = ServerError::new(self.detail(), None);
        error.extensions = Some(self.graphql_extensions());
        error
    }
}

/// Returns a problem object (RFC 9457) with a `code`. The statuses 401, 429 and 503 count as retryable.
/// GraphQL errors and the other routes both use it.
pub(crate) fn problem_json(code: &str, status: u16, detail: &str, request_id: &str) -> serde_json::Value {
    let retry_after_ms = match status {
        // A client may retry at once with another token.
        401 => Some(0),
        429 | 503 => Some(UNAVAILABLE_RETRY_MS),
        _ => None,
    };
    let mut problem = json!({
        "type": format!("urn:idem:problem:{}", code.to_lowercase().replace('_', "-")),
        "title": code.to_lowercase().replace('_', " "),
        "status": status,
        "detail": detail,
        "code": code,
        "instance": format!("urn:idem:request:{request_id}"),
        "requestId": request_id,
        "retryable": retry_after_ms.is_some(),
    });
    if let Some(retry_after_ms) = retry_after_ms {
        problem["retryAfterMs"] = retry_after_ms.into();
    }
    problem
}

/// Limits the warning about `UNAVAILABLE`, because overload and a database outage affect every request.
static UNAVAILABLE_WARNINGS: LogThrottle = LogThrottle::new();

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        if matches!(error, Error::ResponseTooLarge) {
            return Self::response_too_large();
        }
        if !error.is_outage() {
            tracing::error!(error = error.to_string_with_cause(), "a request failed");
        } else if let Some(suppressed) = UNAVAILABLE_WARNINGS.allow_once_a_minute() {
            tracing::warn!(
                error = error.to_string_with_cause(),
                suppressed,
                "a request failed with UNAVAILABLE and may be repeated"
            );
        }
        if !error.retryable() {
            return Self::Internal;
        }
        metrics::counter!("idem_unavailable_total", "reason" => error.metric_label()).increment(1);
        Self::Unavailable
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Limit { name, max, detail } => Self::Limit { name, max, detail },
            Refusal::Syntax { detail } => Self::BadUserInput(detail),
        }
    }
}

impl From<ApiError> for async_graphql::Error {
    fn from(error: ApiError) -> Self {
        let mut graphql_error = Self::new(error.detail());
        graphql_error.extensions = Some(error.graphql_extensions());
        graphql_error
    }
}

/// Adds a problem object to the extensions of every error of a response. Errors that the GraphQL library
/// raised have no code yet; they get the code `BAD_USER_INPUT`.
pub(crate) fn add_problems_to_errors(response: &mut Response, request_id: &str) {
    for error in &mut response.errors {
        let values = error.extensions.get_or_insert_default();
        let code = match values.get("code") {
            Some(Value::String(code)) => code.clone(),
            _ => {
                values.set("code", "BAD_USER_INPUT");
                "BAD_USER_INPUT".to_owned()
            }
        };
        let status = match code.as_str() {
            "UNAVAILABLE" => 503,
            "INTERNAL" => 500,
            _ => 400,
        };
        let mut problem = problem_json(&code, status, &error.message, request_id);
        if let Some(errors) = values.get(ERRORS) {
            problem["errors"] = errors.clone().into_json().unwrap_or_default();
            values.unset(ERRORS);
        }
        values.set("problem", Value::from_json(problem).unwrap_or_default());
    }
}
