//! Delivers the notifications of feeds that moved to the feed readers of this process and of others.
//!
//! A notification is only a hint. If it is lost, duplicated or forged, that costs a look at the database. So
//! Redis's publish and subscribe is enough: it drops a message that has no subscriber.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError};
use service::Clock;
use tokio::sync::{broadcast, mpsc};
use uuid::Uuid;

/// The Redis channel by which processes notify each other of feeds that moved.
const CHANNEL: &str = "idem:feeds";
/// How many notifications of feeds may wait to be delivered. More are lost.
const PENDING_MAX: usize = 4_096;
/// How many notifications are published in one round trip.
const PUBLISHED_AT_ONCE_MAX: usize = 256;
/// How long it may take to publish the notifications of one round trip.
const PUBLISH_TIME_MAX: Duration = Duration::from_millis(250);
/// If the subscription in Redis is silent for this long, its connection is checked.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long the check may take.
const PING_TIME_MAX: Duration = Duration::from_secs(5);
/// The pause before the subscription is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Notifies feed readers of feeds that moved. Clones share one channel.
#[derive(Debug, Clone)]
pub(crate) struct FeedBroadcast {
    local: broadcast::Sender<Uuid>,
    remote: Option<RemoteFeeds>,
}

/// The connection with other processes, through Redis.
#[derive(Debug, Clone)]
struct RemoteFeeds {
    to_publish: mpsc::Sender<Uuid>,
    client: Client,
    /// A random id of this process, by which it ignores its own messages.
    process_id: Uuid,
    is_subscribed: Arc<AtomicBool>,
}

impl FeedBroadcast {
    /// Makes a broadcast that notifies the readers of this process only.
    pub(crate) fn new_for_this_process() -> Self {
        Self { local: broadcast::channel(PENDING_MAX).0, remote: None }
    }

    /// Makes a broadcast that notifies the readers of all processes that use this Redis, and starts the task
    /// that publishes. Must be called within a tokio runtime.
    pub(crate) fn new_for_redis(client: Client) -> Self {
        let (to_publish, pending) = mpsc::channel(PENDING_MAX);
        let process_id = Clock::System.new_id();
        tokio::spawn(publish_pending_notifications(client.clone(), process_id, pending));
        let remote = RemoteFeeds { to_publish, client, process_id, is_subscribed: Arc::default() };
        Self { remote: Some(remote), ..Self::new_for_this_process() }
    }

    /// Notifies readers that the feed of this user has moved. Never waits.
    pub(crate) fn notify_readers(&self, user_id: Uuid) {
        // Fails if this process has no reader.
        let _receivers = self.local.send(user_id);
        if let Some(remote) = &self.remote
            && remote.to_publish.try_send(user_id).is_err()
        {
            metrics::counter!("idem_notifications_lost_total").increment(1);
        }
    }

    /// Returns a stream of the ids of users whose feeds move from now on. With Redis, the first call also
    /// subscribes to other processes. Must be called within a tokio runtime.
    pub(crate) fn subscribe_to_moved_feeds(&self) -> BoxStream<'static, Uuid> {
        if let Some(remote) = &self.remote
            && !remote.is_subscribed.swap(true, Ordering::SeqCst)
        {
            tokio::spawn(relay_moved_feeds_of_other_processes(
                remote.client.clone(),
                remote.process_id,
                self.local.clone(),
            ));
        }
        let receiver = self.local.subscribe();
        futures::stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(user_id) => return Some((user_id, receiver)),
                    // The receiver was too slow. Each reader finds what it missed when it polls its feed
                    // again.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .fuse()
        .boxed()
    }
}

/// Publishes notifications to other processes until the last notifier is dropped. A feed that moved several
/// times while they waited is published once.
async fn publish_pending_notifications(client: Client, process_id: Uuid, mut pending: mpsc::Receiver<Uuid>) {
    let settings = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(PUBLISH_TIME_MAX))
        .set_response_timeout(Some(PUBLISH_TIME_MAX));
    let Ok(mut connection) = client.get_connection_manager_lazy(settings) else {
        return;
    };
    let mut users = Vec::with_capacity(PUBLISHED_AT_ONCE_MAX);
    while pending.recv_many(&mut users, PUBLISHED_AT_ONCE_MAX).await > 0 {
        let moved: HashSet<Uuid> = users.drain(..).collect();
        let sent = tokio::time::timeout(
            PUBLISH_TIME_MAX,
            publish_feed_notifications(&mut connection, process_id, &moved),
        )
        .await;
        if !matches!(sent, Ok(Ok(()))) {
            metrics::counter!("idem_notifications_lost_total").increment(moved.len() as u64);
        }
    }
}

/// Publishes one message in Redis for each user: the id of this process, and the id of the user.
async fn publish_feed_notifications(
    connection: &mut ConnectionManager,
    process_id: Uuid,
    moved: &HashSet<Uuid>,
) -> Result<(), RedisError> {
    let mut pipe = redis::pipe();
    for user_id in moved {
        let message = [process_id.as_bytes().as_slice(), user_id.as_bytes()].concat();
        pipe.publish(CHANNEL, message).ignore();
    }
    pipe.query_async(connection).await
}

/// Sends to `local` the ids of users whose feeds moved in other processes, as Redis publishes them. Never
/// ends: it subscribes again whenever the connection ends.
async fn relay_moved_feeds_of_other_processes(
    client: Client,
    process_id: Uuid,
    local: broadcast::Sender<Uuid>,
) {
    loop {
        if let Err(error) = relay_notifications_until_closed(&client, process_id, &local).await {
            tracing::debug!(%error, "cannot subscribe in Redis to the feeds of other processes; it is tried again");
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Subscribes in Redis over one connection, and sends to `local` what other processes publish, until the
/// connection ends. After a long silence it checks the connection, which finds a half-open one.
async fn relay_notifications_until_closed(
    client: &Client,
    process_id: Uuid,
    local: &broadcast::Sender<Uuid>,
) -> Result<(), RedisError> {
    let (mut sink, mut messages) = client.get_async_pubsub().await?.split();
    sink.subscribe(CHANNEL).await?;
    loop {
        match tokio::time::timeout(SILENCE_MAX, messages.next()).await {
            Ok(Some(message)) => {
                if let Some(user_id) = parse_remote_user_id(message.get_payload_bytes(), process_id) {
                    let _receivers = local.send(user_id);
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => {
                if !is_connection_alive(&mut sink, &mut messages).await {
                    return Ok(());
                }
            }
        }
    }
}

/// Pings the connection, and returns whether a reply or a message came in time. Messages must be read while
/// the ping waits, because the reply comes through the same stream. A message that is read here is dropped:
/// its reader polls its feed anyway.
async fn is_connection_alive<S: Stream + Unpin>(sink: &mut redis::aio::PubSubSink, messages: &mut S) -> bool {
    let reply = async {
        tokio::select! {
            reply = sink.ping::<redis::Value>() => reply.is_ok(),
            message = messages.next() => message.is_some(),
        }
    };
    tokio::time::timeout(PING_TIME_MAX, reply).await.unwrap_or(false)
}

/// The id of the user in a message of another process. `None` for a message of this process, and for anything
/// malformed.
fn parse_remote_user_id(message: &[u8], process_id: Uuid) -> Option<Uuid> {
    let (sender, user_id) = message.split_at_checked(16)?;
    if sender == process_id.as_bytes() {
        return None;
    }
    Uuid::from_slice(user_id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_other_processes_are_delivered() {
        let (own, other, user) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let message = |from: Uuid| [from.as_bytes().as_slice(), user.as_bytes()].concat();
        assert_eq!(parse_remote_user_id(&message(other), own), Some(user));
        assert_eq!(parse_remote_user_id(&message(own), own), None);
        for garbage in [b"".as_slice(), b"rubbish", &[7; 31], &[7; 33]] {
            assert_eq!(parse_remote_user_id(garbage, own), None);
        }
    }
}
