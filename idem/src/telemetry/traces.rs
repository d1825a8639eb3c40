//! Sends spans to a trace collector by OTLP over HTTP, if one of the standard variables names one.
//!
//! Spans wait in a bounded queue and are sent from a thread of their own. If the collector does not accept
//! them, they are dropped, and no request waits for that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;

use super::BoxedLayer;

/// The environment variables that name the trace collector. Each of them turns traces on.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// The crates whose spans are sent to the trace collector. The fields of these spans hold no content of
/// users. Log lines are not sent.
const TARGETS: [&str; 2] = ["api::", "worker::"];
/// How long one request to the trace collector may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sending the remaining spans may take at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest response of the trace collector that is read, in bytes.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// The provider that sends spans to the trace collector.
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Creates the exporter of spans, and the layer that records them. Connects to nothing yet. Returns
    /// `None` if no collector is configured or `OTEL_SDK_DISABLED` is true. Must be called within the Tokio
    /// runtime.
    ///
    /// # Errors
    /// If the collector's URL is not valid.
    pub fn open_exporter() -> anyhow::Result<Option<(Self, BoxedLayer)>> {
        if !ENDPOINTS.iter().any(|name| env_variable(name).is_some()) || is_export_disabled() {
            return Ok(None);
        }
        let client = reqwest::Client::builder().timeout(SEND_TIMEOUT).build()?;
        let collector =
            CollectorClient { client, runtime: Handle::current(), is_failing: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(collector)
            .build()
            .with_context(|| format!("in {}", ENDPOINTS.join(" or ")))?;
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(span_resource()).build();
        let own_spans = FilterFn::new(|metadata| {
            metadata.is_span() && TARGETS.iter().any(|target| metadata.target().starts_with(target))
        });
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("idem"))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(own_spans.with_max_level_hint(LevelFilter::INFO))
            .boxed();
        Ok(Some((Self(provider), layer)))
    }

    /// Sends the remaining spans, for at most [`SHUTDOWN_TIMEOUT`], and ends the thread that sends spans.
    pub async fn shut_down(self) {
        // The call blocks until the provider's thread has ended.
        let result =
            tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(SHUTDOWN_TIMEOUT)).await;
        if let Ok(Err(error)) = result {
            tracing::debug!(%error, "the remaining spans were not sent");
        }
    }
}

/// The value of an environment variable, unless it is empty.
fn env_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_export_disabled() -> bool {
    env_variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The OpenTelemetry resource that describes this process in all spans. The service name is `idem` unless the
/// environment sets another one.
fn span_resource() -> Resource {
    let is_named = env_variable("OTEL_SERVICE_NAME").is_some()
        || env_variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|value| value.contains("service.name="));
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    if is_named { resource.build() } else { resource.with_service_name("idem").build() }
}

/// Sends batches of spans to the trace collector with the HTTP client and TLS library that the process uses
/// anyway. The exporter's thread has no Tokio runtime, so the request runs on the runtime of the process.
#[derive(Debug)]
struct CollectorClient {
    client: reqwest::Client,
    runtime: Handle,
    is_failing: AtomicBool,
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = send_request(self.client.clone(), request.try_into()?);
        let result = self.runtime.spawn(request).await?;
        let failure = match &result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        self.count_and_log_failure(failure.as_deref());
        result
    }
}

impl CollectorClient {
    /// Counts every failure to send spans, but logs only the first of several in a row, and then the first
    /// success.
    fn count_and_log_failure(&self, failure: Option<&str>) {
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) => {
                metrics::counter!("idem_trace_exports_failed_total").increment(1);
                if !was_failing {
                    tracing::warn!(
                        error,
                        "cannot send spans to the trace collector: they are dropped until it accepts them again"
                    );
                }
            }
            None if was_failing => tracing::info!("spans are sent to the trace collector again"),
            None => {}
        }
    }
}

async fn send_request(
    client: reqwest::Client,
    request: reqwest::Request,
) -> Result<Response<Bytes>, HttpError> {
    // The URL may hold a password, so no error shows it.
    let mut response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let mut builder = Response::builder().status(response.status());
    if let Some(headers) = builder.headers_mut() {
        *headers = response.headers().clone();
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Err("the response of the trace collector is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(builder.body(body.freeze())?)
}
