//! The bytes of a stored payload for a thread that blocks: a task fetches them and hands them on.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use domain::import::ImportRow;
use domain::payload_objects::PayloadObjects;
use formats::{Source, SourceError};
use store::error::Error;
use store::payload::Payloads;

/// PayloadReader that are fetched ahead.
const BLOCKS_AHEAD: usize = 4;

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
}

impl Source for StoredPayload {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let mut stream = self.payloads.read(self.user_id, self.import_id, &self.names, offset, self.size);
        let (pieces_in, blocks) = mpsc::channel(BLOCKS_AHEAD);
        self.runtime.spawn(async move {
            while let Some(block) = stream.next().await {
                let block = block.map_err(|error| match error {
                    Error::Payload(object_store::Error::NotFound { .. }) => SourceError::Gone,
                    Error::PayloadChanged => SourceError::Changed,
                    _ => SourceError::Unavailable,
                });
                // What follows an error may be of the next object: it would not be where it is taken to be.
                let is_last = block.is_err();
                if pieces_in.send(block).await.is_err() || is_last {
                    return;
                }
            }
        });
        let (left, is_wanted) = (self.size.saturating_sub(offset), Arc::clone(&self.is_wanted));
        Ok(Box::new(PayloadReader { blocks, current: Bytes::new(), left, is_wanted }))
    }
}

/// The bytes of a payload as they come out of a channel.
struct PayloadReader {
    blocks: mpsc::Receiver<Result<Bytes, SourceError>>,
    current: Bytes,
    left: u64,
    is_wanted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl BufRead for PayloadReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            if !(self.is_wanted)() {
                return Err(SourceError::Unavailable.into());
            }
            match self.blocks.blocking_recv() {
                // A stream that ends early is no end of the payload.
                None if self.left > 0 => return Err(SourceError::Unavailable.into()),
                None => break,
                Some(block) => self.current = block?,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, bytes: usize) {
        self.current.advance(bytes);
        self.left = self.left.saturating_sub(bytes as u64);
    }
}

impl Read for PayloadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
