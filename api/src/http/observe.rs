//! What is told of a request: a span and two metrics, by method, template of the route and status. Never a
//! path, a query, a body or a header, but for the id and the trace that the request names.

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

/// The span of a request, or without tracing the one that its client names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traced(pub Option<TraceContext>);

/// Needs the [`RequestId`].
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let mut seen = Seen::new(&request);
    let span = seen.span(request.extensions().get::<RequestId>().map_or("", |id| &id.0));
    let sent = sent(request.headers());
    if let Some(sent) = sent {
        // Without tracing there is nothing to be a child of it.
        let _without = span.set_parent(Context::new().with_remote_span_context(remote(sent)));
    }
    request.extensions_mut().insert(Traced(own(&span).or(sent)));
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    seen.status = Some(status);
    response
}

/// One request, counted when it is dropped: its client may hang up before the answer.
struct Seen {
    begun: Instant,
    method: &'static str,
    route: String,
    status: Option<StatusCode>,
}

impl Seen {
    fn new(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
        let method = method(request.method());
        Self { begun: Instant::now(), method, route: route.to_owned(), status: None }
    }

    fn span(&self, request_id: &str) -> Span {
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

impl Drop for Seen {
    fn drop(&mut self) {
        let status = self.status.map_or_else(|| "none".to_owned(), |status| status.as_str().to_owned());
        let route = std::mem::take(&mut self.route);
        metrics::histogram!("idem_http_request_seconds", "method" => self.method, "route" => route.clone())
            .record(self.begun.elapsed().as_secs_f64());
        metrics::counter!(
            "idem_http_requests_total", "method" => self.method, "route" => route, "status" => status
        )
        .increment(1);
    }
}

/// A client may make up methods.
fn method(method: &Method) -> &'static str {
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

fn sent(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(TraceContext::parse)
}

fn remote(context: TraceContext) -> SpanContext {
    let TraceContext { trace_id, span_id, is_sampled } = context;
    let flags = TraceFlags::NOT_SAMPLED.with_sampled(is_sampled);
    SpanContext::new(trace_id.into(), span_id.into(), flags, true, TraceState::NONE)
}

/// None without tracing.
fn own(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let own = context.span().span_context().clone();
    own.is_valid().then(|| TraceContext {
        trace_id: u128::from_be_bytes(own.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(own.span_id().to_bytes()),
        is_sampled: own.is_sampled(),
    })
}
