//! Fills columns anew ([`service::backfill`]): beside traffic with pauses in between, or at once before a process
//! serves.

use std::time::Duration;

use service::Error;
use service::Rarely;
use service::Store;
use service::backfill::{self, Backfill, Step};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Beside traffic a step is followed by a pause of so many times its length.
const PAUSE_FACTOR: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The pause while another process fills it. Longer than a step and its own pause.
const PAUSE_OTHERS: Duration = Duration::from_secs(2);
/// The pause after an error.
const PAUSE_FAILED: Duration = Duration::from_secs(30);
static FAILURES: Rarely = Rarely::new();

/// How much of the time is worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A fifth.
    BesideTraffic,
    /// All of it.
    Alone,
}

/// Fills all backfills, and tells how far each is whenever that has changed. Beside traffic it begins once no other
/// process moves them on.
///
/// # Errors
/// When the database fails. What is done stays done.
pub async fn fill(store: &Store, pace: Pace, tell: &(dyn Fn(&Backfill) + Sync)) -> Result<(), Error> {
    let mut seen: Option<Backfill> = None;
    loop {
        let all = backfill::all(store).await?;
        for backfill in &all {
            metrics::gauge!("idem_backfill_share", "column" => backfill.name.clone()).set(backfill.share());
            rows_counter(backfill).increment(0);
            tell(backfill);
        }
        let Some(next) = all.into_iter().find(|backfill| !backfill.is_done) else { return Ok(()) };
        let is_ours = seen.as_ref().is_some_and(|seen| seen.is_at(&next));
        if pace == Pace::BesideTraffic && !is_ours {
            seen = Some(next);
            tokio::time::sleep(PAUSE_OTHERS).await;
            continue;
        }
        let begun = Instant::now();
        match backfill::step(store, &next).await? {
            Step::Done(rows, done) => {
                let rows = u64::try_from(rows).unwrap_or_default();
                rows_counter(&next).increment(rows);
                seen = Some(done);
            }
            Step::Conflict => {
                tokio::time::sleep(PAUSE_OTHERS).await;
                continue;
            }
            Step::AtEnd => {}
        }
        if pace == Pace::BesideTraffic {
            tokio::time::sleep((begun.elapsed() * PAUSE_FACTOR).max(PAUSE_MIN)).await;
        }
    }
}

fn rows_counter(backfill: &Backfill) -> metrics::Counter {
    metrics::counter!("idem_backfill_rows_total", "column" => backfill.name.clone())
}

/// Fills them beside traffic, however often that fails, until all is done or `shutdown`.
pub async fn run(store: Store, shutdown: CancellationToken) {
    let work = async {
        while let Err(error) = fill(&store, Pace::BesideTraffic, &|_| ()).await {
            if FAILURES.pass().is_some() {
                tracing::warn!(error = %error.in_full(), "a backfill failed, and goes on later");
            }
            tokio::time::sleep(PAUSE_FAILED).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}
