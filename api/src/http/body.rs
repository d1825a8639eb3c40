//! Reads bodies within their limits, and no faster than there is room for them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use domain::limits::{ANONYMOUS_DRAIN_BYTES_MAX, BODY_BYTES_MAX};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::ApiError;

/// A body that makes no progress for so long is given up.
pub(crate) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// A whole body, and the room that it takes.
pub(crate) async fn read(
    room: &Arc<Semaphore>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let size = announced.unwrap_or(BODY_BYTES_MAX);
    if size > BODY_BYTES_MAX {
        return Err(ApiError::PayloadTooLarge { max: BODY_BYTES_MAX as u64 });
    }
    let kib = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
    let permit = Arc::clone(room).try_acquire_many_owned(kib).map_err(|_| ApiError::Unavailable)?;
    let bytes = collect(body, BODY_BYTES_MAX).await?;
    Ok((bytes, permit))
}

/// Reads a little of a body that is refused, so that the refusal gets through to its sender.
pub(crate) async fn drain(body: Body) {
    let _read = timeout(Duration::from_secs(1), collect(body, ANONYMOUS_DRAIN_BYTES_MAX)).await;
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
