//! Reads request bodies within the limits of size, time and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use domain::limits::{BODY_BYTES_A_SECOND_MIN, BODY_BYTES_MAX, UNAUTHENTICATED_DRAIN_BYTES_MAX};
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::encoding::Encoding;
use crate::error::ApiError;

/// How long to wait for the next bytes of a request body before reading ends.
pub(crate) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// The time in which a whole body must arrive. Each [`BODY_BYTES_A_SECOND_MIN`] bytes that have arrived
/// extend it by one second.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);

const KIB: usize = 1024;

/// How long the rest of a request body is read and discarded at most.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a whole body into memory and decodes it. Returns it with the permit for the memory that it occupies.
///
/// `memory` has one permit for each KiB. Memory is taken as the bytes arrive. A size that is only announced
/// in `Content-Length` takes none.
///
/// # Errors
/// - [`ApiError::PayloadTooLarge`] if the body is larger than [`BODY_BYTES_MAX`], encoded or decoded, or is
///   compressed more than [`Encoding::decoded_bytes_max`] allows.
/// - [`ApiError::Unavailable`] if there is too little memory for it at the moment.
/// - [`ApiError::BadUserInput`] if it arrives too slowly, ends early or is not encoded as announced.
/// - [`ApiError::Internal`] if the decoder panics.
pub(crate) async fn read_and_decode_body(
    memory: &Arc<Semaphore>,
    headers: &HeaderMap,
    encoding: Encoding,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let size = announced.unwrap_or(0);
    if size > BODY_BYTES_MAX {
        drain_body(body, 4 * BODY_BYTES_MAX).await;
        return Err(ApiError::PayloadTooLarge { max: BODY_BYTES_MAX as u64 });
    }
    if memory.available_permits() < size / KIB {
        return Err(ApiError::Unavailable);
    }
    let (encoded, mut permit) = collect_body(memory, body, WHOLE_TIMEOUT).await?;
    if encoding == Encoding::Identity {
        return Ok((encoded, permit));
    }
    // Memory is taken for the largest possible result, and the unused part is released after the decoding.
    let size = encoded.len();
    extend_memory_permit(memory, &mut permit, size + encoding.decoded_bytes_max(size))?;
    let bytes = encoding.decode_body(encoded).await?;
    let unused = permit.num_permits().saturating_sub(bytes.len() / KIB + 1);
    drop(permit.split(unused));
    Ok((bytes, permit))
}

/// Reads and discards at most [`UNAUTHENTICATED_DRAIN_BYTES_MAX`] bytes of the body of a refused request, so
/// that its sender receives the response.
pub(crate) async fn drain_start_of_refused_body(body: Body) {
    drain_body(body, UNAUTHENTICATED_DRAIN_BYTES_MAX).await;
}

/// Reads and discards at most `bytes_max` bytes of a refused body, for at most [`DRAIN_TIMEOUT`].
pub(crate) async fn drain_body(body: Body, bytes_max: usize) {
    discard_stream(body.into_data_stream(), bytes_max).await;
}

/// Reads and discards the rest of a stream, because a sender that is still writing would not read the
/// response. Stops after `bytes_max` bytes or [`DRAIN_TIMEOUT`].
pub(crate) async fn discard_stream<E>(
    mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
    bytes_max: usize,
) {
    let mut left = bytes_max;
    let read = async {
        while let Some(Ok(bytes)) = stream.next().await {
            let Some(rest) = left.checked_sub(bytes.len()) else { return };
            left = rest;
        }
    };
    let _is_best_effort = timeout(DRAIN_TIMEOUT, read).await;
}

/// Takes more of `memory`, so that the permit covers `bytes` in total. Does not wait for memory.
///
/// # Errors
/// [`ApiError::Unavailable`] if there is too little memory.
fn extend_memory_permit(
    memory: &Arc<Semaphore>,
    permit: &mut OwnedSemaphorePermit,
    bytes: usize,
) -> Result<(), ApiError> {
    let more = (bytes / KIB + 1).saturating_sub(permit.num_permits());
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    permit.merge(Arc::clone(memory).try_acquire_many_owned(more).map_err(|_| ApiError::Unavailable)?);
    Ok(())
}

/// Reads a whole body into memory, without decoding it. One that is longer than [`BODY_BYTES_MAX`] is an
/// error. `whole` is the time in which it must arrive, to which its bytes add more.
async fn collect_body(
    memory: &Arc<Semaphore>,
    body: Body,
    whole: Duration,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let started_at = Instant::now();
    let mut stream = body.into_data_stream();
    let mut all = BytesMut::new();
    let mut permit = Arc::clone(memory).try_acquire_owned().map_err(|_| ApiError::Unavailable)?;
    loop {
        let earned = Duration::from_secs((all.len() / BODY_BYTES_A_SECOND_MIN) as u64);
        let deadline = (started_at + whole + earned).min(Instant::now() + PROGRESS_TIMEOUT);
        let next = timeout_at(deadline, stream.next()).await;
        match next.map_err(|_| ApiError::BadUserInput("the body arrived too slowly".to_owned()))? {
            None => return Ok((all.freeze(), permit)),
            Some(Ok(bytes)) if all.len() + bytes.len() > BODY_BYTES_MAX => {
                return Err(ApiError::PayloadTooLarge { max: BODY_BYTES_MAX as u64 });
            }
            Some(Ok(bytes)) => {
                extend_memory_permit(memory, &mut permit, all.len() + bytes.len())?;
                all.extend_from_slice(&bytes);
            }
            Some(Err(_)) => {
                return Err(ApiError::BadUserInput("the body ended before its announced end".to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A body of `pieces` pieces of `bytes` bytes, one every 20 ms.
    fn drip(pieces: usize, bytes: usize) -> Body {
        Body::from_stream(stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (sent < pieces).then(|| (Ok::<_, std::io::Error>(vec![b' '; bytes]), sent + 1))
        }))
    }

    #[tokio::test]
    async fn a_body_that_never_pauses_and_never_ends_is_refused() {
        let memory = Arc::new(Semaphore::new(64));
        let error = collect_body(&memory, drip(usize::MAX, 1), Duration::from_millis(200)).await;
        assert_eq!(error.expect_err("the body is refused").code(), "BAD_USER_INPUT");
        assert_eq!(memory.available_permits(), 64);
    }

    #[tokio::test]
    async fn a_slow_body_gets_more_time_as_its_bytes_arrive() {
        let memory = Arc::new(Semaphore::new(4_096));
        let read = collect_body(&memory, drip(20, 64 * KIB), Duration::from_millis(100)).await;
        assert_eq!(read.expect("the body arrives in time").0.len(), 20 * 64 * KIB);
    }

    #[tokio::test]
    async fn memory_is_taken_for_the_bytes_that_have_arrived_and_no_more() {
        let memory = Arc::new(Semaphore::new(64));
        let read = collect_body(&memory, Body::from(vec![0; 10 * KIB]), MINUTE).await;
        let (bytes, permit) = read.expect("there is enough memory");
        assert_eq!((bytes.len(), permit.num_permits()), (10 * KIB, 11));
        let error = collect_body(&memory, Body::from(vec![0; 60 * KIB]), MINUTE)
            .await
            .expect_err("there is too little memory");
        assert_eq!(error, ApiError::Unavailable);
        drop(permit);
        assert_eq!(memory.available_permits(), 64);
    }
}
