//! The bytes of a stored payload for a thread that blocks: a task fetches them and hands them on.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Payloads;
use crate::error::Error;
use crate::rules::import::ImportRow;
use crate::rules::payload_objects::PayloadObjects;

/// Pieces that are fetched ahead.
const PIECES_AHEAD: usize = 4;

/// Why the bytes of a payload could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// For now: the same read may succeed later.
    #[error("the payload cannot be fetched")]
    Unavailable,
    /// A part of it is no longer there.
    #[error("the payload is no longer there")]
    Gone,
    /// A part of it is not what was received.
    #[error("the payload is not what was received")]
    Changed,
    /// Only a part of it was sent, to be looked at, and this is beyond.
    #[error("only a part of the payload was sent")]
    NotSent,
}

impl From<SourceError> for io::Error {
    /// Wraps the error for `io::Read`; callers find it again with `io::Error::get_ref`.
    fn from(error: SourceError) -> Self {
        Self::other(error)
    }
}

/// The payload of an import.
#[derive(Clone)]
pub struct StoredPayload {
    payloads: Payloads,
    user_id: Uuid,
    import_id: Uuid,
    names: PayloadObjects,
    size: u64,
    runtime: Handle,
    is_wanted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for StoredPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredPayload").field("import_id", &self.import_id).finish_non_exhaustive()
    }
}

impl StoredPayload {
    /// The payload of an import; within a runtime. Once `is_wanted` says no, nothing more is fetched.
    #[must_use]
    pub fn new(
        payloads: &Payloads,
        row: &ImportRow,
        is_wanted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            payloads: payloads.clone(),
            user_id: row.user_id,
            import_id: row.id,
            names: row.payload_objects.clone(),
            size: u64::try_from(row.bytes_total).unwrap_or_default(),
            runtime: Handle::current(),
            is_wanted: Arc::new(is_wanted),
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads from an offset in bytes to the end. Reads block, and fail with a [`SourceError`].
    #[must_use]
    pub fn open(&self, offset: u64) -> Box<dyn BufRead + Send> {
        let mut stream = self.payloads.read(self.user_id, self.import_id, &self.names, offset, self.size);
        let (pieces_in, pieces) = mpsc::channel(PIECES_AHEAD);
        self.runtime.spawn(async move {
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| match error {
                    Error::Payload(object_store::Error::NotFound { .. }) => SourceError::Gone,
                    Error::PayloadChanged => SourceError::Changed,
                    _ => SourceError::Unavailable,
                });
                // What follows an error may be of the next object: it would not be where it is taken to be.
                let is_last = piece.is_err();
                if pieces_in.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        let (left, is_wanted) = (self.size.saturating_sub(offset), Arc::clone(&self.is_wanted));
        Box::new(Pieces { pieces, current: Bytes::new(), left, is_wanted })
    }
}

/// The bytes of a payload as they come out of a channel.
struct Pieces {
    pieces: mpsc::Receiver<Result<Bytes, SourceError>>,
    current: Bytes,
    left: u64,
    is_wanted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            if !(self.is_wanted)() {
                return Err(SourceError::Unavailable.into());
            }
            match self.pieces.blocking_recv() {
                // A stream that ends early is no end of the payload.
                None if self.left > 0 => return Err(SourceError::Unavailable.into()),
                None => break,
                Some(piece) => self.current = piece?,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, bytes: usize) {
        self.current.advance(bytes);
        self.left = self.left.saturating_sub(bytes as u64);
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
