//! Takes the place of `traces` in a build without the feature `otlp`: no span is sent.

use std::convert::Infallible;

use super::BoxedLayer;

/// Never exists, because this build cannot send spans.
pub(super) struct Traces(Infallible);

impl Traces {
    /// Returns `None`. If a trace collector is configured, prints on stderr that this build sends no traces,
    /// because no logger is installed yet.
    ///
    /// # Errors
    /// Never: the build with traces returns errors.
    pub fn open_exporter() -> anyhow::Result<Option<(Self, BoxedLayer)>> {
        let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if endpoints.into_iter().any(is_set) {
            eprintln!("This build sends no traces. Build it with the feature otlp, as `make release` does.");
        }
        Ok(None)
    }

    /// Cannot be called, because this type never exists.
    pub async fn shut_down(self) {
        match self.0 {}
    }
}
