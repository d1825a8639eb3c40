//! Every metric by name, with what it says; docs/operations.md lists the same. Those whose labels are known
//! begin at 0, so that the first of something rare is seen as a change.

use anyhow::Context;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use service::Store;

/// Bounds of histograms of times, in seconds: from a cached answer to a long import slice.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Bounds of histograms of numbers of items.
const ITEMS_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counters without labels.
const COUNTERS: [(&str, &str); 11] = [
    ("idem_connections_refused_total", "Connections refused because there were too many"),
    ("idem_jwks_failures_total", "Times that the key set could not be fetched"),
    ("idem_failovers_total", "Times that another database cluster had taken over and all devices sync anew"),
    ("idem_write_contended_total", "Times that writes of a user waited for a head that somebody else held"),
    ("idem_write_group_fallbacks_total", "Groups of writes that failed and were written one by one"),
    ("idem_rate_limited_total", "Operations refused because their user had no points left for them"),
    ("idem_import_crashes_total", "Imports taken up that somebody died of"),
    ("idem_import_leases_lost_total", "Slices that found their import taken over or ended"),
    ("idem_notifications_lost_total", "Rings that did not get into the queue; the sweeper notifies again"),
    (
        "idem_decisions_contradicted_total",
        "Writes rolled back because the database wrote other rows than decided; must stay 0",
    ),
    ("idem_trace_exports_failed_total", "Batches of spans that the collector did not take at the first try"),
];

/// Counters with one label, whose values are known.
const LABELLED: [(&str, &str, &str, &[&str]); 3] = [
    (
        "idem_unavailable_total",
        "Requests answered UNAVAILABLE",
        "reason",
        &["database", "payload", "moved", "busy", "late"],
    ),
    (
        "idem_import_records_total",
        "Records of imports by what became of them",
        "outcome",
        &["inserted", "duplicate", "differing", "deleted", "rejected"],
    ),
    (
        "idem_imports_finished_total",
        "Imports that a worker ended",
        "state",
        &["completed", "failed", "rolled_back"],
    ),
];

const GAUGES: [(&str, &str); 5] = [
    ("idem_backfill_share", "Share of the users whose rows have a derived column filled anew"),
    ("idem_imports_in_flight", "Imports that this process works on"),
    (
        "idem_import_oldest_runnable_seconds",
        "How long the import has waited that could run and waits longest",
    ),
    ("idem_sweep_lag_seconds", "How late the last sweep was"),
    ("idem_database_connections", "Connections to the database that are in use or idle"),
];

const HISTOGRAMS: [(&str, &str); 4] = [
    ("idem_write_group_items", "Single writes that shared a transaction"),
    ("idem_write_wait_seconds", "Time that a single write waited for its group"),
    ("idem_import_chunk_seconds", "Time of one chunk's transaction"),
    ("idem_http_request_seconds", "Time from the head of a request to the head of its answer"),
];

/// Installs the recorder, and names all metrics.
///
/// # Errors
/// When a recorder is installed already.
pub(super) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), &ITEMS_BUCKETS)?
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    for (name, says) in COUNTERS {
        describe_counter!(name, says);
        counter!(name).absolute(0);
    }
    for (name, says, label, values) in LABELLED {
        describe_counter!(name, says);
        for value in values {
            counter!(name, label => *value).absolute(0);
        }
    }
    describe_counter!("idem_backfill_rows_total", "Rows looked at to fill a derived column anew");
    describe_counter!("idem_http_requests_total", "Requests by method, route and status");
    for (name, says) in GAUGES {
        describe_gauge!(name, says);
    }
    gauge!("idem_imports_in_flight").set(0);
    for (name, says) in HISTOGRAMS {
        describe_histogram!(name, says);
    }
    Ok(handle)
}

/// Sets what is looked up when somebody asks.
pub(super) fn look(stores: &[Store]) {
    let each = stores.iter().map(Store::connections);
    let (in_use, idle) = each.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    for (state, count) in [("in_use", in_use), ("idle", idle)] {
        gauge!("idem_database_connections", "state" => state).set(count);
    }
}
