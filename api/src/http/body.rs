//! Reads bodies within their limits, and no faster than there is room for them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use domain::limits::{ANONYMOUS_DRAIN_BYTES_MAX, BODY_BYTES_MAX};
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::ApiError;

/// A body that makes no progress for so long is given up.
pub(crate) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A whole body, and the room that it takes.
pub(crate) async fn read(
    room: &Arc<Semaphore>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let size = announced.unwrap_or(BODY_BYTES_MAX);
    if size > BODY_BYTES_MAX {
        drain(body, 4 * BODY_BYTES_MAX).await;
        return Err(ApiError::PayloadTooLarge { max: BODY_BYTES_MAX as u64 });
    }
    let kib = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
    let permit = Arc::clone(room).try_acquire_many_owned(kib).map_err(|_| ApiError::Unavailable)?;
    let bytes = collect(body, BODY_BYTES_MAX).await?;
    Ok((bytes, permit))
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

async fn collect(body: Body, max: usize) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut all = BytesMut::new();
    loop {
        let next = timeout(PROGRESS_TIMEOUT, stream.next()).await;
        match next.map_err(|_| ApiError::BadUserInput("the body came too slowly".to_owned()))? {
            None => return Ok(all.freeze()),
            Some(Ok(bytes)) if all.len() + bytes.len() > max => {
                return Err(ApiError::PayloadTooLarge { max: max as u64 });
            }
            Some(Ok(bytes)) => all.extend_from_slice(&bytes),
            Some(Err(_)) => return Err(ApiError::BadUserInput("the body broke off".to_owned())),
        }
    }
}
