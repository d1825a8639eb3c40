//! Supervises the queue workers of a consumer.
//!
//! It runs each handler in a task of its own, so that the handlers outlive the queue worker that started
//! them. It runs one worker of apalis until that ends, or until the shutdown.

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

/// The first pause before another worker is started. Each further one is twice as long.
const RESTART_PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause before another worker is started.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a worker may take to stop after its handlers have returned.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// What all queue workers of a consumer share: the handler, the bound on running handlers, and the shutdown.
#[derive(Clone)]
pub(super) struct Supervisor<F> {
    handler: F,
    /// How many handlers may run at the same time.
    pub(super) concurrency: usize,
    /// Ends the queue workers. Handlers watch it themselves.
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

    /// Runs the handler for one message in a task, and waits for it. The task goes on if this future is
    /// dropped. After the shutdown no handler is started.
    ///
    /// A permit bounds the number of handlers. apalis has such a bound too, but does not count the handlers
    /// that an earlier worker started.
    pub(super) async fn run_handler(&self, import_id: Uuid) {
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
            // The sweeper sends the notification again.
            tracing::debug!(import.id = %import_id, %error, "the handler of a notification was cancelled");
        }
    }

    /// Runs one queue worker of apalis. Returns `Ok` if it ended because of the shutdown, after waiting for
    /// the running handlers.
    ///
    /// # Errors
    /// [`QueueError::Worker`] if the worker ended with an error, [`QueueError::Ended`] if it ended without
    /// one.
    pub(super) async fn run_worker(
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
        // This fails if the worker has not started yet or has ended. The wait below covers both cases.
        let _ = context.stop();
        let stop_timeout = async {
            self.wait_for_handlers().await;
            tokio::time::sleep(STOP_TIME_MAX).await;
        };
        tokio::select! {
            end = worker => end.map_err(QueueError::Worker),
            () = stop_timeout => Ok(()),
        }
    }

    /// Waits until all running handlers have returned.
    pub(super) async fn wait_for_handlers(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits before another worker is started, and doubles the next pause. Returns `false` at the shutdown:
    /// then no worker must be started.
    pub(super) async fn pause_before_restart(&self, pause: &mut Duration) -> bool {
        let wait = tokio::time::sleep(*pause);
        *pause = RESTART_PAUSE_MAX.min(*pause * 2);
        self.shutdown.run_until_cancelled(wait).await.is_some()
    }
}

/// The first of the pauses for [`Supervisor::pause_before_restart`].
pub(super) fn first_restart_pause() -> Duration {
    RESTART_PAUSE_FIRST
}

/// A new random name for a queue worker. A name in Redis cannot be used again until its worker counts as
/// dead.
pub(super) fn new_worker_name() -> String {
    format!("idem-{}", Clock::System.new_id().simple())
}
