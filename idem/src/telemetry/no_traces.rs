//! Takes the place of `traces` in a build without the feature `otlp`: no span is sent.

use std::convert::Infallible;

use super::BoxedLayer;

/// There is no provider that sends spans.
pub(super) struct Traces(Infallible);

impl Traces {
    /// Returns `None`, and says so on stderr if a collector is configured. No logger is installed yet.
    ///
    /// # Errors
    /// Never: the build with traces returns errors.
    pub fn open_exporter() -> anyhow::Result<Option<(Self, BoxedLayer)>> {
        if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some_and(|value| !value.is_empty()) {
            eprintln!("This build sends no traces. Build it with the feature otlp, as `make release` does.");
        }
        Ok(None)
    }

    /// Cannot be called, because there is no provider.
    pub async fn shut_down(self) {
        match self.0 {}
    }
}
