//! Decides which pages of other origins may use the API, and with which headers (CORS).

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::limiter::{LEVEL_HEADER, POLICY_HEADER};

/// The request headers that pages of other origins may always send: those of the routes, and those that
/// Apollo, Relay, urql, Sentry, Datadog and OpenTelemetry add.
const REQUEST_HEADERS: [&str; 26] = [
    "authorization",
    "content-type",
    "content-encoding",
    "upload-offset",
    "x-request-id",
    "apollographql-client-name",
    "apollographql-client-version",
    "apollo-require-preflight",
    "x-apollo-operation-name",
    "x-apollo-operation-id",
    "x-apollo-operation-type",
    "x-apollo-cache-key",
    "x-apollo-cache-fetch-strategy",
    "x-apollo-expire-timeout",
    "x-apollo-expire-after-read",
    "x-apollo-prefetch",
    "graphql-client-name",
    "graphql-client-version",
    "baggage",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "x-datadog-origin",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-trace-id",
];

/// The web origins whose pages may use the API.
#[derive(Debug, Clone)]
pub(crate) struct Origins(Arc<[String]>);

impl Origins {
    pub(crate) fn new(origins: Vec<String>) -> Self {
        Self(origins.into())
    }

    pub(crate) fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().unwrap_or_default();
        self.0.iter().any(|allowed| matches_origin(allowed, origin))
    }
}

/// The layer that responds to preflight requests, and marks the responses that pages of these origins may
/// read. `additional_headers` are request headers that the pages may send in addition to [`REQUEST_HEADERS`].
pub(super) fn cors_layer(origins: Origins, additional_headers: &[HeaderName]) -> CorsLayer {
    let is_allowed = move |origin: &HeaderValue, _: &Parts| origins.allows_origin(origin);
    let additional_headers = additional_headers.iter().cloned();
    let request_headers = REQUEST_HEADERS.into_iter().map(HeaderName::from_static).chain(additional_headers);
    let response_headers = ["upload-offset", "x-request-id"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::HEAD])
        .allow_headers(request_headers.collect::<Vec<_>>())
        .expose_headers(
            response_headers
                .into_iter()
                .chain([header::RETRY_AFTER, LEVEL_HEADER, POLICY_HEADER])
                .collect::<Vec<_>>(),
        )
}

/// Whether an origin is the allowed one, compared exactly. If the allowed one ends in `:*`, as
/// `http://localhost:*` does, any port matches, also none.
fn matches_origin(allowed: &str, origin: &str) -> bool {
    let Some(host) = allowed.strip_suffix(":*") else {
        return allowed == origin;
    };
    match origin.strip_prefix(host) {
        Some("") => true,
        Some(port) => port
            .strip_prefix(':')
            .is_some_and(|port| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())),
        None => false,
    }
}
