//! Rings for whatever the queue forgot, ends what waited too long for its payload, and clears away what was
//! kept long enough. It is the outbox: nothing that must happen is only in the queue.

use std::time::Duration;

use domain::limits::{NOTIFICATIONS_MAX, NOTIFY_EVERY_MS, REJECTIONS_TTL_MS};
use service::Error;
use service::Payloads;
use service::Rarely;
use service::notifier::{Notification, Notifier};
use service::{Store, import_upkeep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const EVERY_MS: i64 = 5_000;
/// Usage is looked through once a minute: there is no index for it.
static FORGETS: Rarely = Rarely::new();

/// What a sweeper works with.
#[derive(Debug, Clone)]
pub struct Sweeper<B> {
    /// The database.
    pub store: Store,
    /// The payloads.
    pub payloads: Payloads,
    /// To notification for what was forgotten.
    pub notifier: B,
    /// How long the payload of an ended import is kept.
    pub payload_retention: Duration,
}

impl<B: Notifier> Sweeper<B> {
    /// Sweeps every 5 s, with jitter, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut due_ms = self.store.clock.now_ms();
        loop {
            #[expect(clippy::cast_precision_loss, reason = "a lag needs no exact milliseconds")]
            let lag = (self.store.clock.now_ms() - due_ms).max(0) as f64 / 1000.0;
            metrics::gauge!("idem_sweep_lag_seconds").set(lag);
            if let Err(error) = self.tick().await {
                tracing::warn!(error = error.in_full(), "a sweep failed");
            }
            let pause_ms = EVERY_MS - 500 + self.store.clock.random().rem_euclid(1_000);
            due_ms = self.store.clock.now_ms() + pause_ms;
            let pause = Duration::from_millis(u64::try_from(pause_ms).unwrap_or_default());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Sweeps once.
    ///
    /// # Errors
    /// When the database or the object store fails; the next sweep goes on.
    pub async fn tick(&self) -> Result<(), Error> {
        let store = &self.store;
        let waited_ms = import_upkeep::longest_wait_ms(store).await?;
        #[expect(clippy::cast_precision_loss, reason = "a wait needs no exact milliseconds")]
        metrics::gauge!("idem_import_oldest_runnable_seconds").set(waited_ms as f64 / 1000.0);
        for id in import_upkeep::due(store, NOTIFY_EVERY_MS, NOTIFICATIONS_MAX).await? {
            self.notifier.notify(Notification::Import(id));
        }
        for (user_id, id) in import_upkeep::expire(store, NOTIFICATIONS_MAX).await? {
            self.forget_payload(user_id, id).await?;
        }
        let kept_ms = i64::try_from(self.payload_retention.as_millis()).unwrap_or(i64::MAX);
        for (user_id, id) in import_upkeep::stale_payloads(store, kept_ms, NOTIFICATIONS_MAX).await? {
            self.forget_payload(user_id, id).await?;
        }
        for (user_id, id) in
            import_upkeep::stale_rejections(store, REJECTIONS_TTL_MS, NOTIFICATIONS_MAX).await?
        {
            import_upkeep::forget_rejections(store, user_id, id).await?;
        }
        if FORGETS.pass().is_some() {
            import_upkeep::forget_usage(store).await?;
        }
        Ok(())
    }

    /// The objects first: whatever ends in between is swept again.
    async fn forget_payload(&self, user_id: Uuid, id: Uuid) -> Result<(), Error> {
        self.payloads.remove(user_id, id).await?;
        import_upkeep::forget_payload(&self.store, user_id, id).await
    }
}
