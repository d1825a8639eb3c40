//! One chunk of an import: its rows, its rejections, its counts and its checkpoint, in one transaction.
//!
//! In a file that is sent again nothing is new. Such a chunk can be decided before its turn and without a lock,
//! while the one before it is stored: what a record is a duplicate of was there before both.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::sleep;
use uuid::Uuid;

use crate::notifier::{Notification, Notifier};
use crate::write::{Stored, load_optimistic, write_within};
use domain::apply::{self, Answer, Outcome, UnitOfWork, WriteContext};
use domain::draft::NewEvent;
use domain::fault_injection;
use domain::import::{Counts, Rejection};
use domain::limits::{LEASE_TTL_MS, REJECTION_CHARS_MAX, REJECTIONS_KEPT_MAX};
use domain::problem::{Code, FieldProblem, Problem};
use domain::row::EventRow;
use store::error::Error;
use store::import_job::{Checkpoint, Held};
use store::load::{ReadSet, load_one};
use store::{Store, Tx, import_job, import_rejection};

/// A record as it was read.
#[derive(Debug)]
pub struct Record {
    /// Counts from 1, where the format has lines.
    pub line: Option<i64>,
    /// The event, or all that is wrong with it.
    pub event: Result<NewEvent, Vec<FieldProblem>>,
    /// Its beginning, to be kept if it is refused.
    pub excerpt: String,
}

/// Consecutive records and where the payload goes on behind them.
#[derive(Debug)]
pub struct Chunk {
    /// At most 500.
    pub records: Vec<Record>,
    /// Records of the payload up to the last of these.
    pub next_record: i64,
    /// Offset behind them in the decoded payload.
    pub next_byte: i64,
    /// Lines before that offset, where the format has lines.
    pub next_line: i64,
    /// Offset behind them in the payload as sent, as far as the decoder has read.
    pub bytes_processed: i64,
    /// Nothing follows: with this chunk the import is complete.
    pub is_last: bool,
}

/// What becomes of the records of a chunk.
#[derive(Debug, Default)]
pub struct Verdict {
    counts: Counts,
    rejections: Vec<Rejection>,
}

/// An import that the caller holds, and what its chunks need to know of it.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// Guard and checkpoint.
    pub held: Held,
    /// It decides and reports, and stores nothing.
    pub dry_run: bool,
    /// Its rejections so far.
    pub rejections: i64,
    /// Its records count towards a daily allowance.
    pub is_counted: bool,
}

/// What a chunk has come to.
#[derive(Debug)]
pub struct Applied {
    /// The import at its new checkpoint.
    pub held: Held,
    /// What became of the records.
    pub counts: Counts,
    /// Something of them was stored.
    pub is_new: bool,
}

/// Decides a chunk before its turn; none where something of it is to be stored, which only its turn can do.
///
/// # Errors
/// When the database fails.
pub async fn decide_speculatively(
    store: &Store,
    user_id: Uuid,
    import_id: Uuid,
    dry_run: bool,
    chunk: &Chunk,
) -> Result<Option<Verdict>, Error> {
    let Some((read_version, mut unit)) = load_optimistic(store, user_id, &chunk.read_set()).await? else {
        return Ok(None);
    };
    let verdict = chunk.decide(&mut unit, import_id, store.clock.now_ms(), &BTreeSet::new());
    Ok((dry_run || unit.into_changes(read_version.feed_head).is_empty()).then_some(verdict))
}

/// Applies a chunk, with the verdict if one was found chunks. The records at the places in `poison` are refused unread.
///
/// # Errors
/// [`Error::Fenced`] when somebody else holds it by now, or it was ended; when the database fails.
/// Then nothing of the chunk is stored.
pub async fn apply_chunk(
    store: &Store,
    notifier: &dyn Notifier,
    import: Import,
    chunk: &Chunk,
    verdict: Option<Verdict>,
    poison: &BTreeSet<usize>,
) -> Result<Applied, Error> {
    let held = import.held;
    let now_ms = store.clock.now_ms();
    let tx = store.begin().await?;
    import_job::advance(&tx, held, chunk.checkpoint(), LEASE_TTL_MS).await?;
    let (verdict, stored) = match verdict {
        Some(verdict) => (verdict, Stored::default()),
        None if chunk.records.is_empty() => Default::default(),
        None => decide_locked(&tx, import, chunk, now_ms, poison).await?,
    };
    let Verdict { counts, mut rejections } = verdict;
    let room = usize::try_from((REJECTIONS_KEPT_MAX - import.rejections).max(0)).unwrap_or(usize::MAX);
    rejections.truncate(room);
    if import.is_counted {
        let records = i64::try_from(chunk.records.len()).unwrap_or(i64::MAX);
        import_job::count_records(&tx, held.user_id, records).await?;
    }
    import_rejection::keep(&tx, held.user_id, held.id, rejections).await?;
    let held = Held { next_record: chunk.next_record, ..held };
    if fault_injection::is_injected("plant-late-tally") {
        tx.commit().await?;
        sleep(Duration::from_millis(400)).await;
        let tx = store.begin().await?;
        import_job::tally(&tx, held, counts, chunk.is_last).await?;
        tx.commit().await?;
        return Ok(Applied { held, counts, is_new: stored.is_anything });
    }
    import_job::tally(&tx, held, counts, chunk.is_last).await?;
    tx.commit().await?;
    if stored.moves_feed {
        notifier.notify(Notification::Feed(held.user_id));
    }
    Ok(Applied { held, counts, is_new: stored.is_anything })
}

/// The records of a chunk whose decision or storing panics, by their places: each is tried alone, in a transaction that
/// is rolled back.
///
/// # Errors
/// When the database fails.
pub async fn find_poison(store: &Store, import: Import, chunk: &Chunk) -> Result<BTreeSet<usize>, Error> {
    let mut poison = BTreeSet::new();
    for place in 0..chunk.records.len() {
        match AssertUnwindSafe(try_alone(store, import, chunk, place)).catch_unwind().await {
            Ok(tried) => tried?,
            Err(_) => drop(poison.insert(place)),
        }
    }
    Ok(poison)
}

async fn try_alone(store: &Store, import: Import, chunk: &Chunk, place: usize) -> Result<(), Error> {
    let Held { user_id, id, .. } = import.held;
    let now_ms = store.clock.now_ms();
    let mut read_set = ReadSet::default();
    if let Ok(new) = &chunk.records[place].event {
        read_set.event(new);
    }
    let tx = store.begin().await?;
    let others: BTreeSet<usize> = (0..chunk.records.len()).filter(|other| *other != place).collect();
    write_within(&tx, user_id, read_set, |unit| chunk.decide(unit, id, now_ms, &others)).await?;
    tx.release().await
}

/// Under the lock of the head.
async fn decide_locked(
    tx: &Tx,
    import: Import,
    chunk: &Chunk,
    now_ms: i64,
    poison: &BTreeSet<usize>,
) -> Result<(Verdict, Stored), Error> {
    let Held { user_id, id, .. } = import.held;
    let read_set = chunk.read_set();
    if import.dry_run {
        let mut loaded = load_one(tx, user_id, &read_set).await?;
        return Ok((chunk.decide(&mut loaded.unit, id, now_ms, poison), Stored::default()));
    }
    write_within(tx, user_id, read_set, |unit| chunk.decide(unit, id, now_ms, poison)).await
}

impl Chunk {
    fn read_set(&self) -> ReadSet {
        let mut read_set = ReadSet::default();
        for new in self.records.iter().filter_map(|record| record.event.as_ref().ok()) {
            read_set.event(new);
        }
        read_set
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            next_record: self.next_record,
            next_byte: self.next_byte,
            next_line: self.next_line,
            bytes_processed: self.bytes_processed,
        }
    }

    /// What becomes of the records, each by itself. Those that are `poison` are refused.
    fn decide(
        &self,
        unit: &mut UnitOfWork,
        import_id: Uuid,
        now_ms: i64,
        poison: &BTreeSet<usize>,
    ) -> Verdict {
        let context = WriteContext { now_ms, client_id: None, import_job_id: Some(import_id) };
        let done = self.next_record - i64::try_from(self.records.len()).unwrap_or(i64::MAX);
        let (mut counts, mut rejections) = (Counts::default(), Vec::new());
        for (place, (record, number)) in self.records.iter().zip(done + 1..).enumerate() {
            let is_poison = poison.contains(&place);
            inject_fault(record, is_poison);
            let answer = match &record.event {
                _ if is_poison => Answer::rejected(Problem::new(Code::Poison, "the record cannot be stored")),
                Ok(new) => apply::create_event(unit, &context, new),
                Err(errors) => Answer::rejected(Problem::of_fields(errors.clone())),
            };
            count(&mut counts, &answer);
            rejections.extend(rejection(answer, number, record));
        }
        Verdict { counts, rejections }
    }
}

/// The injected faults: a record that kills the process, and one that panics.
fn inject_fault(record: &Record, is_refused: bool) {
    let is_meant = record.excerpt.contains("poison") && record.event.is_ok() && !is_refused;
    if is_meant && fault_injection::is_injected("plant-abort-on-record") {
        std::process::abort();
    }
    assert!(
        !(is_meant && fault_injection::is_injected("plant-panic-on-record")),
        "a record panics, as it was told to"
    );
}

fn count(counts: &mut Counts, answer: &Answer<EventRow>) {
    let counter = match answer.outcome {
        Outcome::Created => &mut counts.inserted,
        Outcome::Duplicate if answer.differs => &mut counts.differing,
        // A create changes nothing that is there, and asks for no version.
        Outcome::Duplicate | Outcome::Updated | Outcome::Unchanged | Outcome::Conflict => {
            &mut counts.duplicates
        }
        Outcome::Deleted => &mut counts.deleted,
        Outcome::Rejected => &mut counts.rejected,
    };
    *counter += 1;
}

/// How a record that was refused, or differs, is kept.
fn rejection(answer: Answer<EventRow>, number: i64, record: &Record) -> Option<Rejection> {
    let kept = |pointer, code, detail| {
        let (line, excerpt) = (record.line, record.excerpt.clone());
        Rejection { record: number, line, pointer, code, detail, excerpt }
    };
    if answer.outcome == Outcome::Duplicate && answer.differs {
        return Some(kept(None, Code::Differs, "stored already, with other content".to_owned()));
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
    // A detail may quote what was sent.
    let detail = detail.chars().take(REJECTION_CHARS_MAX).collect();
    Some(kept(pointer, problem.code, detail))
}
