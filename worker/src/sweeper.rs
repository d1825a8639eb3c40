//! Notifies for imports that the queue has lost, ends imports whose payload never came, and removes old data.
//!
//! The rows of imports are an outbox: everything that must happen can be seen in them, and the queue may lose
//! messages.

use std::time::Duration;

use domain::limits::{NOTIFICATIONS_MAX, NOTIFY_EVERY_MS, REJECTIONS_TTL_MS};
use service::Error;
use service::LogThrottle;
use service::Payloads;
use service::notifier::{Notification, Notifier};
use service::{Store, import_upkeep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The average pause between two sweeps.
const SWEEP_EVERY_MS: i64 = 5_000;
/// Lets counts of used records be removed only once a minute: there is no index to find old ones.
static USAGE_REMOVAL: LogThrottle = LogThrottle::new();

/// The regular maintenance of the imports of all users. Several processes may run it at the same time.
#[derive(Debug, Clone)]
pub struct Sweeper<N> {
    /// The database.
    pub store: Store,
    /// The object store with the payloads of imports.
    pub payloads: Payloads,
    /// Notifies workers of imports whose notification was lost.
    pub notifier: N,
    /// How long the payload of an import is kept after the import has ended.
    pub payload_retention: Duration,
}

impl<N: Notifier> Sweeper<N> {
    /// Does a round of maintenance at once and then every 5 s, with 0.5 s of jitter, until `shutdown` is
    /// cancelled. Errors are logged.
    pub async fn run_until_shutdown(self, shutdown: CancellationToken) {
        let mut due_ms = self.store.clock.now_ms();
        loop {
            #[expect(clippy::cast_precision_loss, reason = "a lag needs no exact milliseconds")]
            let lag = (self.store.clock.now_ms() - due_ms).max(0) as f64 / 1000.0;
            metrics::gauge!("idem_sweep_lag_seconds").set(lag);
            if let Err(error) = self.sweep_once().await {
                tracing::warn!(
                    error = error.to_string_with_cause(),
                    "a round of import maintenance failed, the next one tries again"
                );
            }
            let pause_ms = SWEEP_EVERY_MS - 500 + self.store.clock.random_i64().rem_euclid(1_000);
            due_ms = self.store.clock.now_ms() + pause_ms;
            let pause = Duration::from_millis(u64::try_from(pause_ms).unwrap_or_default());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Does one round of maintenance: notifies again for imports that can run, fails imports whose payload
    /// did not come in time, and removes old payloads, rejections and counts of used records.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::Busy`] if the database fails, [`Error::Payload`] if the object store
    /// fails. The next sweep does the rest.
    pub async fn sweep_once(&self) -> Result<(), Error> {
        let store = &self.store;
        let waited_ms = import_upkeep::longest_wait_ms(store).await?;
        #[expect(clippy::cast_precision_loss, reason = "a wait needs no exact milliseconds")]
        metrics::gauge!("idem_import_oldest_runnable_seconds").set(waited_ms as f64 / 1000.0);
        for id in import_upkeep::find_and_mark_due(store, NOTIFY_EVERY_MS, NOTIFICATIONS_MAX).await? {
            self.notifier.notify(Notification::Import(id));
        }
        for (user_id, id) in import_upkeep::fail_expired_uploads(store, NOTIFICATIONS_MAX).await? {
            self.remove_payload(user_id, id).await?;
        }
        let kept_ms = i64::try_from(self.payload_retention.as_millis()).unwrap_or(i64::MAX);
        for (user_id, id) in
            import_upkeep::find_payloads_past_retention(store, kept_ms, NOTIFICATIONS_MAX).await?
        {
            self.remove_payload(user_id, id).await?;
        }
        for (user_id, id) in
            import_upkeep::find_rejections_past_retention(store, REJECTIONS_TTL_MS, NOTIFICATIONS_MAX).await?
        {
            import_upkeep::remove_rejections(store, user_id, id).await?;
        }
        if USAGE_REMOVAL.allow_once_a_minute().is_some() {
            import_upkeep::remove_old_usage(store).await?;
        }
        Ok(())
    }

    /// Removes the payload of an import, and the excerpts in its rejections. The objects go first: if the
    /// process ends before the row says so, the next sweep finds it again.
    async fn remove_payload(&self, user_id: Uuid, id: Uuid) -> Result<(), Error> {
        self.payloads.remove_payload(user_id, id).await?;
        import_upkeep::mark_payload_and_excerpts_removed(&self.store, user_id, id).await
    }
}
