//! The bytes of a payload for a thread that blocks: a task reads them and hands them on.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use domain::error::Error;
use domain::payload::Payloads;
use domain::rules::import::ImportRow;
use domain::rules::payload_objects::PayloadObjects;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

/// A failed fetch, told from the failures of the decoders by its kind.
pub(super) const FETCH_FAILED: io::ErrorKind = io::ErrorKind::ConnectionAborted;
/// An object of the payload has changed.
pub(super) const CHANGED: io::ErrorKind = io::ErrorKind::StaleNetworkFileHandle;
/// An object of the payload is gone.
pub(super) const GONE: io::ErrorKind = io::ErrorKind::NotFound;

/// A piece of a payload, or why it did not come.
type Piece = Result<Bytes, io::ErrorKind>;
type Stream = BoxStream<'static, Result<Bytes, Error>>;

/// One payload, to be read from any place.
#[derive(Debug, Clone)]
pub(super) struct Source {
    payloads: Payloads,
    user_id: Uuid,
    import_id: Uuid,
    names: PayloadObjects,
    size: u64,
    taken: Arc<AtomicU64>,
    runtime: Handle,
}

impl Source {
    /// The payload of an import; within a runtime.
    pub(super) fn new(payloads: Payloads, row: &ImportRow) -> Self {
        Self {
            payloads,
            user_id: row.user_id,
            import_id: row.id,
            names: row.payload_objects.clone(),
            size: u64::try_from(row.bytes_total).unwrap_or_default(),
            taken: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// Bytes of the payload.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Where the last read ended.
    pub(super) fn taken(&self) -> &Arc<AtomicU64> {
        &self.taken
    }

    pub(super) fn stream(&self, offset: u64) -> Stream {
        self.payloads.read(self.user_id, self.import_id, &self.names, offset, self.size)
    }

    /// The bytes from an offset on.
    pub(super) fn open(&self, offset: u64) -> Pieces {
        self.pieces(self.stream(offset), offset)
    }

    /// The bytes of a stream that begins at an offset.
    pub(super) fn pieces(&self, mut stream: Stream, offset: u64) -> Pieces {
        let (pieces_in, pieces) = mpsc::channel(4);
        self.runtime.spawn(async move {
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| match error {
                    Error::Payload(object_store::Error::NotFound { .. }) => GONE,
                    Error::PayloadChanged => CHANGED,
                    _ => FETCH_FAILED,
                });
                if pieces_in.send(piece).await.is_err() {
                    return;
                }
            }
        });
        self.taken.store(offset, Ordering::Relaxed);
        let (size, taken) = (self.size, Arc::clone(&self.taken));
        Pieces { pieces, current: Bytes::new(), position: offset, size, taken }
    }
}

/// The bytes of a payload as they come out of a channel.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    position: u64,
    size: u64,
    taken: Arc<AtomicU64>,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                // A stream that ends early is no end of the payload.
                None if self.position < self.size => return Err(FETCH_FAILED.into()),
                None => break,
                Some(Ok(bytes)) => self.current = bytes,
                Some(Err(kind)) => return Err(kind.into()),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, bytes: usize) {
        self.current.advance(bytes);
        self.position += bytes as u64;
        self.taken.store(self.position, Ordering::Relaxed);
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
