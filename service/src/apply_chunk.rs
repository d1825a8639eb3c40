//! Stores one chunk of an import in one transaction: its rows, its rejections, its counts and its checkpoint.
//!
//! A chunk can also be decided ahead, while the previous one is still being stored
//! ([`decide_chunk_speculatively`]).

mod speculative;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::sleep;
use uuid::Uuid;

use crate::notifier::{Notification, Notifier};
use crate::write::{Stored, write_in_callers_transaction};
use domain::apply::{self, Answer, Outcome, UnitOfWork, WriteContext};
use domain::draft::NewEvent;
use domain::fault_injection;
use domain::import::{Counts, Rejection};
use domain::limits::{LEASE_TTL_MS, REJECTION_CHARS_MAX, REJECTIONS_KEPT_MAX};
use domain::problem::{Code, FieldProblem, Problem};
use domain::row::EventRow;
pub use speculative::{Assumption, KnownTypes, SpeculativeDecision, decide_chunk_speculatively};
use store::error::Error;
use store::import_job::{Checkpoint, Held};
use store::load::{ReadSet, lock_account_and_load};
use store::{Store, Tx, import_job, import_rejection};

/// One record of a payload, parsed and checked.
#[derive(Debug)]
pub struct Record {
    /// The number of its line, from 1. `None` if the format has no lines.
    pub line: Option<i64>,
    /// The event, or everything that is wrong with the record.
    pub event: Result<NewEvent, Vec<FieldProblem>>,
    /// The beginning of the record. It is stored with the rejection if the record is rejected.
    pub excerpt: String,
}

/// Consecutive records of a payload, and the checkpoint after them.
#[derive(Debug)]
pub struct Chunk {
    /// The records in the order of the payload, at most 500.
    pub records: Vec<Record>,
    /// How many records of the payload are done with this chunk and those before it.
    pub next_record: i64,
    /// The offset in the decoded payload after the last record of this chunk, in bytes.
    pub next_byte: i64,
    /// The number of lines before `next_byte`. 0 if the format has no lines.
    pub next_line: i64,
    /// How many bytes of the payload as sent the decoder has read so far.
    pub bytes_processed: i64,
    /// Whether the payload ends after this chunk. The import is complete with its last chunk.
    pub is_last: bool,
}

/// What was decided for the records of a chunk, or of several consecutive chunks: how many had which outcome,
/// and the rejections to store. It does not have the rows to store.
#[derive(Debug, Default, Clone)]
pub struct ChunkDecision {
    counts: Counts,
    rejections: Vec<Rejection>,
}

impl ChunkDecision {
    /// Adds the decision of the next chunk.
    pub fn append(&mut self, next: Self) {
        self.counts += next.counts;
        self.rejections.extend(next.rejections);
    }
}

/// An import whose lease the caller holds, and what its chunks need to know of it.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// The lease epoch, the state and the checkpoint, which guard each step.
    pub held: Held,
    /// Whether the records are only decided and reported, and no event is stored.
    pub dry_run: bool,
    /// How many records were rejected so far, or differ from the stored event. It bounds how many more
    /// rejections are stored.
    pub rejections: i64,
    /// Whether the records count towards a daily limit of the user.
    pub is_counted: bool,
}

/// The result of a chunk that was applied and committed.
#[derive(Debug)]
pub struct Applied {
    /// The import at its new checkpoint.
    pub held: Held,
    /// How many records had which outcome, in this chunk and those that were combined with it.
    pub counts: Counts,
    /// Whether the chunk changed any event, event type or alias.
    pub has_changes: bool,
    /// The types that its records give by name. `None` if it was decided ahead, was empty, or is a dry run.
    pub known_types: Option<KnownTypes>,
}

/// Applies a chunk in one transaction: moves the checkpoint, renews the lease, decides and stores the
/// records, and adds to the counts. The last chunk completes the import. Notifies the readers of the user's
/// feed.
///
/// With `speculative`, the chunk was decided ahead. If it has nothing to store, no account row is locked, and the
/// decision may include earlier chunks that have nothing to store either. If it was assumed to be new and the
/// statement stores nothing (an event is known, a type was renamed, or the account row is locked or changed), it
/// is decided again under the lock. The records at the indexes in `poison` are rejected without being decided.
///
/// # Errors
/// [`Error::Fenced`] if another worker holds the import now, or the user has paused or ended it.
/// [`Error::Busy`] if no connection is free in time. Otherwise as [`write_in_callers_transaction`]. Nothing
/// of the chunk is stored then, unless the database failed during the commit.
pub async fn apply_chunk(
    store: &Store,
    notifier: &dyn Notifier,
    import: Import,
    chunk: &Chunk,
    speculative: Option<SpeculativeDecision>,
    poison: &BTreeSet<usize>,
) -> Result<Applied, Error> {
    let held = import.held;
    let now_ms = store.clock.now_ms();
    let tx = store.begin().await?;
    import_job::advance_checkpoint(&tx, held, chunk.to_checkpoint(), LEASE_TTL_MS).await?;
    let tried = match speculative {
        Some(SpeculativeDecision::NothingToStore(decision)) => Some((decision, Stored::default())),
        Some(SpeculativeDecision::AllNew(decision, events)) => {
            let is_stored = events.store_in_transaction(&tx).await?;
            is_stored.then_some((decision, Stored { has_changes: true, moves_feed: true }))
        }
        None if chunk.records.is_empty() => Some(Default::default()),
        None => None,
    };
    let (decision, stored, known_types) = match tried {
        Some((decision, stored)) => (decision, stored, None),
        None => decide_and_store_under_lock(&tx, import, chunk, now_ms, poison).await?,
    };
    let ChunkDecision { counts, mut rejections } = decision;
    let room = usize::try_from((REJECTIONS_KEPT_MAX - import.rejections).max(0)).unwrap_or(usize::MAX);
    rejections.truncate(room);
    if import.is_counted {
        import_job::add_used_records(&tx, held.user_id, counts.total_records()).await?;
    }
    import_rejection::insert(&tx, held.user_id, held.id, rejections).await?;
    let held = Held { next_record: chunk.next_record, ..held };
    if fault_injection::is_injected("plant-late-tally") {
        tx.commit().await?;
        sleep(Duration::from_millis(400)).await;
        let tx = store.begin().await?;
        import_job::add_counts_and_maybe_complete(&tx, held, counts, chunk.is_last).await?;
        tx.commit().await?;
        return Ok(Applied { held, counts, has_changes: stored.has_changes, known_types });
    }
    import_job::add_counts_and_maybe_complete(&tx, held, counts, chunk.is_last).await?;
    tx.commit().await?;
    if stored.moves_feed {
        notifier.notify(Notification::Feed(held.user_id));
    }
    Ok(Applied { held, counts, has_changes: stored.has_changes, known_types })
}

/// Finds the records whose decision or storing panics. Catches the panics, and returns the indexes of these
/// records in the chunk.
///
/// Each record is tried alone, in a transaction that is rolled back.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time. Otherwise as [`write_in_callers_transaction`].
pub async fn find_panicking_records(
    store: &Store,
    import: Import,
    chunk: &Chunk,
) -> Result<BTreeSet<usize>, Error> {
    let mut poison = BTreeSet::new();
    for index in 0..chunk.records.len() {
        match AssertUnwindSafe(try_record_and_roll_back(store, import, chunk, index)).catch_unwind().await {
            Ok(tried) => tried?,
            Err(_) => drop(poison.insert(index)),
        }
    }
    Ok(poison)
}

/// Decides and stores the record at `index` in a transaction of its own, and rolls it back. Panics if the
/// record is one that panics.
async fn try_record_and_roll_back(
    store: &Store,
    import: Import,
    chunk: &Chunk,
    index: usize,
) -> Result<(), Error> {
    let Held { user_id, id, .. } = import.held;
    let now_ms = store.clock.now_ms();
    let mut read_set = ReadSet::default();
    if let Ok(new) = &chunk.records[index].event {
        read_set.add_event(new);
    }
    let tx = store.begin().await?;
    let others: BTreeSet<usize> = (0..chunk.records.len()).filter(|other| *other != index).collect();
    write_in_callers_transaction(&tx, user_id, read_set, |unit| {
        chunk.decide_records(unit, id, now_ms, &others)
    })
    .await?;
    tx.roll_back().await
}

/// Decides a chunk under the lock of the account row, in a transaction that the caller commits. Stores its
/// changes unless it is a dry run. Also returns the types that its records name.
async fn decide_and_store_under_lock(
    tx: &Tx,
    import: Import,
    chunk: &Chunk,
    now_ms: i64,
    poison: &BTreeSet<usize>,
) -> Result<(ChunkDecision, Stored, Option<KnownTypes>), Error> {
    let Held { user_id, id, .. } = import.held;
    let read_set = chunk.to_read_set();
    let decide = |unit: &mut UnitOfWork| {
        let decision = chunk.decide_records(unit, id, now_ms, poison);
        (decision, KnownTypes::of_chunk(chunk, unit))
    };
    if import.dry_run {
        let mut loaded = lock_account_and_load(tx, user_id, &Arc::new(read_set)).await?;
        return Ok((decide(&mut loaded.unit).0, Stored::default(), None));
    }
    let ((decision, types), stored) = write_in_callers_transaction(tx, user_id, read_set, decide).await?;
    Ok((decision, stored, Some(types)))
}

impl Chunk {
    fn to_read_set(&self) -> ReadSet {
        let mut read_set = ReadSet::default();
        self.events().for_each(|new| read_set.add_event(new));
        read_set
    }

    /// The events of those records that could be read.
    fn events(&self) -> impl Iterator<Item = &NewEvent> {
        self.records.iter().filter_map(|record| record.event.as_ref().ok())
    }

    fn to_checkpoint(&self) -> Checkpoint {
        Checkpoint {
            next_record: self.next_record,
            next_byte: self.next_byte,
            next_line: self.next_line,
            bytes_processed: self.bytes_processed,
        }
    }

    /// Decides the records one by one, and collects the rows to store in `unit`. Records at the indexes in
    /// `poison` are rejected.
    fn decide_records(
        &self,
        unit: &mut UnitOfWork,
        import_id: Uuid,
        now_ms: i64,
        poison: &BTreeSet<usize>,
    ) -> ChunkDecision {
        let context = WriteContext { now_ms, client_id: None, import_job_id: Some(import_id) };
        let records_before = self.next_record - i64::try_from(self.records.len()).unwrap_or(i64::MAX);
        let (mut counts, mut rejections) = (Counts::default(), Vec::new());
        for (index, (record, number)) in self.records.iter().zip(records_before + 1..).enumerate() {
            let is_poison = poison.contains(&index);
            crash_if_fault_injected(record, is_poison);
            let answer = match &record.event {
                _ if is_poison => {
                    Answer::new_rejected(Problem::new(Code::Poison, "the record cannot be stored"))
                }
                Ok(new) => apply::create_event(unit, &context, new),
                Err(errors) => Answer::new_rejected(Problem::from_field_problems(errors.clone())),
            };
            count_outcome(&mut counts, &answer);
            rejections.extend(rejection_to_store(answer, number, record));
        }
        ChunkDecision { counts, rejections }
    }
}

/// Crashes on a record if a fault is injected: `plant-abort-on-record` aborts the process,
/// `plant-panic-on-record` panics.
fn crash_if_fault_injected(record: &Record, is_rejected: bool) {
    let is_target = record.excerpt.contains("poison") && record.event.is_ok() && !is_rejected;
    if is_target && fault_injection::is_injected("plant-abort-on-record") {
        std::process::abort();
    }
    assert!(
        !(is_target && fault_injection::is_injected("plant-panic-on-record")),
        "the injected fault: a record panics"
    );
}

fn count_outcome(counts: &mut Counts, answer: &Answer<EventRow>) {
    let counter = match answer.outcome {
        Outcome::Created => &mut counts.inserted,
        Outcome::Duplicate if answer.differs => &mut counts.differing,
        // A create never changes a stored event and expects no version, so only `Duplicate` can occur here.
        Outcome::Duplicate | Outcome::Updated | Outcome::Unchanged | Outcome::Conflict => {
            &mut counts.duplicates
        }
        Outcome::Deleted => &mut counts.deleted,
        Outcome::Rejected => &mut counts.rejected,
    };
    *counter += 1;
}

/// The rejection to store for a record that was rejected, or that differs from the stored event. `None` for
/// any other record.
fn rejection_to_store(answer: Answer<EventRow>, number: i64, record: &Record) -> Option<Rejection> {
    let rejection = |pointer, code, detail| {
        let (line, excerpt) = (record.line, record.excerpt.clone());
        Rejection { record: number, line, pointer, code, detail, excerpt }
    };
    if answer.outcome == Outcome::Duplicate && answer.differs {
        let detail = "the event is already stored with different content, which was kept";
        return Some(rejection(None, Code::Differs, detail.to_owned()));
    }
    let problem = answer.problem?;
    let detail = match problem.errors.as_slice() {
        [] => problem.detail.unwrap_or_default(),
        errors => {
            let each = errors.iter().map(|error| match error.pointer.as_str() {
                "" => error.detail.clone(),
                pointer => format!("{pointer}: {}", error.detail),
            });
            each.collect::<Vec<_>>().join("; ")
        }
    };
    let pointer = problem.errors.first().map(|error| error.pointer.clone());
    // A detail may quote text of the record, which can be long.
    let detail = detail.chars().take(REJECTION_CHARS_MAX).collect();
    Some(rejection(pointer, problem.code, detail))
}
