//! The queue that carries the notifications of runnable imports to the processes that run imports.
//!
//! This module defines the message and runs the queue workers that take messages out. It must not know what a
//! handler does. A message is only a hint: a queue may lose, duplicate or forge it, and may be emptied at any
//! time, because the row of the import decides and the sweeper notifies again.

use std::error::Error;
use std::fmt::{self, Debug};

use apalis_core::error::WorkerError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::feeds::FeedBroadcast;
use crate::notifier::QueueNotifier;

pub(crate) mod memory;
pub(crate) mod redis;
mod supervisor;
#[cfg(test)]
mod tests;

use supervisor::Supervisor;

/// The prefix of all Redis keys of the queue. The braces are a hash tag, which keeps the keys in one slot of
/// a Redis Cluster. `rings` is an older word for notifications; the name stays, because programs of the
/// version before use the same queue.
pub const QUEUE_NAME: &str = "idem:{rings}";

/// The only message of the import queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The id of the import that may be runnable. Different users may have imports with the same id.
    pub import_id: Uuid,
}

/// Why the import queue cannot be used, or why one of its workers ended.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The URL is not one of a Redis, or it needs TLS, which is not built in.
    #[error(
        "the address of the queue is not a Redis URL, or it needs TLS (rediss://), which is not built in"
    )]
    Url(#[source] ::redis::RedisError),
    /// Redis cannot be reached, or a command failed.
    #[error("Redis cannot be reached, or refused a command")]
    Redis(#[source] ::redis::RedisError),
    /// Redis did not reply to a command in time.
    #[error("Redis did not reply in time")]
    Silent,
    /// A queue worker ended with an error.
    #[error("the queue worker ended with an error")]
    Worker(#[source] WorkerError),
    /// A queue worker ended without an error, although it was not stopped.
    #[error("the queue worker ended without an error")]
    Ended,
}

impl QueueError {
    /// The source of this error, for the log. The text of the error does not include it.
    fn cause_for_log(&self) -> Option<tracing::field::DisplayValue<&(dyn Error + 'static)>> {
        self.source().map(tracing::field::display)
    }
}

/// Where the import queue is.
#[derive(Clone, PartialEq, Eq)]
pub enum Queue {
    /// In the memory of this process. Its messages are lost when the process ends.
    Memory,
    /// In Redis, for several processes.
    Redis {
        /// The URL, `redis://…`. It may contain a password, so `Debug` does not print it.
        url: String,
    },
}

impl Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "Memory",
            Self::Redis { .. } => "Redis",
        })
    }
}

impl Queue {
    /// Returns the sending end and the receiving end of the import queue. It does not connect yet, so a
    /// process can start while Redis is down.
    ///
    /// Must be called within a tokio runtime, because it starts the task of the notifier. A process that runs
    /// no imports drops the consumer.
    ///
    /// # Errors
    /// [`QueueError::Url`] if the URL is not one of a Redis.
    pub fn open_notifier_and_consumer(&self) -> Result<(QueueNotifier, Consumer), QueueError> {
        match self {
            Self::Memory => Ok(open_memory_queue()),
            Self::Redis { url } => open_redis_queue(url),
        }
    }
}

/// Returns the sending end and the receiving end of a queue in the memory of this process. Must be called
/// within a tokio runtime, because it starts the task of the notifier.
#[must_use]
pub fn open_memory_queue() -> (QueueNotifier, Consumer) {
    let (sender, receiver) = memory::new_channel();
    (QueueNotifier::for_memory_queue(sender), Consumer(Source::Memory(receiver)))
}

/// Returns the sending end and the receiving end of the queue in the Redis at `url`, without connecting yet.
/// Must be called within a tokio runtime, because it starts the tasks that send.
///
/// # Errors
/// [`QueueError::Url`] if `url` is not the URL of a Redis.
pub fn open_redis_queue(url: &str) -> Result<(QueueNotifier, Consumer), QueueError> {
    let client = ::redis::Client::open(url).map_err(QueueError::Url)?;
    let sender = redis::RedisSender::new(client.clone());
    Ok((
        QueueNotifier::for_redis_queue(sender, FeedBroadcast::new_for_redis(client.clone())),
        Consumer(Source::Redis(Box::new(client))),
    ))
}

/// The receiving end of the import queue.
#[derive(Debug)]
pub struct Consumer(Source);

#[derive(Debug)]
enum Source {
    Memory(memory::Receiver),
    Redis(Box<::redis::Client>),
}

impl Consumer {
    /// Calls `handler` with the import id of each message, until `shutdown` is cancelled. At most
    /// `concurrency` handlers run at the same time.
    ///
    /// It never fails. A queue worker that ends is replaced, and the handlers that it started go on. If a
    /// handler panics, that is logged and the message counts as handled. It returns after the last handler
    /// has returned. Handlers are not dropped at the shutdown: they must watch the same token.
    pub async fn run_handlers<F, Fut>(self, concurrency: usize, shutdown: CancellationToken, handler: F)
    where
        F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let supervisor = Supervisor::new(concurrency, shutdown, handler);
        match self.0 {
            Source::Memory(receiver) => memory::keep_queue_worker_running(&receiver, &supervisor).await,
            Source::Redis(client) => redis::keep_queue_worker_running(&client, &supervisor).await,
        }
        supervisor.wait_for_handlers().await;
    }
}
