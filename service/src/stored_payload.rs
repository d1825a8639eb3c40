//! Reads a stored payload from a blocking thread. A task fetches the bytes and sends them through a bounded
//! channel.

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

/// How many blocks of a payload may be fetched before the reader needs them.
const BLOCKS_AHEAD: usize = 4;

/// The payload of an import in the object store, as a source that `formats` can read.
#[derive(Clone)]
pub struct StoredPayload {
    payloads: Payloads,
    user_id: Uuid,
    import_id: Uuid,
    objects: PayloadObjects,
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
    /// Makes a source of the payload of an import. Once `is_wanted` returns `false`, reads fail with
    /// [`SourceError::Unavailable`].
    ///
    /// Must be called within a tokio runtime, which runs the tasks that fetch.
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
            objects: row.payload_objects.clone(),
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

    fn open_at_offset(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let mut stream =
            self.payloads.stream_payload(self.user_id, self.import_id, &self.objects, offset, self.size);
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        self.runtime.spawn(async move {
            while let Some(block) = stream.next().await {
                let block = block.map_err(|error| match error {
                    Error::Payload(object_store::Error::NotFound { .. }) => SourceError::Gone,
                    Error::PayloadChanged => SourceError::Changed,
                    _ => SourceError::Unavailable,
                });
                // Blocks after an error may belong to the next object, and would be taken for the missing
                // bytes.
                let is_last = block.is_err();
                if sender.send(block).await.is_err() || is_last {
                    return;
                }
            }
        });
        let (remaining, is_wanted) = (self.size.saturating_sub(offset), Arc::clone(&self.is_wanted));
        Ok(Box::new(PayloadReader { blocks, current: Bytes::new(), remaining, is_wanted }))
    }
}

/// Reads the bytes of a payload from the channel. It blocks, so it must not run on a runtime thread.
struct PayloadReader {
    blocks: mpsc::Receiver<Result<Bytes, SourceError>>,
    current: Bytes,
    /// Bytes of the payload that were not consumed yet.
    remaining: u64,
    is_wanted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl BufRead for PayloadReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            if !(self.is_wanted)() {
                return Err(SourceError::Unavailable.into());
            }
            match self.blocks.blocking_recv() {
                // The stream ended early: this is not the end of the payload.
                None if self.remaining > 0 => return Err(SourceError::Unavailable.into()),
                None => break,
                Some(block) => self.current = block?,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, bytes: usize) {
        self.current.advance(bytes);
        self.remaining = self.remaining.saturating_sub(bytes as u64);
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
