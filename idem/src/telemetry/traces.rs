//! Spans to a collector by OTLP over HTTP, when one of the standard variables names it. They wait in a queue
//! of bounded length and leave it on a thread of their own; where the collector does not take them, they are
//! dropped and nobody waits.

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

use super::Listener;

/// Either turns traces on.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Crates whose spans are sent: each field of them is chosen. Log lines are not sent.
const TARGETS: [&str; 2] = ["api::", "worker::"];
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Of the collector's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where spans go.
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// None when no collector is named. Must be called within the runtime.
    ///
    /// # Errors
    /// When its URL is none.
    pub fn open() -> anyhow::Result<Option<(Self, Listener)>> {
        if !ENDPOINTS.iter().any(|name| set(name).is_some()) || is_disabled() {
            return Ok(None);
        }
        let client = reqwest::Client::builder().timeout(SEND_TIMEOUT).build()?;
        let courier = Courier { client, runtime: Handle::current(), is_failing: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(courier)
            .build()
            .with_context(|| format!("in {}", ENDPOINTS.join(" or ")))?;
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
        let ours = FilterFn::new(|metadata| {
            metadata.is_span() && TARGETS.iter().any(|target| metadata.target().starts_with(target))
        });
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("idem"))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
            .boxed();
        Ok(Some((Self(provider), layer)))
    }

    /// Sends what is left.
    pub async fn end(self) {
        // The provider waits for its thread.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(END_TIMEOUT)).await;
        if let Ok(Err(error)) = ended {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_disabled() -> bool {
    set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// `idem`, unless the environment has another name for it.
fn resource() -> Resource {
    let is_named = set("OTEL_SERVICE_NAME").is_some()
        || set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|sent| sent.contains("service.name="));
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    if is_named { resource.build() } else { resource.with_service_name("idem").build() }
}

/// Carries batches to the collector, with the client and the TLS that the process has anyway. The thread that
/// asks has no runtime, so the request runs on that of the process.
#[derive(Debug)]
struct Courier {
    client: reqwest::Client,
    runtime: Handle,
    is_failing: AtomicBool,
}

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = send(self.client.clone(), request.try_into()?);
        let sent = self.runtime.spawn(sending).await?;
        let failed = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        self.note(failed.as_deref());
        sent
    }
}

impl Courier {
    /// Counts each failure, and logs the first of a row.
    fn note(&self, failed: Option<&str>) {
        let was_failing = self.is_failing.swap(failed.is_some(), Ordering::Relaxed);
        match failed {
            Some(error) => {
                metrics::counter!("idem_trace_exports_failed_total").increment(1);
                if !was_failing {
                    tracing::warn!(error, "the collector does not take traces");
                }
            }
            None if was_failing => tracing::info!("the collector takes traces again"),
            None => {}
        }
    }
}

async fn send(client: reqwest::Client, request: reqwest::Request) -> Result<Response<Bytes>, HttpError> {
    // The URL may hold a password.
    let mut response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let mut answer = Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        *headers = response.headers().clone();
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(body.freeze())?)
}
