//! The chunks of an import in their order. While one is applied the next are on their way, and as long as nothing
//! is new they are decided meanwhile, so that neither the database nor this process waits for the other.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::commands::apply_chunk::{Applied, Chunk, Import, decide_ahead};
use domain::error::Error;
use domain::rules::import::ImportRow;
use domain::store::Store;
use domain::store::import_job::Held;
use futures::stream::{self, BoxStream, Peekable, StreamExt};
use tokio::sync::mpsc::Receiver;

use super::decode::Fault;

/// Chunks that are decided at the same time.
const AHEAD: usize = 2;

/// Why no more chunks come.
#[derive(Debug)]
pub(super) enum Stop {
    /// The payload.
    Fault(Fault),
    /// The database.
    Failed(Error),
}

/// A chunk, or why there is none.
type Next = Result<Chunk, Stop>;

/// Chunks on their way.
pub(super) struct Ahead {
    chunks: Peekable<BoxStream<'static, Next>>,
    /// Nobody has died of what comes: whoever does must be found where the checkpoint is.
    is_trusted: bool,
    /// Whether chunks are decided before their turn: in vain where something is new.
    is_decided: Arc<AtomicBool>,
}

impl Ahead {
    /// Chunks of a held import, as they are read.
    pub(super) fn new(store: &Store, row: &ImportRow, mut read: Receiver<Result<Chunk, Fault>>) -> Self {
        let is_trusted = row.is_trusted();
        let is_decided = Arc::new(AtomicBool::new(is_trusted && row.dry_run));
        let (store, flag) = (store.clone(), Arc::clone(&is_decided));
        let import = Import { held: Held::from(row), dry_run: row.dry_run, rejections: 0 };
        let read = stream::poll_fn(move |context| read.poll_recv(context));
        let chunks = read.map(move |chunk| {
            let (store, is_decided) = (store.clone(), flag.load(Ordering::Relaxed));
            async move {
                let mut chunk = chunk.map_err(Stop::Fault)?;
                if is_decided {
                    decide_ahead(&store, import, &mut chunk).await.map_err(Stop::Failed)?;
                }
                Ok(chunk)
            }
        });
        Self { chunks: chunks.buffered(AHEAD).boxed().peekable(), is_trusted, is_decided }
    }

    /// The next chunk.
    pub(super) async fn next(&mut self) -> Option<Next> {
        self.chunks.next().await
    }

    /// Applies a chunk, and gets the next one meanwhile. What brings nothing new is followed by its like.
    pub(super) async fn beside(
        &mut self,
        apply: impl Future<Output = Result<Applied, Error>>,
    ) -> Result<Applied, Error> {
        let mut apply = pin!(apply);
        let next = Pin::new(&mut self.chunks).peek();
        let applied = tokio::select! {
            biased;
            applied = &mut apply => applied,
            _ = next => apply.await,
        }?;
        self.is_decided.store(self.is_trusted && !applied.moved, Ordering::Relaxed);
        Ok(applied)
    }
}
