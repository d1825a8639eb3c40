//! The chunks of an import in their order. As long as they bring nothing new, the next are decided while one is
//! applied, so that neither the database nor this process waits for the other.

use std::collections::VecDeque;
use std::sync::Arc;

use domain::import::ImportRow;
use service::Store;
use service::apply_chunk::{Chunk, Verdict, decide_speculatively};
use tokio::sync::mpsc::Receiver;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::decode::Fault;

/// Chunks that are decided before their turn, at most.
const SPECULATIVE_CHUNKS_MAX: usize = 2;

/// Chunks on their way.
pub(super) struct SpeculativeChunks {
    store: Store,
    user_id: Uuid,
    import_id: Uuid,
    dry_run: bool,
    read: Receiver<Result<Chunk, Fault>>,
    begun: VecDeque<Result<StartedChunk, Fault>>,
    /// Nobody has died of what comes: whoever does must do so where the checkpoint is.
    allows_speculation: bool,
    /// Whether chunks are decided before their turn: in vain where something is new.
    is_speculating: bool,
}

/// A chunk that may be decided by now.
struct StartedChunk {
    chunk: Arc<Chunk>,
    decided: Option<AbortOnDropHandle<Option<Verdict>>>,
}

impl SpeculativeChunks {
    /// Chunks of a held import, as they are read.
    pub(super) fn new(store: &Store, row: &ImportRow, read: Receiver<Result<Chunk, Fault>>) -> Self {
        let allows_speculation = store.can_speculate() && row.allows_speculation();
        Self {
            store: store.clone(),
            user_id: row.user_id,
            import_id: row.id,
            dry_run: row.dry_run,
            read,
            begun: VecDeque::new(),
            allows_speculation,
            is_speculating: allows_speculation && row.dry_run,
        }
    }

    /// The next chunk, and what becomes of it where that was decided before.
    pub(super) async fn next(&mut self) -> Option<Result<(Arc<Chunk>, Option<Verdict>), Fault>> {
        let next = match self.begun.pop_front() {
            Some(begun) => begun,
            None => {
                let read = self.read.recv().await?;
                self.begin(read)
            }
        };
        self.fill();
        let StartedChunk { chunk, decided } = match next {
            Ok(begun) => begun,
            Err(fault) => return Some(Err(fault)),
        };
        // What has failed before its turn is tried again in its turn.
        let verdict = match decided {
            Some(decided) => decided.await.ok().flatten(),
            None => None,
        };
        // More may have been read meanwhile.
        self.fill();
        Some(Ok((chunk, verdict)))
    }

    /// Begins as many as may be on their way, of those that are read.
    fn fill(&mut self) {
        while self.is_speculating
            && self.begun.len() < SPECULATIVE_CHUNKS_MAX
            && let Ok(read) = self.read.try_recv()
        {
            let begun = self.begin(read);
            self.begun.push_back(begun);
        }
    }

    /// A chunk was applied, and something of it stored or not: what brings nothing new is followed by its like.
    pub(super) fn applied(&mut self, is_new: bool) {
        self.is_speculating = self.allows_speculation && !is_new;
    }

    fn begin(&self, read: Result<Chunk, Fault>) -> Result<StartedChunk, Fault> {
        let chunk = Arc::new(read?);
        let is_speculating = self.is_speculating && !chunk.records.is_empty();
        let decided = is_speculating.then(|| {
            let (store, chunk) = (self.store.clone(), Arc::clone(&chunk));
            let (user_id, import_id, dry_run) = (self.user_id, self.import_id, self.dry_run);
            AbortOnDropHandle::new(tokio::spawn(async move {
                let decided = decide_speculatively(&store, user_id, import_id, dry_run, &chunk).await;
                decided.unwrap_or_else(|error| {
                    tracing::debug!(%error, "a chunk could not be decided before its turn");
                    None
                })
            }))
        });
        Ok(StartedChunk { chunk, decided })
    }
}
