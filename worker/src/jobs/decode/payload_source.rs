//! The bytes of a payload for a thread that blocks: a task fetches them and hands them on.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use domain::error::Error;
use domain::payload::Payloads;
use domain::rules::import::ImportRow;
use domain::rules::payload_objects::PayloadObjects;
use formats::{Source, SourceError};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Chunks;

/// Pieces that are fetched ahead.
const PIECES_AHEAD: usize = 4;

/// The payload of an import.
#[derive(Debug)]
pub(super) struct PayloadSource {
    payloads: Payloads,
    user_id: Uuid,
    import_id: Uuid,
    names: PayloadObjects,
    size: u64,
    runtime: Handle,
    /// Where the records go: once nobody takes them, nothing more is fetched.
    chunks: Chunks,
}

impl PayloadSource {
    /// The payload of an import; within a runtime.
    pub(super) fn new(payloads: Payloads, row: &ImportRow, chunks: Chunks) -> Self {
        Self {
            payloads,
            user_id: row.user_id,
            import_id: row.id,
            names: row.payload_objects.clone(),
            size: u64::try_from(row.bytes_total).unwrap_or_default(),
            runtime: Handle::current(),
            chunks,
        }
    }
}

impl Source for PayloadSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let mut stream = self.payloads.read(self.user_id, self.import_id, &self.names, offset, self.size);
        let (pieces_in, pieces) = mpsc::channel(PIECES_AHEAD);
        self.runtime.spawn(async move {
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| match error {
                    Error::Payload(object_store::Error::NotFound { .. }) => SourceError::Gone,
                    Error::PayloadChanged => SourceError::Changed,
                    _ => SourceError::Unavailable,
                });
                if pieces_in.send(piece).await.is_err() {
                    return;
                }
            }
        });
        let (left, chunks) = (self.size.saturating_sub(offset), self.chunks.clone());
        Ok(Box::new(Pieces { pieces, current: Bytes::new(), left, chunks }))
    }
}

/// The bytes of a payload as they come out of a channel.
struct Pieces {
    pieces: mpsc::Receiver<Result<Bytes, SourceError>>,
    current: Bytes,
    left: u64,
    chunks: Chunks,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            if self.chunks.is_closed() {
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
