//! Records a span and two metrics for each request, by method, route template and status.
//!
//! Paths, queries, bodies and headers are never recorded. The only exceptions are the request id and the
//! trace that the request names.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use domain::trace_context::TraceContext;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use tracing::field::Empty;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::RequestId;

/// The trace context of a request: that of its span, or without tracing that which the client sent, if any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestTrace(pub Option<TraceContext>);

/// Middleware that records a span and metrics for each request, and adds its [`RequestTrace`]. It must run
/// after the layer that sets the [`RequestId`].
pub(super) async fn record_request(mut request: Request, next: Next) -> Response {
    let mut record = RequestRecord::new(&request);
    let span = record.create_span(request.extensions().get::<RequestId>().map_or("", |id| &id.0));
    let client_trace = parse_client_trace(request.headers());
    if let Some(client_trace) = client_trace {
        // This fails without tracing, because there is no span that could have a parent.
        let _fails_without_tracing =
            span.set_parent(Context::new().with_remote_span_context(to_span_context(client_trace)));
    }
    request.extensions_mut().insert(RequestTrace(trace_context_of_span(&span).or(client_trace)));
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    record.status = Some(status);
    response
}

/// What is recorded of one request. The metrics are written when it is dropped, because a client may
/// disconnect before the response.
struct RequestRecord {
    started_at: Instant,
    method: &'static str,
    route: String,
    status: Option<StatusCode>,
}

impl RequestRecord {
    fn new(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
        let method = method_label(request.method());
        Self { started_at: Instant::now(), method, route: route.to_owned(), status: None }
    }

    fn create_span(&self, request_id: &str) -> Span {
        let Self { method, route, .. } = self;
        tracing::info_span!(
            parent: None,
            "request",
            otel.name = format!("{method} {route}"),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method,
            http.route = route,
            http.response.status_code = Empty,
            request.id = request_id,
        )
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let status = self.status.map_or_else(|| "none".to_owned(), |status| status.as_str().to_owned());
        let route = std::mem::take(&mut self.route);
        metrics::histogram!("idem_http_request_seconds", "method" => self.method, "route" => route.clone())
            .record(self.started_at.elapsed().as_secs_f64());
        metrics::counter!(
            "idem_http_requests_total", "method" => self.method, "route" => route, "status" => status
        )
        .increment(1);
    }
}

/// The metric label of an HTTP method. Unknown methods share one label, because a client may invent any
/// number of them.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// The trace context in `traceparent` (W3C Trace Context). `None` if the client sent none, or one that is not
/// valid.
fn parse_client_trace(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(TraceContext::parse)
}

fn to_span_context(context: TraceContext) -> SpanContext {
    let TraceContext { trace_id, span_id, is_sampled } = context;
    let flags = TraceFlags::NOT_SAMPLED.with_sampled(is_sampled);
    SpanContext::new(trace_id.into(), span_id.into(), flags, true, TraceState::NONE)
}

/// The trace context of a span. `None` if no traces are sent to a collector.
fn trace_context_of_span(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span_context = context.span().span_context().clone();
    span_context.is_valid().then(|| TraceContext {
        trace_id: u128::from_be_bytes(span_context.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(span_context.span_id().to_bytes()),
        is_sampled: span_context.is_sampled(),
    })
}
