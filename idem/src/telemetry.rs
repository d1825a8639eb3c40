//! Installs logs (to stderr), metrics and, if a collector is configured, traces. A process does this once, at
//! the start.

mod metrics;
#[cfg(feature = "otlp")]
mod traces;
#[cfg(not(feature = "otlp"))]
#[path = "telemetry/no_traces.rs"]
mod traces;

use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::PrometheusHandle;
use service::Store;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::{Config, LogFormat};
use traces::Traces;

/// A layer that receives spans and log events.
type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The handles of the installed metrics recorder and, if traces are sent, of the trace provider.
pub(crate) struct Telemetry {
    metrics: PrometheusHandle,
    traces: Option<Traces>,
}

impl Telemetry {
    /// Installs logs, metrics and traces as the settings and the environment say. Must be called within the
    /// Tokio runtime, which sends the traces.
    ///
    /// # Errors
    /// If the log filter does not parse, the collector's URL is not valid, or a logger or recorder is already
    /// installed.
    pub fn install(config: &Config) -> anyhow::Result<Self> {
        let (traces, layer) = Traces::open_exporter().context("cannot set up traces")?.unzip();
        let layers: Vec<BoxedLayer> = [new_log_layer(config)?].into_iter().chain(layer).collect();
        let installed = tracing_subscriber::registry().with(layers).try_init();
        installed.map_err(|error| anyhow!(error)).context("cannot install the logger")?;
        Ok(Self { metrics: metrics::install_recorder()?, traces })
    }

    /// Returns a function that renders all metrics in Prometheus' text format. `stores` are the databases
    /// whose pooled connections it counts.
    pub fn metrics_renderer(&self, stores: Vec<Store>) -> impl Fn() -> String + Send + Sync + use<> {
        let handle = self.metrics.clone();
        move || {
            metrics::set_connection_gauges(&stores);
            handle.render()
        }
    }

    /// Returns the upkeep of the metrics recorder. Call it every few seconds, because it frees the memory of
    /// samples.
    pub fn metrics_upkeep_closure(&self) -> impl Fn() + Send + Sync + use<> {
        let handle = self.metrics.clone();
        move || handle.run_upkeep()
    }

    /// Sends the remaining spans to the trace collector, for at most 2 s. Logs and metrics stay installed.
    pub async fn shut_down(self) {
        if let Some(traces) = self.traces {
            traces.shut_down().await;
        }
    }
}

/// The layer that writes log lines to stderr, as text or JSON.
fn new_log_layer(config: &Config) -> anyhow::Result<BoxedLayer> {
    let filter = parse_log_filter(&config.log)?;
    let is_terminal = std::io::stderr().is_terminal();
    let logs = fmt::layer().with_writer(std::io::stderr);
    let is_pretty = config.log_format.map_or(is_terminal, |format| format == LogFormat::Pretty);
    Ok(if is_pretty {
        logs.with_ansi(is_terminal).with_filter(filter).boxed()
    } else {
        let json = logs.json().flatten_event(true).with_current_span(true).with_span_list(false);
        json.with_filter(filter).boxed()
    })
}

/// Parses the log filter of the settings. [`Targets`] is used if the directives name only targets and levels,
/// because [`EnvFilter`] can also match fields of spans and so does work whenever a span is entered or left.
fn parse_log_filter(log: &str) -> anyhow::Result<Box<dyn Filter<Registry> + Send + Sync>> {
    let by_target = log.parse::<Targets>().ok().filter(|_| log.split(',').all(is_target_directive));
    match by_target {
        Some(targets) => Ok(Box::new(targets)),
        None => Ok(Box::new(EnvFilter::try_new(log).context("in setting `log`")?)),
    }
}

/// Whether a directive of the log filter names only a target or a level. [`Targets`] and [`EnvFilter`] read
/// such a directive in the same way.
fn is_target_directive(directive: &str) -> bool {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '=');
    !directive.is_empty() && !directive.ends_with('=') && directive.chars().all(is_name_char)
}

#[cfg(test)]
mod tests {
    use super::is_target_directive;

    #[test]
    fn a_directive_with_more_than_target_and_level_needs_the_full_filter() {
        assert!("info,idem=debug,api::http=trace,off".split(',').all(is_target_directive));
        for directive in ["", "idem=", "[request]=debug", "[{request.id}]=debug", "idem[x]", " info"] {
            assert!(!is_target_directive(directive), "{directive}");
        }
    }
}
