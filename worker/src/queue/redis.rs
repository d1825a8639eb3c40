//! The queue in Redis: puts messages in, and runs the supervised queue workers that take them out.
//!
//! Redis is not trusted. It may be down, stall, lose all data, or contain entries that this program did not
//! write. None of that may end a process, block a notification, or stop the queue for good.

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

use super::supervisor::{Supervisor, first_restart_pause, new_worker_name};
use super::{Message, QUEUE_NAME, QueueError};

mod cleanup;

/// How often an idle worker polls the queue. Nothing else wakes it in time.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// How often a worker sends a heartbeat.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// After this many missed heartbeats the messages of a worker are given to other workers.
const HEARTBEATS_MISSED_MAX: usize = 3;
/// How long Redis may take to reply to a command. With the default of half a second, a short stall would end
/// a worker.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(12);
/// How long it may take to connect to Redis.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// The largest message, in bytes; a longer entry of the queue is no message. An object with one id is half as
/// long.
const MESSAGE_BYTES_MAX: usize = 128;
/// After a worker that ran for this long, the next one starts after the shortest pause.
const STABLE_RUN_MIN: Duration = Duration::from_secs(5);
/// A worker that ran for this long, with its heartbeats, was not ended by an entry of the queue.
const HEALTHY_RUN_MIN: Duration = Duration::from_secs(30);
/// After this many short runs in a row, while Redis replies, an entry of the queue is considered the cause.
/// Then the queue is emptied.
const SHORT_RUNS_MAX: u32 = 3;

/// The settings of apalis for the queue in Redis: the names of the keys, and the heartbeats.
fn apalis_config() -> Config {
    Config::default()
        .queue(QUEUE_NAME)
        .batch_size(1)
        .heartbeat_interval(HEARTBEAT_EVERY)
        .missed_heartbeats(HEARTBEATS_MISSED_MAX)
        .emit_events(false)
}

/// The sending end of the queue in Redis, for the task of the notifier.
#[derive(Debug)]
pub(crate) struct RedisSender {
    client: Client,
    config: Config,
    connection: Option<ConnectionManager>,
}

impl RedisSender {
    pub(super) fn new(client: Client) -> Self {
        Self { client, config: apalis_config(), connection: None }
    }

    /// Puts the message for one import into the queue, and connects to Redis first if necessary. Returns
    /// `false` if the queue is full.
    ///
    /// It waits for Redis without a limit of its own, so the caller must limit the time.
    ///
    /// # Errors
    /// An error of apalis if Redis cannot be reached or refuses a command.
    pub(crate) async fn push_message(&mut self, import_id: Uuid) -> Result<bool, apalis_redis::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            not_connected => {
                not_connected.insert(self.client.get_connection_manager_lazy(connection_settings())?)
            }
        };
        // apalis schedules a pushed message for now, and a worker moves it into the list when it polls. So
        // both count.
        let (listed, scheduled): (u64, u64) = ::redis::pipe()
            .llen(self.config.active_jobs_list())
            .zcard(self.config.scheduled_jobs_set())
            .query_async(connection)
            .await?;
        if listed.saturating_add(scheduled) >= NOTIFICATIONS_MAX {
            return Ok(false);
        }
        let message = serde_json::to_vec(&Message { import_id }).map_err(apalis_redis::Error::Json)?;
        let task = TaskBuilder::new(message).build();
        apalis_redis::queries::push_tasks(connection, &self.config, &[task]).await?;
        Ok(true)
    }

    /// Drops the connection, for example because Redis does not reply. The next message opens another one.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
    }
}

/// The settings of a connection to Redis. It retries only once, because the callers try again themselves.
fn connection_settings() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(CONNECT_TIME_MAX))
        .set_response_timeout(Some(RESPONSE_TIME_MAX))
}

/// Decodes the entries of the queue. Anything that is not a message becomes `None`, because an error would
/// end the worker.
#[derive(Debug, Clone, Copy)]
struct TolerantCodec;

impl Codec<Option<Message>> for TolerantCodec {
    type Error = serde_json::Error;
    type Compact = Vec<u8>;

    fn encode(&self, message: &Option<Message>) -> Result<Vec<u8>, Self::Error> {
        serde_json::to_vec(message)
    }

    fn decode(&self, bytes: &Vec<u8>) -> Result<Option<Message>, Self::Error> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Ok(None);
        }
        Ok(serde_json::from_slice(bytes).ok())
    }
}

/// Makes an idle worker poll the queue every [`POLL_EVERY`].
///
/// apalis's own interval does not arm its next tick if a tick is due when a fetch returns. After a stall of
/// more than one interval, the worker would sleep until its heartbeat.
#[derive(Debug)]
struct SteadyPolling(Interval);

impl SteadyPolling {
    fn new() -> Self {
        let mut interval = tokio::time::interval(POLL_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(interval)
    }
}

impl PollStrategy for SteadyPolling {
    fn poll_drive(&mut self, context: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut due = Poll::Pending;
        while self.0.poll_tick(context).is_ready() {
            due = Poll::Ready(Some(()));
        }
        due
    }
}

/// Keeps a queue worker running until the shutdown: replaces each one that ends, after a pause. If workers
/// keep ending soon although Redis replies, it empties the queue.
pub(super) async fn keep_queue_worker_running<F, Fut>(client: &Client, supervisor: &Supervisor<F>)
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut hourly = tokio::time::interval(cleanup::CLEAN_UP_EVERY);
    hourly.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = first_restart_pause();
    let mut short_runs = 0;
    loop {
        let started = Instant::now();
        let run = run_worker(client, supervisor, &mut hourly, short_runs >= SHORT_RUNS_MAX);
        let Err(WorkerFailure { error, redis_replies }) = run.await else { return };
        if supervisor.shutdown.is_cancelled() {
            return;
        }
        if started.elapsed() >= STABLE_RUN_MIN {
            pause = first_restart_pause();
        }
        let is_short = redis_replies && started.elapsed() < HEALTHY_RUN_MIN;
        short_runs = if is_short { short_runs % SHORT_RUNS_MAX + 1 } else { 0 };
        if pause == first_restart_pause() {
            tracing::warn!(
                %error,
                cause = error.cause_for_log(),
                "the consumer of the import queue in Redis ended; another one starts after a pause"
            );
        } else {
            tracing::debug!(
                %error,
                cause = error.cause_for_log(),
                "the consumer of the import queue in Redis ended again; another one starts after a pause"
            );
        }
        if !supervisor.pause_before_restart(&mut pause).await {
            return;
        }
    }
}

/// Why a queue worker ended.
struct WorkerFailure {
    error: QueueError,
    /// Whether Redis replied right after the worker had ended. Then an entry of the queue may have ended it.
    redis_replies: bool,
}

impl From<QueueError> for WorkerFailure {
    fn from(error: QueueError) -> Self {
        Self { error, redis_replies: false }
    }
}

/// Connects to Redis, runs one queue worker until it ends, and deregisters it. With `empty_first` it empties
/// the queue before. Returns `Ok` only at the shutdown.
async fn run_worker<F, Fut>(
    client: &Client,
    supervisor: &Supervisor<F>,
    hourly: &mut Interval,
    empty_first: bool,
) -> Result<(), WorkerFailure>
where
    F: Fn(Uuid) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let connect = supervisor.shutdown.run_until_cancelled(connect_to_redis(client)).await;
    let Some(connection) = connect else { return Ok(()) };
    let connection = connection?;
    let config = apalis_config();
    if empty_first {
        let removed_keys = cleanup::remove_all_queue_keys(&connection).await?;
        tracing::warn!(
            removed_keys,
            "consumers of the import queue kept ending, so it was emptied; the sweeper notifies again"
        );
    }
    let context = WorkerContext::new(&new_worker_name());
    let storage = RedisStorage::<Option<Message>>::new(connection.clone()).with_config(config.clone());
    let storage_to_clean = storage.clone();
    let handlers = supervisor.clone();
    let worker = WorkerBuilder::new(&context)
        .backend(storage.with_codec(TolerantCodec).poll_with_strategy(SteadyPolling::new()))
        .concurrency(supervisor.concurrency)
        .build(move |message: Option<Message>| {
            let handlers = handlers.clone();
            async move {
                match message {
                    Some(message) => handlers.run_handler(message.import_id).await,
                    None => tracing::debug!(
                        "an entry of the import queue in Redis is not a message and was dropped"
                    ),
                }
            }
        });
    let end = tokio::select! {
        end = supervisor.run_worker(&context, worker.run()) => end,
        never = cleanup::remove_done_messages_hourly(storage_to_clean, hourly) => match never {},
    };
    let deregistered = cleanup::remove_worker_and_its_messages(&connection, &config, &context).await;
    end.map_err(|error| WorkerFailure { error, redis_replies: has_redis_replied(&deregistered) })
}

/// Whether Redis replied to a command, even if it refused it.
fn has_redis_replied(result: &Result<(), QueueError>) -> bool {
    match result {
        Ok(()) => true,
        Err(QueueError::Redis(error)) => {
            matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
        }
        Err(_) => false,
    }
}

async fn connect_to_redis(client: &Client) -> Result<ConnectionManager, QueueError> {
    client.get_connection_manager_with_config(connection_settings()).await.map_err(QueueError::Redis)
}

/// Runs commands of Redis with a time limit, so that they cannot hold up a shutdown.
///
/// # Errors
/// [`QueueError::Silent`] if they take longer than `time_max`, [`QueueError::Redis`] if a command fails.
async fn run_with_time_limit<T>(
    time_max: Duration,
    commands: impl Future<Output = RedisResult<T>>,
) -> Result<T, QueueError> {
    let reply = tokio::time::timeout(time_max, commands).await;
    reply.map_err(|_| QueueError::Silent)?.map_err(QueueError::Redis)
}
