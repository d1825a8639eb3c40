//! The queue that carries notifications from whoever changed an import to whoever runs imports.
//!
//! Owns what a notification looks like, and the workers that take notifications out of it; it must not know what
//! a handler does. A notification is a hint: a queue may lose, double or forge it, and may be emptied at
//! any time, because the row decides and the sweeper notifies again.

use std::error::Error;
use std::fmt::{self, Debug};

use apalis_core::error::WorkerError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::feeds::Feeds;
use crate::notifier::QueueNotifier;

pub(crate) mod memory;
pub(crate) mod redis;
mod supervisor;
#[cfg(test)]
mod tests;

use supervisor::Supervisor;

/// Where the notifications wait. The braces keep its keys on one node of a Redis Cluster.
pub const QUEUE_NAME: &str = "idem:{rings}";

/// The one message of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The import that may be runnable.
    pub import_id: Uuid,
}

/// Why a queue cannot be used, or why one of its workers ended.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The address is not one of a Redis, or asks for something that is not built in (TLS).
    #[error("the address of the queue is not a Redis URL")]
    Url(#[source] ::redis::RedisError),
    /// No connection, or a command that failed.
    #[error("the queue refused, or cannot be reached")]
    Redis(#[source] ::redis::RedisError),
    /// A command was not answered in time.
    #[error("the queue did not answer in time")]
    Silent,
    /// A worker gave up.
    #[error("the worker ended")]
    Worker(#[source] WorkerError),
    /// A worker ended without saying why.
    #[error("the worker ended without an error")]
    Ended,
}

impl QueueError {
    /// What is below, for the log: the text of the error itself leaves it out.
    fn cause(&self) -> Option<tracing::field::DisplayValue<&(dyn Error + 'static)>> {
        self.source().map(tracing::field::display)
    }
}

/// Which queue to use.
#[derive(Clone, PartialEq, Eq)]
pub enum Queue {
    /// Inside this process; gone with it.
    Memory,
    /// In a Redis, for many processes.
    Redis {
        /// Its address, `redis://…`; it may hold a password, so that it is never printed.
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
    /// Both ends of the queue. Connects to nothing yet: a queue that is down stops nobody.
    ///
    /// Must be called within a tokio runtime, where the notifier's task goes. A process that runs no
    /// imports drops the consumer.
    ///
    /// # Errors
    /// [`QueueError::Url`] when the address cannot be one.
    pub fn open(&self) -> Result<(QueueNotifier, Consumer), QueueError> {
        match self {
            Self::Memory => Ok(memory()),
            Self::Redis { url } => redis(url),
        }
    }
}

/// Both ends of a queue inside this process; see [`Queue::open`].
#[must_use]
pub fn memory() -> (QueueNotifier, Consumer) {
    let (sender, receiver) = memory::channel();
    (QueueNotifier::memory(sender), Consumer(Source::Memory(receiver)))
}

/// Both ends of the queue in the Redis at `url`; see [`Queue::open`].
///
/// # Errors
/// [`QueueError::Url`] when the address cannot be one.
pub fn redis(url: &str) -> Result<(QueueNotifier, Consumer), QueueError> {
    let client = ::redis::Client::open(url).map_err(QueueError::Url)?;
    let sender = redis::RedisSender::new(client.clone());
    Ok((
        QueueNotifier::redis(sender, Feeds::everywhere(client.clone())),
        Consumer(Source::Redis(Box::new(client))),
    ))
}

/// The end of the queue where notifications come out.
#[derive(Debug)]
pub struct Consumer(Source);

#[derive(Debug)]
enum Source {
    Memory(memory::Receiver),
    Redis(Box<::redis::Client>),
}

impl Consumer {
    /// Hands each notification to `handler`, at most `concurrency` at once, until `shutdown`.
    ///
    /// Never fails: a worker that ends is replaced, and the handlers that it ran go on. A handler
    /// that panics is logged, and the notification counts as handled. Returns when the last handler has
    /// returned; a handler is told of the end by the same token, not by being dropped.
    pub async fn run<F, Fut>(self, concurrency: usize, shutdown: CancellationToken, handler: F)
    where
        F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let supervisor = Supervisor::new(concurrency, shutdown, handler);
        match self.0 {
            Source::Memory(receiver) => memory::serve(&receiver, &supervisor).await,
            Source::Redis(client) => redis::serve(&client, &supervisor).await,
        }
        supervisor.finish().await;
    }
}
