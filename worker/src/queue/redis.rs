//! The queue in Redis: how a notification gets in, and the supervised workers that take it out.
//!
//! Redis is trusted with nothing. It may be down, stall, forget everything, or hold entries that
//! nobody of us wrote; none of that may end a process, block a notification, or wedge the queue.

use std::task::{Context, Poll};
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, ErrorKind, RedisResult};
use apalis::layers::WorkerBuilderExt;
use apalis_core::backend::codec::Codec;
use apalis_core::backend::ext::BackendExt;
use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy};
use apalis_core::task::builder::TaskBuilder;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_redis::{Config, RedisStorage};
use domain::limits::NOTIFICATIONS_MAX;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use uuid::Uuid;

use super::supervisor::{Supervisor, first_pause, worker_name};
use super::{Message, QUEUE_NAME, QueueError};

mod cleanup;

/// How often an idle worker looks: nothing else wakes it in time.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// How often a worker shows that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// Heartbeats missed until its notifications are given to others.
const HEARTBEATS_MISSED_MAX: usize = 3;
/// By default a stall of half a second ends a worker.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(12);
/// The time that a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Bytes of a notification: an object with one id is half of it.
const RING_BYTES_MAX: usize = 128;
/// Behind a life of this length the next worker starts soon.
const LIFE_FAIR: Duration = Duration::from_secs(5);
/// A worker that lived for so long, heartbeats and all, was not ended by what is in the queue.
const LIFE_LONG: Duration = Duration::from_secs(30);
/// Workers ended in a row by a Redis that answers, until what is in the queue is to blame.
const SHORT_LIVES_MAX: u32 = 3;

/// The names of the keys, and how the workers behave.
fn config() -> Config {
    Config::default()
        .queue(QUEUE_NAME)
        .batch_size(1)
        .heartbeat_interval(HEARTBEAT_EVERY)
        .missed_heartbeats(HEARTBEATS_MISSED_MAX)
        .emit_events(false)
}

/// The way into the queue, for one sender task.
#[derive(Debug)]
pub(crate) struct RedisSender {
    client: Client,
    config: Config,
    connection: Option<ConnectionManager>,
}

impl RedisSender {
    pub(super) fn new(client: Client) -> Self {
        Self { client, config: config(), connection: None }
    }

    /// Puts one notification in; `false` when too many wait. Takes as long as Redis does.
    pub(crate) async fn push(&mut self, import_id: Uuid) -> Result<bool, apalis_redis::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.client.get_connection_manager_lazy(manager())?),
        };
        // A pushed notification is scheduled for now, and gets into the list with a worker's next look.
        let (listed, scheduled): (u64, u64) = ::redis::pipe()
            .llen(self.config.active_jobs_list())
            .zcard(self.config.scheduled_jobs_set())
            .query_async(connection)
            .await?;
        if listed.saturating_add(scheduled) >= NOTIFICATIONS_MAX {
            return Ok(false);
        }
        let notification = serde_json::to_vec(&Message { import_id }).map_err(apalis_redis::Error::Json)?;
        let task = TaskBuilder::new(notification).build();
        apalis_redis::queries::push_tasks(connection, &self.config, &[task]).await?;
        Ok(true)
    }

    /// Drops a connection that does not answer; the next notification makes another.
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
    }
}

/// One attempt a time: whoever uses it tries again by itself.
fn manager() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(CONNECT_TIME_MAX))
        .set_response_timeout(Some(RESPONSE_TIME_MAX))
}

/// Reads notifications; whatever else it finds is none, and no error: an error would end the worker.
#[derive(Debug, Clone, Copy)]
struct StrictMessage;

impl Codec<Option<Message>> for StrictMessage {
    type Error = serde_json::Error;
    type Compact = Vec<u8>;

    fn encode(&self, notification: &Option<Message>) -> Result<Vec<u8>, Self::Error> {
        serde_json::to_vec(notification)
    }

    fn decode(&self, bytes: &Vec<u8>) -> Result<Option<Message>, Self::Error> {
        if bytes.len() > RING_BYTES_MAX {
            return Ok(None);
        }
        Ok(serde_json::from_slice(bytes).ok())
    }
}

/// Makes an idle worker look at the queue every [`POLL_EVERY`].
///
/// apalis's own interval does not arm its next tick when one is due as a fetch returns: behind a
/// stall of more than one interval, the worker would sleep until its heartbeat.
#[derive(Debug)]
struct Look(Interval);

impl Look {
    fn new() -> Self {
        let mut every = tokio::time::interval(POLL_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(every)
    }
}

impl PollStrategy for Look {
    fn poll_drive(&mut self, context: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut due = Poll::Pending;
        while self.0.poll_tick(context).is_ready() {
            due = Poll::Ready(Some(()));
        }
        due
    }
}

/// Runs workers until the supervisor's token is cancelled.
pub(super) async fn serve<F, Fut>(client: &Client, supervisor: &Supervisor<F>)
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut hourly = tokio::time::interval(cleanup::CLEAN_UP_EVERY);
    hourly.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = first_pause();
    let mut short_lives = 0;
    loop {
        let born = Instant::now();
        let work = work(client, supervisor, &mut hourly, short_lives >= SHORT_LIVES_MAX);
        let Err(Death { error, by_content }) = work.await else { return };
        if supervisor.shutdown.is_cancelled() {
            return;
        }
        if born.elapsed() >= LIFE_FAIR {
            pause = first_pause();
        }
        let short = by_content && born.elapsed() < LIFE_LONG;
        short_lives = if short { short_lives % SHORT_LIVES_MAX + 1 } else { 0 };
        if pause == first_pause() {
            tracing::warn!(%error, cause = error.cause(), "a worker ended and is replaced");
        } else {
            tracing::debug!(%error, cause = error.cause(), "a worker ended again and is replaced");
        }
        if !supervisor.rest(&mut pause).await {
            return;
        }
    }
}

/// How a worker ended: `by_content` when Redis answered right behind it.
struct Death {
    error: QueueError,
    by_content: bool,
}

impl From<QueueError> for Death {
    fn from(error: QueueError) -> Self {
        Self { error, by_content: false }
    }
}

/// The life of one worker, from its connection to what it leaves behind.
async fn work<F, Fut>(
    client: &Client,
    supervisor: &Supervisor<F>,
    hourly: &mut Interval,
    empty_first: bool,
) -> Result<(), Death>
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let connect = supervisor.shutdown.run_until_cancelled(connect(client)).await;
    let Some(connection) = connect else { return Ok(()) };
    let connection = connection?;
    let config = config();
    if empty_first {
        let keys = cleanup::empty(&connection).await?;
        tracing::warn!(keys, "the queue ended each worker and was emptied");
    }
    let context = WorkerContext::new(&worker_name());
    let storage = RedisStorage::<Option<Message>>::new(connection.clone()).with_config(config.clone());
    let swept = storage.clone();
    let handling = supervisor.clone();
    let worker = WorkerBuilder::new(&context)
        .backend(storage.with_codec(StrictMessage).poll_with_strategy(Look::new()))
        .concurrency(supervisor.concurrency)
        .build(move |notification: Option<Message>| {
            let handling = handling.clone();
            async move {
                match notification {
                    Some(notification) => handling.take(notification.import_id).await,
                    None => tracing::debug!("what is no notification was dropped from the queue"),
                }
            }
        });
    let end = tokio::select! {
        end = supervisor.watch(&context, worker.run()) => end,
        never = cleanup::clean_up_hourly(swept, hourly) => match never {},
    };
    let buried = cleanup::deregister(&connection, &config, &context).await;
    end.map_err(|error| Death { error, by_content: has_answered(&buried) })
}

/// Whether Redis is there, if only to refuse.
fn has_answered(result: &Result<(), QueueError>) -> bool {
    match result {
        Ok(()) => true,
        Err(QueueError::Redis(error)) => {
            matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
        }
        Err(_) => false,
    }
}

async fn connect(client: &Client) -> Result<ConnectionManager, QueueError> {
    client.get_connection_manager_with_config(manager()).await.map_err(QueueError::Redis)
}

/// Asks within a time that a shutdown can wait.
async fn in_time<T>(time_max: Duration, ask: impl Future<Output = RedisResult<T>>) -> Result<T, QueueError> {
    let answer = tokio::time::timeout(time_max, ask).await;
    answer.map_err(|_| QueueError::Silent)?.map_err(QueueError::Redis)
}
