//! One chunk of an import: its rows, its rejections, its counts and its checkpoint, in one transaction.

use crate::bell::{Bell, Ring};
use crate::error::Error;
use crate::limits::{LEASE_TTL_MS, REJECTIONS_KEPT_MAX};
use crate::plant;
use crate::rules::apply::{self, Answer, Outcome, Terms, World};
use crate::rules::draft::NewEvent;
use crate::rules::import::{Counts, Rejection};
use crate::rules::problem::{Code, FieldProblem, Problem};
use crate::rules::row::EventRow;
use crate::store::import_job::{Checkpoint, Held};
use crate::store::load::{Wants, load_one};
use crate::store::{Store, import_job, import_rejection};
use crate::write::write_within;

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
    /// Offset behind them in the decoded payload.
    pub next_byte: i64,
    /// Lines before that offset, where the format has lines.
    pub next_line: i64,
    /// Offset behind them in the payload as sent, as far as the decoder has read.
    pub bytes_processed: i64,
    /// Nothing follows: with this chunk the import is complete.
    pub is_last: bool,
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
}

/// Applies a chunk; returns the new checkpoint.
///
/// # Errors
/// [`Error::Fenced`] when somebody else holds it by now, or it was ended; when the database fails.
/// Then nothing of the chunk is stored.
pub async fn apply_chunk(
    store: &Store,
    bell: &dyn Bell,
    import: Import,
    chunk: Chunk,
) -> Result<(Held, Counts), Error> {
    let held = import.held;
    let mut wants = Wants::default();
    for new in chunk.records.iter().filter_map(|record| record.event.as_ref().ok()) {
        wants.event(new);
    }
    let next = Held {
        next_record: held.next_record + i64::try_from(chunk.records.len()).unwrap_or(i64::MAX),
        ..held
    };
    let now_ms = store.clock.now_ms();
    let tx = store.begin().await?;
    import_job::advance(&tx, held, chunk.checkpoint(next.next_record), LEASE_TTL_MS).await?;
    let is_last = chunk.is_last;
    let decide = |world: &mut World| {
        let terms = Terms { now_ms, client_id: None, import_job_id: Some(held.id) };
        decide(world, &terms, held.next_record, chunk.records)
    };
    let ((counts, mut rejections), moved) = if import.dry_run {
        (decide(&mut load_one(&tx, held.user_id, &wants).await?.world), false)
    } else {
        write_within(&tx, held.user_id, wants, decide).await?
    };
    let room = usize::try_from((REJECTIONS_KEPT_MAX - import.rejections).max(0)).unwrap_or(usize::MAX);
    rejections.truncate(room);
    import_rejection::keep(&tx, held.user_id, held.id, rejections).await?;
    import_job::tally(&tx, next, counts, is_last.then_some(now_ms)).await?;
    tx.commit().await?;
    if moved {
        bell.ring(Ring::Feed(held.user_id));
    }
    Ok((next, counts))
}

impl Chunk {
    fn checkpoint(&self, next_record: i64) -> Checkpoint {
        let (next_byte, next_line, bytes_processed) = (self.next_byte, self.next_line, self.bytes_processed);
        Checkpoint { next_record, next_byte, next_line, bytes_processed }
    }
}

/// What becomes of the records behind the `done`-th, each by itself.
fn decide(world: &mut World, terms: &Terms<'_>, done: i64, records: Vec<Record>) -> (Counts, Vec<Rejection>) {
    let mut counts = Counts::default();
    let mut rejections = Vec::new();
    for (record, number) in records.into_iter().zip(done + 1..) {
        let (line, excerpt) = (record.line, record.excerpt);
        if plant::is_planted("plant-abort-on-record") && excerpt.contains("poison") && record.event.is_ok() {
            std::process::abort();
        }
        let answer = match record.event {
            Ok(new) => apply::create_event(world, terms, &new),
            Err(errors) => Answer::rejected(Problem::of_fields(errors)),
        };
        count(&mut counts, &answer);
        rejections.extend(rejection(answer, number, line, excerpt));
    }
    (counts, rejections)
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
fn rejection(answer: Answer<EventRow>, record: i64, line: Option<i64>, excerpt: String) -> Option<Rejection> {
    let kept = |pointer, code, detail| Rejection { record, line, pointer, code, detail, excerpt };
    if answer.outcome == Outcome::Duplicate && answer.differs {
        return Some(kept(None, Code::Differs, "stored already, with other content".to_owned()));
    }
    let problem = answer.problem?;
    let detail = match problem.errors.as_slice() {
        [] => problem.detail.unwrap_or_default(),
        errors => {
            let each = errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail));
            each.collect::<Vec<_>>().join("; ")
        }
    };
    let pointer = problem.errors.first().map(|error| error.pointer.clone());
    Some(kept(pointer, problem.code, detail))
}
