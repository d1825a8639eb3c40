//! The one shape of every refusal of a request. What is wrong with an item is data, not an error.
//!
//! [`ApiError`] has no `Display`, and `From<domain::Error>` is its only door: inner text cannot leak.

use async_graphql::{ErrorExtensionValues, Response, ServerError, Value};
use domain::limits::ANSWER_BYTES_MAX;
use serde_json::json;
use service::Error;
use service::Rarely;

use crate::limiter::Level;
use crate::query_limits::Refusal;

/// When it is worth to send a request again that was refused with `UNAVAILABLE`, in milliseconds.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// No valid token.
    Unauthenticated,
    /// Not from there.
    Forbidden,
    /// The request is not one that can be answered.
    BadUserInput(String),
    /// A hash came alone, and its document is not known.
    PersistedQueryNotFound,
    /// More than allowed.
    Limit {
        /// As the table of limits names it.
        name: &'static str,
        /// The most that is allowed.
        max: u64,
        /// One sentence, with the way out.
        detail: String,
    },
    /// The body is larger than allowed.
    PayloadTooLarge {
        /// In bytes.
        max: u64,
    },
    /// More than the user has points for at the moment.
    RateLimited {
        /// For so many milliseconds.
        retry_after_ms: u64,
        /// What is there.
        level: Level,
    },
    /// Not now.
    Unavailable,
    /// Our own mistake.
    Internal,
}

impl ApiError {
    pub(crate) fn answer_too_large() -> Self {
        let mib = ANSWER_BYTES_MAX / (1024 * 1024);
        let detail = format!("the answer would be larger than {mib} MiB: ask for less at once");
        Self::Limit { name: "answer", max: ANSWER_BYTES_MAX as u64, detail }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::BadUserInput(_) => "BAD_USER_INPUT",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::Limit { .. } => "LIMIT_EXCEEDED",
            Self::PayloadTooLarge { .. } => "PAYLOAD_TOO_LARGE",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// The HTTP status, where it is answered before anything is executed.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::BadUserInput(_) | Self::Limit { .. } => 400,
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
            // Clients look for this very text.
            Self::PersistedQueryNotFound => "PersistedQueryNotFound".to_owned(),
            Self::Forbidden => "pages of this origin may not call".to_owned(),
            Self::BadUserInput(detail) | Self::Limit { detail, .. } => detail.clone(),
            Self::PayloadTooLarge { max } => format!("the body is larger than {max} bytes"),
            Self::RateLimited { .. } => "too much in too short a time: go on after retryAfterMs".to_owned(),
            Self::Unavailable => "not available for the moment".to_owned(),
            Self::Internal => "something went wrong on our side".to_owned(),
        }
    }

    /// RFC 9457, with our members.
    #[must_use]
    pub fn problem(&self, request_id: &str) -> serde_json::Value {
        let mut problem = problem(self.code(), self.status(), &self.detail(), request_id);
        if let Self::RateLimited { retry_after_ms, .. } = self {
            problem["retryAfterMs"] = (*retry_after_ms).into();
        }
        problem
    }

    fn extensions(&self) -> ErrorExtensionValues {
        let mut values = ErrorExtensionValues::default();
        values.set("code", self.code());
        if let Self::Limit { name, max, .. } = self {
            let limit = Value::from_json(json!({ "name": name, "max": max })).unwrap_or_default();
            values.set("limit", limit);
        }
        values
    }

    /// As an entry of GraphQL's `errors`.
    #[must_use]
    pub fn to_server_error(&self) -> ServerError {
        let mut error = ServerError::new(self.detail(), None);
        error.extensions = Some(self.extensions());
        error
    }
}

/// RFC 9457 with a code, for GraphQL errors and for plain routes alike.
pub(crate) fn problem(code: &str, status: u16, detail: &str, request_id: &str) -> serde_json::Value {
    let retry_after_ms = match status {
        // With another token, at once.
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

/// Load that is shed, and a database that is away, meet every request.
static UNAVAILABLE: Rarely = Rarely::new();

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        if matches!(error, Error::AnswerTooLarge) {
            return Self::answer_too_large();
        }
        if !error.is_outage() {
            tracing::error!(error = error.in_full(), "a request failed");
        } else if let Some(held_back) = UNAVAILABLE.pass() {
            tracing::warn!(error = error.in_full(), held_back, "requests are answered UNAVAILABLE");
        }
        if !error.retryable() {
            return Self::Internal;
        }
        metrics::counter!("idem_unavailable_total", "reason" => error.kind()).increment(1);
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
        let mut shown = Self::new(error.detail());
        shown.extensions = Some(error.extensions());
        shown
    }
}

/// Gives every error of a response its code and its problem: what the library refused by itself is
/// bad input.
pub(crate) fn complete(response: &mut Response, request_id: &str) {
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
        let problem = problem(&code, status, &error.message, request_id);
        values.set("problem", Value::from_json(problem).unwrap_or_default());
    }
}
