//! Names and describes every metric; the documentation lists the same names. Counters whose labels are known
//! start at 0, so that the first occurrence of something rare is visible as an increase.

use anyhow::Context;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use service::Store;

/// Bucket bounds of histograms of durations, in seconds: from a cached response to a long import slice.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Bucket bounds of histograms that count items.
const ITEMS_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counters without labels: name and help text.
const COUNTERS: [(&str, &str); 11] = [
    ("idem_connections_refused_total", "Connections refused because IDEM_CONNECTIONS_MAX were open"),
    ("idem_jwks_failures_total", "Failed attempts to fetch the key set of IDEM_JWKS"),
    (
        "idem_failovers_total",
        "Failovers to another database cluster after which all devices sync from the start",
    ),
    (
        "idem_write_contended_total",
        "Times that writes of a user were done alone, under the lock of the account row",
    ),
    ("idem_write_group_fallbacks_total", "Write groups that failed and were written one by one"),
    ("idem_rate_limited_total", "Operations refused because their user did not have enough points left"),
    ("idem_import_crashes_total", "Imports claimed after the previous worker crashed or froze"),
    (
        "idem_import_leases_lost_total",
        "Slices that stopped because their import had ended or another worker had claimed it",
    ),
    (
        "idem_notifications_lost_total",
        "Notifications that could not be put into the queue; the sweeper sends them again",
    ),
    (
        "idem_decisions_contradicted_total",
        "Writes rolled back because the database wrote other rows than decided; must stay 0, else report it",
    ),
    ("idem_trace_exports_failed_total", "Failed attempts to send a batch of spans to the trace collector"),
];

/// Counters with one label: name, help text, name of the label, and all its values.
const LABELLED_COUNTERS: [(&str, &str, &str, &[&str]); 3] = [
    (
        "idem_unavailable_total",
        "Requests answered UNAVAILABLE, by reason",
        "reason",
        &["database", "locked", "payload", "moved", "busy", "late"],
    ),
    (
        "idem_import_records_total",
        "Records of imports, by outcome",
        "outcome",
        &["inserted", "duplicate", "differing", "deleted", "rejected"],
    ),
    (
        "idem_imports_finished_total",
        "Imports that a worker ended, by final state",
        "state",
        &["completed", "failed", "rolled_back"],
    ),
];

/// Gauges: name and help text.
const GAUGES: [(&str, &str); 5] = [
    ("idem_backfill_share", "Share of the users whose rows have the derived column filled, from 0 to 1"),
    ("idem_imports_in_flight", "Imports that this process is working on"),
    (
        "idem_import_oldest_runnable_seconds",
        "Longest time that an import which could run has been waiting, in seconds",
    ),
    ("idem_sweep_lag_seconds", "How late the last sweep was, in seconds"),
    ("idem_database_connections", "Database connections, by state"),
];

/// Histograms: name and help text.
const HISTOGRAMS: [(&str, &str); 4] = [
    ("idem_write_group_items", "Single writes that shared one transaction"),
    ("idem_write_wait_seconds", "Time that a single write waited for its group, in seconds"),
    ("idem_import_chunk_seconds", "Duration of the transaction of one chunk, in seconds"),
    ("idem_http_request_seconds", "Time from the head of a request to the head of its response, in seconds"),
];

/// Installs the metrics recorder of the process, describes all metrics, and sets counters with known labels
/// to 0.
///
/// # Errors
/// If a recorder is already installed.
pub(super) fn install_recorder() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), &ITEMS_BUCKETS)?
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
        counter!(name).absolute(0);
    }
    for (name, help, label, values) in LABELLED_COUNTERS {
        describe_counter!(name, help);
        for value in values {
            counter!(name, label => *value).absolute(0);
        }
    }
    describe_counter!("idem_backfill_rows_total", "Rows that were examined to fill a derived column");
    describe_counter!("idem_http_requests_total", "Requests, by method, route and status");
    for (name, help) in GAUGES {
        describe_gauge!(name, help);
    }
    gauge!("idem_imports_in_flight").set(0);
    for (name, help) in HISTOGRAMS {
        describe_histogram!(name, help);
    }
    Ok(handle)
}

/// Counts the database connections of these stores, in use and idle, and sets their gauges. They are counted
/// only when the metrics are requested.
pub(super) fn set_connection_gauges(stores: &[Store]) {
    let counts = stores.iter().map(Store::connection_counts);
    let (in_use, idle) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    for (state, count) in [("in_use", in_use), ("idle", idle)] {
        gauge!("idem_database_connections", "state" => state).set(count);
    }
}
