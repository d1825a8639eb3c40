//! Runs the backfills ([`service::backfill`]): in the background with pauses, or at full speed before a
//! process serves requests.

use std::time::Duration;

use service::Error;
use service::LogThrottle;
use service::Store;
use service::backfill::{self, Backfill, Step};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// With [`Pace::Throttled`], a backfill pauses after each step for this many times the duration of the step,
/// so it works a fifth of the time.
const PAUSE_FACTOR: u32 = 4;
/// The shortest pause between two steps.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The pause while another process works on the backfill. It is longer than a step of that process with its
/// pause.
const PAUSE_OTHERS: Duration = Duration::from_secs(2);
/// The pause after an error.
const PAUSE_FAILED: Duration = Duration::from_secs(30);
/// Limits the warnings about errors, which repeat while the database is away.
static FAILURE_WARNINGS: LogThrottle = LogThrottle::new();

/// How much of the time [`run_all_backfills`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The backfills work a fifth of the time, so that requests are served at the same time.
    Throttled,
    /// The backfills work all the time, without pauses.
    Full,
}

/// Runs all backfills to their end, one after the other. Calls `report` with each of them at the start and
/// after every step.
///
/// With [`Pace::Throttled`] it begins a backfill only when no other process makes progress with it.
///
/// # Errors
/// [`Error::Database`] if the database fails, [`Error::Busy`] if no connection is free in time. The steps
/// that are done stay done.
pub async fn run_all_backfills(
    store: &Store,
    pace: Pace,
    report: &(dyn Fn(&Backfill) + Sync),
) -> Result<(), Error> {
    let mut last_seen: Option<Backfill> = None;
    loop {
        let all = backfill::load_all(store).await?;
        for backfill in &all {
            metrics::gauge!("idem_backfill_share", "column" => backfill.name.clone())
                .set(backfill.estimate_progress());
            checked_rows_counter(backfill).increment(0);
            report(backfill);
        }
        let Some(next) = all.into_iter().find(|backfill| !backfill.is_done) else { return Ok(()) };
        let is_unmoved = last_seen.as_ref().is_some_and(|seen| seen.has_same_checkpoint(&next));
        if pace == Pace::Throttled && !is_unmoved {
            last_seen = Some(next);
            tokio::time::sleep(PAUSE_OTHERS).await;
            continue;
        }
        let started = Instant::now();
        match backfill::run_step(store, &next).await? {
            Step::Done(rows, done) => {
                let rows = u64::try_from(rows).unwrap_or_default();
                checked_rows_counter(&next).increment(rows);
                last_seen = Some(done);
            }
            Step::Conflict => {
                tokio::time::sleep(PAUSE_OTHERS).await;
                continue;
            }
            Step::AtEnd => {}
        }
        if pace == Pace::Throttled {
            tokio::time::sleep((started.elapsed() * PAUSE_FACTOR).max(PAUSE_MIN)).await;
        }
    }
}

/// The metric that counts the rows that this backfill has checked.
fn checked_rows_counter(backfill: &Backfill) -> metrics::Counter {
    metrics::counter!("idem_backfill_rows_total", "column" => backfill.name.clone())
}

/// Runs all backfills with [`Pace::Throttled`], and returns once they are done or `shutdown` is cancelled.
/// After an error it waits for 30 s and tries again.
pub async fn run_all_throttled_with_retries(store: Store, shutdown: CancellationToken) {
    let work = async {
        while let Err(error) = run_all_backfills(&store, Pace::Throttled, &|_| ()).await {
            if FAILURE_WARNINGS.allow_once_a_minute().is_some() {
                tracing::warn!(
                    error = %error.to_string_with_cause(),
                    "a backfill failed and is tried again in 30 s"
                );
            }
            tokio::time::sleep(PAUSE_FAILED).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}
