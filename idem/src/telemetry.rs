//! Logs to stderr and the metrics recorder: installed once, at the start of a process.

use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Config, LogFormat};

/// Bounds of every histogram whose name ends in `_seconds`: from a cached answer to a long import slice.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Bounds of every histogram whose name ends in `_items`: up to the largest batch and group.
const ITEMS_BUCKETS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

/// Sends logs to stderr, filtered and written as the settings say.
///
/// # Errors
/// When the filter does not parse, or a subscriber is installed already.
pub fn init_logs(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).context("in setting `log`")?;
    let is_terminal = std::io::stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_pretty = config.log_format.map_or(is_terminal, |format| format == LogFormat::Pretty);
    let result = if is_pretty {
        builder.with_ansi(is_terminal).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    result.map_err(|error| anyhow!(error)).context("cannot install the log")
}

/// Installs the metrics recorder. What the handle renders is the answer of `/metrics`; its `run_upkeep`
/// must be called every few seconds.
///
/// # Errors
/// When a recorder is installed already.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), &ITEMS_BUCKETS)?
        .install_recorder()
        .context("cannot install the metrics recorder")
}
