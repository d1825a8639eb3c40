//! What apalis leaves lying about in Redis, swept up: done notifications, dead workers, and entries that
//! end every worker which meets them.

use std::convert::Infallible;
use std::time::Duration;

use ::redis::aio::ConnectionManager;
use ::redis::{AsyncCommands, RedisResult};
use apalis_core::backend::Vacuum;
use apalis_core::worker::context::WorkerContext;
use apalis_redis::{Config, RedisStorage};
use tokio::time::Interval;

use super::super::{Message, QUEUE_NAME, QueueError};
use super::in_time;

/// How often done notifications are removed.
pub(super) const CLEAN_UP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long a done notification is kept.
const DONE_KEPT: Duration = Duration::from_secs(60 * 60);
/// The time that Redis has to forget a worker.
const DEREGISTER_TIME_MAX: Duration = Duration::from_secs(1);
/// The time that Redis has to empty the queue.
const EMPTY_TIME_MAX: Duration = Duration::from_secs(10);
/// Keys looked at in one step of emptying.
const SCAN_STEP: usize = 1_000;

/// Removes done notifications, hour by hour. The clock is the caller's, so that it outlives a worker.
pub(super) async fn clean_up_hourly(
    mut storage: RedisStorage<Option<Message>>,
    hourly: &mut Interval,
) -> Infallible {
    loop {
        hourly.tick().await;
        match clean_up(&mut storage).await {
            Ok(notifications) => tracing::debug!(notifications, "done notifications removed"),
            Err(error) => tracing::debug!(%error, "done notifications not removed"),
        }
    }
}

/// The sets name notifications that are done or dead; apalis only ever adds to them.
async fn clean_up(storage: &mut RedisStorage<Option<Message>>) -> Result<usize, apalis_redis::Error> {
    let notifications = storage.vacuum_before(DONE_KEPT).await?;
    let sets = [storage.get_config().done_jobs_set(), storage.get_config().dead_jobs_set()];
    let _: u64 = storage.get_connection().unlink(&sets).await?;
    Ok(notifications)
}

/// Forgets a worker and what it had in hand.
///
/// Else its notifications would be given to another worker after 30 s, and an entry that ended this one
/// would end that one too, for ever. A notification that is lost so is notified again by the sweeper.
pub(super) async fn deregister(
    connection: &ConnectionManager,
    config: &Config,
    worker: &WorkerContext,
) -> Result<(), QueueError> {
    in_time(DEREGISTER_TIME_MAX, async {
        let mut connection = connection.clone();
        let in_hand = config.inflight_set_for(worker);
        let ids: Vec<Vec<u8>> = connection.smembers(&in_hand).await?;
        let mut forget = ::redis::pipe();
        for id in ids {
            let mut meta = format!("{}:", config.job_meta_hash()).into_bytes();
            meta.extend_from_slice(&id);
            forget.hdel(config.job_data_hash(), id).unlink(meta);
        }
        forget
            .unlink(in_hand)
            .unlink(config.worker_metadata_key(worker))
            .zrem(config.workers_set(), worker.name())
            .exec_async(&mut connection)
            .await
    })
    .await
}

/// Removes every key of the queue, whatever its type; the other workers start anew.
pub(super) async fn empty(connection: &ConnectionManager) -> Result<u64, QueueError> {
    in_time(EMPTY_TIME_MAX, async {
        let mut connection = connection.clone();
        let mut removed = 0;
        let mut cursor = 0;
        loop {
            let (next, keys) = scan(&mut connection, cursor).await?;
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

async fn scan(connection: &mut ConnectionManager, cursor: u64) -> RedisResult<(u64, Vec<Vec<u8>>)> {
    ::redis::cmd("SCAN")
        .arg(cursor)
        .arg("MATCH")
        .arg(format!("{QUEUE_NAME}:*"))
        .arg("COUNT")
        .arg(SCAN_STEP)
        .query_async(connection)
        .await
}
