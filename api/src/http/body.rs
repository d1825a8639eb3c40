//! Reads bodies within their limits, and no faster than there is room for them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use domain::limits::{ANONYMOUS_DRAIN_BYTES_MAX, BODY_BYTES_A_SECOND_MIN, BODY_BYTES_MAX};
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::encoding::Encoding;
use crate::error::ApiError;

/// A body that makes no progress for so long is given up.
pub(crate) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// A body is given up behind so long a time and what its bytes have earned.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);

const KIB: usize = 1024;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A whole body, decoded, and the room that it takes. The room is taken as the bytes come: what is only announced
/// takes none.
pub(crate) async fn read(
    room: &Arc<Semaphore>,
    headers: &HeaderMap,
    encoding: Encoding,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let size = announced.unwrap_or(0);
    if size > BODY_BYTES_MAX {
        drain(body, 4 * BODY_BYTES_MAX).await;
        return Err(ApiError::PayloadTooLarge { max: BODY_BYTES_MAX as u64 });
    }
    if room.available_permits() < size / KIB {
        return Err(ApiError::Unavailable);
    }
    let (encoded, mut taken) = collect(room, body, WHOLE_TIMEOUT).await?;
    if encoding == Encoding::Identity {
        return Ok((encoded, taken));
    }
    // Room is taken for the most that it may become, and given back for what it did not.
    let size = encoded.len();
    grow(room, &mut taken, size + encoding.decoded_max(size))?;
    let bytes = encoding.decode(encoded).await?;
    let left = taken.num_permits().saturating_sub(bytes.len() / KIB + 1);
    drop(taken.split(left));
    Ok((bytes, taken))
}

/// Reads a little of the body of somebody unknown, so that the refusal gets through to its sender.
pub(crate) async fn drain_anonymous(body: Body) {
    drain(body, ANONYMOUS_DRAIN_BYTES_MAX).await;
}

/// Reads a body that is refused and keeps nothing of it.
pub(crate) async fn drain(body: Body, bytes_max: usize) {
    pass_over(body.into_data_stream(), bytes_max).await;
}

/// Reads what is left of a stream and keeps nothing of it: a sender that is still writing would not read
/// the answer. Bounded in bytes and in time.
pub(crate) async fn pass_over<E>(mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin, bytes_max: usize) {
    let mut left = bytes_max;
    let read = async {
        while let Some(Ok(bytes)) = stream.next().await {
            let Some(rest) = left.checked_sub(bytes.len()) else { return };
            left = rest;
        }
    };
    let _over = timeout(DRAIN_TIMEOUT, read).await;
}

/// Takes as much more room as bytes have come.
fn grow(room: &Arc<Semaphore>, taken: &mut OwnedSemaphorePermit, bytes: usize) -> Result<(), ApiError> {
    let more = (bytes / KIB + 1).saturating_sub(taken.num_permits());
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    taken.merge(Arc::clone(room).try_acquire_many_owned(more).map_err(|_| ApiError::Unavailable)?);
    Ok(())
}

async fn collect(
    room: &Arc<Semaphore>,
    body: Body,
    whole: Duration,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let began = Instant::now();
    let mut stream = body.into_data_stream();
    let mut all = BytesMut::new();
    let mut taken = Arc::clone(room).try_acquire_owned().map_err(|_| ApiError::Unavailable)?;
    loop {
        let earned = Duration::from_secs((all.len() / BODY_BYTES_A_SECOND_MIN) as u64);
        let latest = (began + whole + earned).min(Instant::now() + PROGRESS_TIMEOUT);
        let next = timeout_at(latest, stream.next()).await;
        match next.map_err(|_| ApiError::BadUserInput("the body came too slowly".to_owned()))? {
            None => return Ok((all.freeze(), taken)),
            Some(Ok(bytes)) if all.len() + bytes.len() > BODY_BYTES_MAX => {
                return Err(ApiError::PayloadTooLarge { max: BODY_BYTES_MAX as u64 });
            }
            Some(Ok(bytes)) => {
                grow(room, &mut taken, all.len() + bytes.len())?;
                all.extend_from_slice(&bytes);
            }
            Some(Err(_)) => return Err(ApiError::BadUserInput("the body broke off".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A body of so many pieces, one every 20 ms.
    fn drip(pieces: usize, bytes: usize) -> Body {
        Body::from_stream(stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (sent < pieces).then(|| (Ok::<_, std::io::Error>(vec![b' '; bytes]), sent + 1))
        }))
    }

    #[tokio::test]
    async fn a_body_that_never_pauses_and_never_ends_is_given_up() {
        let room = Arc::new(Semaphore::new(64));
        let error = collect(&room, drip(usize::MAX, 1), Duration::from_millis(200)).await;
        assert_eq!(error.expect_err("it is given up").code(), "BAD_USER_INPUT");
        assert_eq!(room.available_permits(), 64);
    }

    #[tokio::test]
    async fn a_slow_body_has_the_time_that_its_bytes_earn() {
        let room = Arc::new(Semaphore::new(4_096));
        let read = collect(&room, drip(20, 64 * KIB), Duration::from_millis(100)).await;
        assert_eq!(read.expect("it comes in time").0.len(), 20 * 64 * KIB);
    }

    #[tokio::test]
    async fn room_is_taken_for_what_has_come_and_for_no_more() {
        let room = Arc::new(Semaphore::new(64));
        let read = collect(&room, Body::from(vec![0; 10 * KIB]), MINUTE).await;
        let (bytes, taken) = read.expect("there is room");
        assert_eq!((bytes.len(), taken.num_permits()), (10 * KIB, 11));
        let error = collect(&room, Body::from(vec![0; 60 * KIB]), MINUTE).await.expect_err("there is none");
        assert_eq!(error, ApiError::Unavailable);
        drop(taken);
        assert_eq!(room.available_permits(), 64);
    }
}
