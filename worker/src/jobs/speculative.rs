//! Yields the chunks of an import in order, some of them decided speculatively.
//!
//! The chunks of a file are alike: usually all records are new, or none is. While one chunk is stored, the next
//! ones are decided on the assumption that they are like the last one. Neither the database nor this process
//! waits for the other (decisions 0055 and 0077).

use std::collections::VecDeque;
use std::sync::Arc;

use domain::import::ImportRow;
use service::Store;
use service::apply_chunk::{Applied, Assumption, Chunk, SpeculativeDecision, decide_chunk_speculatively};
use tokio::sync::mpsc::Receiver;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::decode::DecodeError;

/// How many chunks of an import may be decided before the chunks before them are stored.
const SPECULATIVE_CHUNKS_MAX: usize = 2;

/// What is to be applied next.
pub(super) struct NextChunk {
    /// The last chunk that the decision includes.
    pub(super) chunk: Arc<Chunk>,
    /// The decision, if it was made speculatively. Otherwise the chunk must be decided under the lock.
    pub(super) decision: Option<SpeculativeDecision>,
}

/// The decoded chunks of an import, in order. Some of them are decided ahead, before the chunks before them
/// are stored.
pub(super) struct SpeculativeChunks {
    store: Store,
    user_id: Uuid,
    import_id: Uuid,
    dry_run: bool,
    decoded: Receiver<Result<Chunk, DecodeError>>,
    started: VecDeque<Result<StartedChunk, DecodeError>>,
    /// False after a crash at these records. A worker that crashes while it decides a record
    /// must do so at the checkpoint, or the wrong record would be rejected as poison.
    allows_speculation: bool,
    /// Whether chunks that have nothing to store may be combined.
    may_combine: bool,
    /// What is assumed of the next chunks. `None` while they are not decided speculatively.
    assumption: Option<Assumption>,
}

/// A chunk that was received, and the task that decides it speculatively.
struct StartedChunk {
    chunk: Arc<Chunk>,
    decision: Option<AbortOnDropHandle<Option<SpeculativeDecision>>>,
}

impl StartedChunk {
    fn is_decided(&self) -> bool {
        self.decision.as_ref().is_some_and(|task| task.is_finished())
    }
}

impl SpeculativeChunks {
    /// Makes the sequence of the chunks of `row`, an import whose lease the caller holds. A dry run decides
    /// chunks ahead from the beginning, because its chunks never have anything to store. With `may_combine`,
    /// chunks that have nothing to store may be combined.
    pub(super) fn new(
        store: &Store,
        row: &ImportRow,
        decoded: Receiver<Result<Chunk, DecodeError>>,
        may_combine: bool,
    ) -> Self {
        let allows_speculation = row.can_decide_without_lock();
        Self {
            store: store.clone(),
            user_id: row.user_id,
            import_id: row.id,
            dry_run: row.dry_run,
            decoded,
            started: VecDeque::new(),
            allows_speculation,
            may_combine,
            assumption: (allows_speculation && row.dry_run).then_some(Assumption::AllKnown),
        }
    }

    /// Waits for the next chunk. If it has nothing to store, the following chunks that are decided already and
    /// have nothing to store either may be combined with it, so that one transaction stores their counts. `None`
    /// if the decoder has ended.
    ///
    /// # Errors
    /// The error of the decoder.
    pub(super) async fn next_chunk(&mut self) -> Option<Result<NextChunk, DecodeError>> {
        let next = match self.started.pop_front() {
            Some(started) => started,
            None => {
                let decoded = self.decoded.recv().await?;
                self.start_chunk_decision(decoded)
            }
        };
        self.start_decisions_of_decoded_chunks();
        let StartedChunk { chunk, decision } = match next {
            Ok(started) => started,
            Err(error) => return Some(Err(error)),
        };
        // If a speculative decision failed, the chunk is decided again under the lock.
        let decision = match decision {
            Some(decision) => decision.await.ok().flatten(),
            None => None,
        };
        let mut next = NextChunk { chunk, decision };
        self.append_decided_chunks(&mut next).await;
        // More chunks may have been decoded in the meantime.
        self.start_decisions_of_decoded_chunks();
        Some(Ok(next))
    }

    /// Adds the chunks after `next` that are decided already and have nothing to store. Does not wait.
    async fn append_decided_chunks(&mut self, next: &mut NextChunk) {
        let Some(SpeculativeDecision::NothingToStore(decision)) =
            next.decision.as_mut().filter(|_| self.may_combine)
        else {
            return;
        };
        while let Some(started) =
            self.started.pop_front_if(|started| started.as_ref().is_ok_and(StartedChunk::is_decided))
        {
            let Ok(StartedChunk { chunk, decision: Some(task) }) = started else { return };
            match task.await {
                Ok(Some(SpeculativeDecision::NothingToStore(of_chunk))) => {
                    decision.append(of_chunk);
                    next.chunk = chunk;
                }
                // It has something to store, or its decision failed. The next call returns it.
                Ok(_) | Err(_) => {
                    self.started.push_front(Ok(StartedChunk { chunk, decision: None }));
                    return;
                }
            }
        }
    }

    /// Starts to decide the chunks that are decoded, as many as may be decided ahead. Does not wait.
    fn start_decisions_of_decoded_chunks(&mut self) {
        while self.assumption.is_some()
            && self.started.len() < SPECULATIVE_CHUNKS_MAX
            && let Ok(decoded) = self.decoded.try_recv()
        {
            let started = self.start_chunk_decision(decoded);
            self.started.push_back(started);
        }
    }

    /// Must be called after each chunk was applied. Assumes that the next chunks are like this one. Takes the
    /// known types out of `applied`.
    pub(super) fn adjust_assumption_after_chunk(&mut self, applied: &mut Applied) {
        if !self.allows_speculation {
            return;
        }
        match (applied.has_changes, applied.known_types.take()) {
            (false, _) => self.assumption = Some(Assumption::AllKnown),
            (true, Some(types)) => {
                let types = match &self.assumption {
                    Some(Assumption::AllNew(older)) => types.with_older(older),
                    Some(Assumption::AllKnown) | None => types,
                };
                self.assumption = Some(Assumption::AllNew(Arc::new(types)));
            }
            // It was stored as it was assumed, so there are no newer types.
            (true, None) => {}
        }
    }

    fn start_chunk_decision(&self, decoded: Result<Chunk, DecodeError>) -> Result<StartedChunk, DecodeError> {
        let chunk = Arc::new(decoded?);
        let assumption = self.assumption.clone().filter(|_| !chunk.records.is_empty());
        let decision = assumption.map(|assumption| {
            let (store, chunk) = (self.store.clone(), Arc::clone(&chunk));
            let (user_id, import_id, dry_run) = (self.user_id, self.import_id, self.dry_run);
            AbortOnDropHandle::new(tokio::spawn(async move {
                let decision =
                    decide_chunk_speculatively(&store, user_id, import_id, dry_run, &assumption, &chunk)
                        .await;
                decision.unwrap_or_else(|error| {
                    tracing::debug!(%error, "a chunk could not be decided speculatively");
                    None
                })
            }))
        });
        Ok(StartedChunk { chunk, decision })
    }
}
