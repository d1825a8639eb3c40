//! What a process tells of itself: logs to stderr, metrics, and traces where a collector is named. Installed
//! once, at the start.

mod metrics;
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

/// Something that listens to spans and events.
type Listener = Box<dyn Layer<Registry> + Send + Sync>;

/// What was installed.
pub(crate) struct Telemetry {
    metrics: PrometheusHandle,
    traces: Option<Traces>,
}

impl Telemetry {
    /// Installs logs, metrics and traces, as the settings and the environment say. Must be called within the
    /// runtime, which sends the traces.
    ///
    /// # Errors
    /// When the filter does not parse, the collector's URL is none, or something is installed already.
    pub fn install(config: &Config) -> anyhow::Result<Self> {
        let (traces, layer) = Traces::open().context("traces cannot be sent")?.unzip();
        let listeners: Vec<Listener> = [logs(config)?].into_iter().chain(layer).collect();
        let installed = tracing_subscriber::registry().with(listeners).try_init();
        installed.map_err(|error| anyhow!(error)).context("cannot install the log")?;
        Ok(Self { metrics: metrics::install()?, traces })
    }

    /// The metrics as they are now, for Prometheus.
    pub fn metrics(&self, stores: Vec<Store>) -> impl Fn() -> String + Send + Sync + use<> {
        let handle = self.metrics.clone();
        move || {
            metrics::look(&stores);
            handle.render()
        }
    }

    /// Must be called every few seconds: it makes room.
    pub fn upkeep(&self) -> impl Fn() + Send + Sync + use<> {
        let handle = self.metrics.clone();
        move || handle.run_upkeep()
    }

    /// Sends the spans that were not sent yet, in 2 s at most.
    pub async fn end(self) {
        if let Some(traces) = self.traces {
            traces.end().await;
        }
    }
}

fn logs(config: &Config) -> anyhow::Result<Listener> {
    let filter = filter(&config.log)?;
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

/// By level and target alone, where that is all that is asked: what can ask for fields of spans as well looks at
/// each step into a span and out of it.
fn filter(log: &str) -> anyhow::Result<Box<dyn Filter<Registry> + Send + Sync>> {
    let by_target = log.parse::<Targets>().ok().filter(|_| log.split(',').all(is_by_target));
    match by_target {
        Some(targets) => Ok(Box::new(targets)),
        None => Ok(Box::new(EnvFilter::try_new(log).context("in setting `log`")?)),
    }
}

/// Whether both filters read a directive alike.
fn is_by_target(directive: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '=');
    !directive.is_empty() && !directive.ends_with('=') && directive.chars().all(is_of_name)
}

#[cfg(test)]
mod tests {
    use super::is_by_target;

    #[test]
    fn a_filter_that_asks_for_more_than_level_and_target_is_read_in_full() {
        assert!("info,idem=debug,api::http=trace,off".split(',').all(is_by_target));
        for directive in ["", "idem=", "[request]=debug", "[{request.id}]=debug", "idem[x]", " info"] {
            assert!(!is_by_target(directive), "{directive}");
        }
    }
}
