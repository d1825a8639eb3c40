//! Carries word of feeds that moved to whoever reads them, in this process and in others.
//!
//! Word is a hint: lost, doubled or forged, it costs a look at the database. Redis's publish and subscribe
//! forgets what nobody hears, which is just what is needed.

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

/// The channel of word between processes.
const CHANNEL: &str = "idem:feeds";
/// Feeds that moved and were not told of yet; beyond it word is lost.
const WORDS_IN_HAND_MAX: usize = 4_096;
/// Word of so many feeds goes out at once.
const WORDS_AT_ONCE_MAX: usize = 256;
/// The time that publishing may take.
const PUBLISH_TIME_MAX: Duration = Duration::from_millis(250);
/// Silence behind which the connection of the listener is tried.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Pause before the listener connects again.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The word of one process.
#[derive(Debug, Clone)]
pub(crate) struct Feeds {
    here: broadcast::Sender<Uuid>,
    elsewhere: Option<Elsewhere>,
}

/// The way to other processes.
#[derive(Debug, Clone)]
struct Elsewhere {
    words: mpsc::Sender<Uuid>,
    client: Client,
    /// Tells our own word from that of others.
    process: Uuid,
    is_listening: Arc<AtomicBool>,
}

impl Feeds {
    /// Within this process only.
    pub(crate) fn here() -> Self {
        Self { here: broadcast::channel(WORDS_IN_HAND_MAX).0, elsewhere: None }
    }

    /// Through a Redis as well. Must be called within a tokio runtime.
    pub(crate) fn everywhere(client: Client) -> Self {
        let (words, waiting) = mpsc::channel(WORDS_IN_HAND_MAX);
        let process = Clock::System.new_id();
        tokio::spawn(publish(client.clone(), process, waiting));
        let elsewhere = Elsewhere { words, client, process, is_listening: Arc::default() };
        Self { elsewhere: Some(elsewhere), ..Self::here() }
    }

    /// The feed of this user has moved.
    pub(crate) fn moved(&self, user_id: Uuid) {
        // Nobody may be listening here.
        let _heard = self.here.send(user_id);
        if let Some(elsewhere) = &self.elsewhere
            && elsewhere.words.try_send(user_id).is_err()
        {
            metrics::counter!("idem_notifications_lost_total").increment(1);
        }
    }

    /// The users whose feeds move from now on. Must be called within a tokio runtime.
    pub(crate) fn listen(&self) -> BoxStream<'static, Uuid> {
        if let Some(elsewhere) = &self.elsewhere
            && !elsewhere.is_listening.swap(true, Ordering::SeqCst)
        {
            tokio::spawn(hear(elsewhere.client.clone(), elsewhere.process, self.here.clone()));
        }
        let heard = self.here.subscribe();
        futures::stream::unfold(heard, |mut heard| async move {
            loop {
                match heard.recv().await {
                    Ok(user_id) => return Some((user_id, heard)),
                    // Too slow: what was missed is seen at the reader's next look.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .fuse()
        .boxed()
    }
}

/// Publishes word, each feed once however often it moved meanwhile. Ends with the last notifier.
async fn publish(client: Client, process: Uuid, mut waiting: mpsc::Receiver<Uuid>) {
    let settings = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(PUBLISH_TIME_MAX))
        .set_response_timeout(Some(PUBLISH_TIME_MAX));
    let Ok(mut connection) = client.get_connection_manager_lazy(settings) else {
        return;
    };
    let mut words = Vec::with_capacity(WORDS_AT_ONCE_MAX);
    while waiting.recv_many(&mut words, WORDS_AT_ONCE_MAX).await > 0 {
        let moved: HashSet<Uuid> = words.drain(..).collect();
        let sent = tokio::time::timeout(PUBLISH_TIME_MAX, send(&mut connection, process, &moved)).await;
        if !matches!(sent, Ok(Ok(()))) {
            metrics::counter!("idem_notifications_lost_total").increment(moved.len() as u64);
        }
    }
}

async fn send(
    connection: &mut ConnectionManager,
    process: Uuid,
    moved: &HashSet<Uuid>,
) -> Result<(), RedisError> {
    let mut pipe = redis::pipe();
    for user_id in moved {
        let word = [process.as_bytes().as_slice(), user_id.as_bytes()].concat();
        pipe.publish(CHANNEL, word).ignore();
    }
    pipe.query_async(connection).await
}

/// Passes on the word of other processes, for ever.
async fn hear(client: Client, process: Uuid, here: broadcast::Sender<Uuid>) {
    loop {
        if let Err(error) = hear_once(&client, process, &here).await {
            tracing::debug!(%error, "nothing is heard of other processes for a moment");
        }
        tokio::time::sleep(CONNECT_AGAIN_AFTER).await;
    }
}

/// The life of one connection; a half-open one is found by asking when it was silent for long.
async fn hear_once(client: &Client, process: Uuid, here: &broadcast::Sender<Uuid>) -> Result<(), RedisError> {
    let (mut asks, mut words) = client.get_async_pubsub().await?.split();
    asks.subscribe(CHANNEL).await?;
    loop {
        match tokio::time::timeout(SILENCE_MAX, words.next()).await {
            Ok(Some(word)) => {
                if let Some(user_id) = foreign(word.get_payload_bytes(), process) {
                    let _heard = here.send(user_id);
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => {
                if !is_alive(&mut asks, &mut words).await {
                    return Ok(());
                }
            }
        }
    }
}

/// Asks, and reads on meanwhile: the answer comes through the same connection.
async fn is_alive<S: Stream + Unpin>(asks: &mut redis::aio::PubSubSink, words: &mut S) -> bool {
    let answer = async {
        tokio::select! {
            answer = asks.ping::<redis::Value>() => answer.is_ok(),
            word = words.next() => word.is_some(),
        }
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap_or(false)
}

/// The user that another process tells of; anything else is no word of ours.
fn foreign(bytes: &[u8], process: Uuid) -> Option<Uuid> {
    let (from, user_id) = bytes.split_at_checked(16)?;
    if from == process.as_bytes() {
        return None;
    }
    Uuid::from_slice(user_id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_word_of_other_processes_is_heard() {
        let (own, other, user) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let word = |from: Uuid| [from.as_bytes().as_slice(), user.as_bytes()].concat();
        assert_eq!(foreign(&word(other), own), Some(user));
        assert_eq!(foreign(&word(own), own), None);
        for garbage in [b"".as_slice(), b"rubbish", &[7; 31], &[7; 33]] {
            assert_eq!(foreign(garbage, own), None);
        }
    }
}
