//! The queue inside the process: a bounded channel, read through apalis's `MemoryStorage`.
//!
//! Its `MemorySink` is left alone: `start_send` panics whenever the worker's `poll_ready` holds the
//! sink's lock at that instant, and it has no bound.

use std::sync::{Arc, Mutex, PoisonError};

use apalis::layers::WorkerBuilderExt;
use apalis_core::backend::memory::{MemorySink, MemoryStorage, MemoryStorageError};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use domain::limits::NOTIFICATIONS_MAX;
use futures::{SinkExt, StreamExt, sink, stream};
use service::Clock;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::supervisor::{Supervisor, first_pause, worker_name};
use super::{Message, QueueError};

/// The end for the notifier.
pub(crate) type Sender = mpsc::Sender<Uuid>;

/// The end for the workers, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Receiver(Arc<Mutex<mpsc::Receiver<Uuid>>>);

pub(super) fn channel() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(usize::try_from(NOTIFICATIONS_MAX).unwrap_or(usize::MAX));
    (sender, Receiver(Arc::new(Mutex::new(receiver))))
}

impl Receiver {
    fn storage(&self) -> MemoryStorage<Message> {
        let receiver = Arc::clone(&self.0);
        let notifications = stream::poll_fn(move |context| {
            receiver.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(context)
        });
        let unused: Box<dyn futures::Sink<Task<Message>, Error = MemoryStorageError> + Send + Sync + Unpin> =
            Box::new(sink::drain().sink_map_err(|never| match never {}));
        let unused = MemorySink::new(Arc::new(futures::lock::Mutex::new(unused)));
        MemoryStorage::new_with(unused, notifications.map(task).boxed())
    }
}

fn task(import_id: Uuid) -> Task<Message> {
    TaskBuilder::new(Message { import_id })
        .task_id(TaskId::from_string(Clock::System.new_id().to_string()))
        .build()
}

/// Runs workers until the supervisor's token is cancelled, or until nobody can notification any more.
pub(super) async fn serve<F, Fut>(receiver: &Receiver, supervisor: &Supervisor<F>)
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut pause = first_pause();
    while !supervisor.shutdown.is_cancelled() && !receiver.is_over() {
        let Err(error) = work(receiver, supervisor).await else { return };
        if receiver.is_over() {
            break;
        }
        tracing::warn!(%error, cause = error.cause(), "a worker ended and is replaced");
        if !supervisor.rest(&mut pause).await {
            break;
        }
    }
    supervisor.shutdown.cancelled().await;
}

async fn work<F, Fut>(receiver: &Receiver, supervisor: &Supervisor<F>) -> Result<(), QueueError>
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let context = WorkerContext::new(&worker_name());
    let handling = supervisor.clone();
    let worker = WorkerBuilder::new(&context)
        .backend(receiver.storage())
        .concurrency(supervisor.concurrency)
        .build(move |notification: Message| {
            let handling = handling.clone();
            async move { handling.take(notification.import_id).await }
        });
    supervisor.watch(&context, worker.run()).await
}

impl Receiver {
    /// Whether the last notifier is gone, and its notifications with it.
    fn is_over(&self) -> bool {
        let receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.is_closed() && receiver.is_empty()
    }
}
