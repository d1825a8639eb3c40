//! The queue in the memory of the process: a bounded channel, read through apalis's `MemoryStorage`.
//!
//! apalis's `MemorySink` is not used for sending. It has no bound, and its `start_send` panics if the
//! `poll_ready` of the worker holds the lock of the sink at that moment.

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

use super::supervisor::{Supervisor, first_restart_pause, new_worker_name};
use super::{Message, QueueError};

/// The sending end of the queue in memory, for the notifier. It carries import ids.
pub(crate) type Sender = mpsc::Sender<Uuid>;

/// The receiving end of the queue in memory. Each new queue worker goes on with it.
#[derive(Debug, Clone)]
pub(super) struct Receiver(Arc<Mutex<mpsc::Receiver<Uuid>>>);

pub(super) fn new_channel() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(usize::try_from(NOTIFICATIONS_MAX).unwrap_or(usize::MAX));
    (sender, Receiver(Arc::new(Mutex::new(receiver))))
}

impl Receiver {
    fn new_apalis_storage(&self) -> MemoryStorage<Message> {
        let receiver = Arc::clone(&self.0);
        let messages = stream::poll_fn(move |context| {
            receiver.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(context)
        });
        let unused: Box<dyn futures::Sink<Task<Message>, Error = MemoryStorageError> + Send + Sync + Unpin> =
            Box::new(sink::drain().sink_map_err(|never| match never {}));
        let unused = MemorySink::new(Arc::new(futures::lock::Mutex::new(unused)));
        MemoryStorage::new_with(unused, messages.map(new_apalis_task).boxed())
    }
}

fn new_apalis_task(import_id: Uuid) -> Task<Message> {
    TaskBuilder::new(Message { import_id })
        .task_id(TaskId::from_string(Clock::System.new_id().to_string()))
        .build()
}

/// Keeps a queue worker running until the shutdown: replaces each one that ends, after a pause. If the last
/// notifier is dropped before that, it only waits for the shutdown.
pub(super) async fn keep_queue_worker_running<F, Fut>(receiver: &Receiver, supervisor: &Supervisor<F>)
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut pause = first_restart_pause();
    while !supervisor.shutdown.is_cancelled() && !receiver.is_drained() {
        let Err(error) = run_worker(receiver, supervisor).await else { return };
        if receiver.is_drained() {
            break;
        }
        tracing::warn!(
            %error,
            cause = error.cause_for_log(),
            "the consumer of the import queue ended; another one starts after a pause"
        );
        if !supervisor.pause_before_restart(&mut pause).await {
            break;
        }
    }
    supervisor.shutdown.cancelled().await;
}

/// Runs one queue worker until it ends or the supervisor shuts down. Returns `Ok` only at the shutdown.
async fn run_worker<F, Fut>(receiver: &Receiver, supervisor: &Supervisor<F>) -> Result<(), QueueError>
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let context = WorkerContext::new(&new_worker_name());
    let handlers = supervisor.clone();
    let worker = WorkerBuilder::new(&context)
        .backend(receiver.new_apalis_storage())
        .concurrency(supervisor.concurrency)
        .build(move |message: Message| {
            let handlers = handlers.clone();
            async move { handlers.run_handler(message.import_id).await }
        });
    supervisor.run_worker(&context, worker.run()).await
}

impl Receiver {
    /// Whether the last notifier was dropped and all its messages were taken.
    fn is_drained(&self) -> bool {
        let receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.is_closed() && receiver.is_empty()
    }
}
