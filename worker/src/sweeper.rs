//! Rings for whatever the queue forgot, and ends what waited too long for its payload. It is the
//! outbox: nothing that must happen is only in the queue.

use std::time::Duration;

use domain::bell::{Bell, Ring};
use domain::error::Error;
use domain::limits::{RING_EVERY_MS, RINGS_MAX};
use domain::payload::Payloads;
use domain::store::{Store, import_job};
use tokio_util::sync::CancellationToken;

const EVERY_MS: i64 = 5_000;

/// Sweeps every 5 s, with jitter, until `shutdown`.
pub async fn sweep<B: Bell>(store: Store, payloads: Payloads, bell: B, shutdown: CancellationToken) {
    loop {
        if let Err(error) = tick(&store, &payloads, &bell).await {
            tracing::warn!(?error, "a sweep failed");
        }
        let pause_ms = EVERY_MS - 500 + store.clock.random().rem_euclid(1_000);
        let pause = Duration::from_millis(u64::try_from(pause_ms).unwrap_or_default());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn tick<B: Bell>(store: &Store, payloads: &Payloads, bell: &B) -> Result<(), Error> {
    for id in import_job::due(store, RING_EVERY_MS, RINGS_MAX).await? {
        bell.ring(Ring::Import(id));
    }
    for (user_id, id) in import_job::expire(store, RINGS_MAX).await? {
        payloads.remove(user_id, id).await?;
    }
    Ok(())
}
