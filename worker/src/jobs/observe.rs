//! The span and the metrics of import slices.

use domain::import::ImportRow;
use opentelemetry::trace::{SpanContext, TraceFlags, TraceState};
use service::apply_chunk::Applied;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes the tracing span of an import slice. It has no parent, because the request that created the import
/// ended long ago. It is linked to the span of that request instead.
pub(super) fn new_slice_span(row: &ImportRow) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "import slice",
        otel.kind = "consumer",
        import.id = %row.id,
        records = Empty,
        outcome = Empty,
    );
    if let Some(request) = row.trace_context {
        let flags = TraceFlags::NOT_SAMPLED.with_sampled(request.is_sampled);
        let (trace_id, span_id) = (request.trace_id.into(), request.span_id.into());
        span.add_link(SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE));
    }
    span
}

/// Counts an import in the metric of imports in flight in this process, until it is dropped.
pub(super) struct InFlight(metrics::Gauge);

impl InFlight {
    pub(super) fn new_in_flight_guard() -> Self {
        let gauge = metrics::gauge!("idem_imports_in_flight");
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Counts an import that has ended in this state, in the metrics.
pub(super) fn count_finished_import(state: &'static str) {
    metrics::counter!("idem_imports_finished_total", "state" => state).increment(1);
}

/// Counts the records of a chunk by their outcome, in the metrics.
pub(super) fn count_record_outcomes(applied: &Applied) {
    for (outcome, count) in [
        ("inserted", applied.counts.inserted),
        ("duplicate", applied.counts.duplicates),
        ("differing", applied.counts.differing),
        ("deleted", applied.counts.deleted),
        ("rejected", applied.counts.rejected),
    ] {
        metrics::counter!("idem_import_records_total", "outcome" => outcome)
            .increment(u64::try_from(count).unwrap_or_default());
    }
}
