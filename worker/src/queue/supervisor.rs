//! The supervisor of a consumer: runs the handler in tasks of its own, so that a worker that ends takes
//! none of them along, and drives one worker of apalis until it ends or shall end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use apalis_core::error::WorkerError;
use apalis_core::worker::context::WorkerContext;
use futures::FutureExt;
use service::Clock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::QueueError;

/// First pause before another worker is started; it doubles.
const RESTART_FIRST: Duration = Duration::from_millis(500);
/// Longest pause before another worker is started.
const RESTART_LONGEST: Duration = Duration::from_secs(5);
/// The time that a worker has to say goodbye, once its handlers are through.
const STOP_MAX: Duration = Duration::from_secs(1);

/// What outlives a worker.
#[derive(Clone)]
pub(super) struct Supervisor<F> {
    handler: F,
    /// How many notifications are handled at once.
    pub(super) concurrency: usize,
    /// Ends it all.
    pub(super) shutdown: CancellationToken,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl<F, Fut> Supervisor<F>
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    pub(super) fn new(concurrency: usize, shutdown: CancellationToken, handler: F) -> Self {
        let concurrency = concurrency.max(1);
        let permits = Arc::new(Semaphore::new(concurrency));
        Self { handler, concurrency, shutdown, permits, tasks: TaskTracker::new() }
    }

    /// Handles one notification; it goes on when this future is dropped.
    ///
    /// The permit counts the handlers that a former worker left behind, which apalis does not.
    pub(super) async fn take(&self, import_id: Uuid) {
        let permit = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return,
            permit = Arc::clone(&self.permits).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let handler = self.handler.clone();
        let task = self.tasks.spawn(async move {
            let work = AssertUnwindSafe(async move { handler(import_id).await });
            if work.catch_unwind().await.is_err() {
                tracing::error!(import.id = %import_id, "the handler of a notification panicked");
            }
            drop(permit);
        });
        if let Err(error) = task.await {
            tracing::debug!(import.id = %import_id, %error, "a notification was not handled to the end");
        }
    }

    /// Drives one worker. An `Ok` says that it ended because it was asked to.
    pub(super) async fn watch(
        &self,
        context: &WorkerContext,
        worker: impl Future<Output = Result<(), WorkerError>>,
    ) -> Result<(), QueueError> {
        let mut worker = std::pin::pin!(worker);
        tokio::select! {
            end = &mut worker => return match end {
                Ok(()) => Err(QueueError::Ended),
                Err(error) => Err(QueueError::Worker(error)),
            },
            () = self.shutdown.cancelled() => {}
        }
        // Fails when the worker has not begun yet, or has ended: the wait below is for both.
        let _ = context.stop();
        let enough = async {
            self.finish().await;
            tokio::time::sleep(STOP_MAX).await;
        };
        tokio::select! {
            end = worker => end.map_err(QueueError::Worker),
            () = enough => Ok(()),
        }
    }

    /// Waits for the handlers that run.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits before another worker is started; `false` when there shall be none.
    pub(super) async fn rest(&self, pause: &mut Duration) -> bool {
        let wait = tokio::time::sleep(*pause);
        *pause = RESTART_LONGEST.min(*pause * 2);
        self.shutdown.run_until_cancelled(wait).await.is_some()
    }
}

/// The first of the pauses for [`Supervisor::rest`].
pub(super) fn first_pause() -> Duration {
    RESTART_FIRST
}

/// A name that no worker ever had: in Redis a name cannot be used again before it is dead.
pub(super) fn worker_name() -> String {
    format!("idem-{}", Clock::System.new_id().simple())
}
