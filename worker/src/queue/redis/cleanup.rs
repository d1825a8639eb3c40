//! Removes what apalis leaves in Redis: messages that are done, workers that have ended, and entries that end
//! every worker that reads them.

use std::convert::Infallible;
use std::time::Duration;

use ::redis::aio::ConnectionManager;
use ::redis::{AsyncCommands, RedisResult};
use apalis_core::backend::Vacuum;
use apalis_core::worker::context::WorkerContext;
use apalis_redis::{Config, RedisStorage};
use tokio::time::Interval;

use super::super::{Message, QUEUE_NAME, QueueError};
use super::run_with_time_limit;

/// How often messages that are done are removed from Redis.
pub(super) const CLEAN_UP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long a message that is done is kept in Redis.
const DONE_TTL: Duration = Duration::from_secs(60 * 60);
/// How long it may take to remove a queue worker from Redis.
const DEREGISTER_TIME_MAX: Duration = Duration::from_secs(1);
/// How long it may take to remove all keys of the queue.
const EMPTY_TIME_MAX: Duration = Duration::from_secs(10);
/// How many keys one SCAN looks at.
const SCAN_STEP: usize = 1_000;

/// Removes messages that are done from Redis, once an hour, and never returns. The interval belongs to the
/// caller, so that it goes on when the worker is replaced.
pub(super) async fn remove_done_messages_hourly(
    mut storage: RedisStorage<Option<Message>>,
    hourly: &mut Interval,
) -> Infallible {
    loop {
        hourly.tick().await;
        match remove_done_messages(&mut storage).await {
            Ok(messages) => tracing::debug!(messages, "removed done messages from the import queue"),
            Err(error) => tracing::debug!(%error, "could not remove done messages from the import queue"),
        }
    }
}

/// Removes from Redis the messages that were done more than an hour ago, and the sets of done and dead
/// messages, to which apalis only adds. Returns the number of messages.
async fn remove_done_messages(
    storage: &mut RedisStorage<Option<Message>>,
) -> Result<usize, apalis_redis::Error> {
    let messages = storage.vacuum_before(DONE_TTL).await?;
    let sets = [storage.get_config().done_jobs_set(), storage.get_config().dead_jobs_set()];
    let _: u64 = storage.get_connection().unlink(&sets).await?;
    Ok(messages)
}

/// Removes a queue worker that has ended from Redis, and the messages that it was working on.
///
/// Otherwise these messages would be given to another worker after 30 s, and an entry that ended this worker
/// would end that one too, again and again. If a valid message is lost by this, the sweeper notifies again.
///
/// # Errors
/// As [`run_with_time_limit`].
pub(super) async fn remove_worker_and_its_messages(
    connection: &ConnectionManager,
    config: &Config,
    worker: &WorkerContext,
) -> Result<(), QueueError> {
    run_with_time_limit(DEREGISTER_TIME_MAX, async {
        let mut connection = connection.clone();
        let in_flight = config.inflight_set_for(worker);
        let ids: Vec<Vec<u8>> = connection.smembers(&in_flight).await?;
        let mut removal = ::redis::pipe();
        for id in ids {
            let mut meta = format!("{}:", config.job_meta_hash()).into_bytes();
            meta.extend_from_slice(&id);
            removal.hdel(config.job_data_hash(), id).unlink(meta);
        }
        removal
            .unlink(in_flight)
            .unlink(config.worker_metadata_key(worker))
            .zrem(config.workers_set(), worker.name())
            .exec_async(&mut connection)
            .await
    })
    .await
}

/// Removes all keys of the queue from Redis, whatever their type, and returns how many. Workers of other
/// processes end and are replaced.
///
/// # Errors
/// As [`run_with_time_limit`].
pub(super) async fn remove_all_queue_keys(connection: &ConnectionManager) -> Result<u64, QueueError> {
    run_with_time_limit(EMPTY_TIME_MAX, async {
        let mut connection = connection.clone();
        let mut removed = 0;
        let mut cursor = 0;
        loop {
            let (next, keys) = scan_keys_from_cursor(&mut connection, cursor).await?;
            if !keys.is_empty() {
                removed += connection.unlink::<_, u64>(keys).await?;
            }
            if next == 0 {
                return Ok(removed);
            }
            cursor = next;
        }
    })
    .await
}

async fn scan_keys_from_cursor(
    connection: &mut ConnectionManager,
    cursor: u64,
) -> RedisResult<(u64, Vec<Vec<u8>>)> {
    ::redis::cmd("SCAN")
        .arg(cursor)
        .arg("MATCH")
        .arg(format!("{QUEUE_NAME}:*"))
        .arg("COUNT")
        .arg(SCAN_STEP)
        .query_async(connection)
        .await
}
