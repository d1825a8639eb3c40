//! From the bytes of a payload to chunks of records, in a thread of its own before a bounded channel. What the bytes
//! mean is for `formats` to say. Memory is flat in the size of the payload.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use domain::draft::{EventDraft, Sent};
use domain::fault_injection;
use domain::import::ImportRow;
use domain::problem::{Code, FieldProblem, Problem};
use formats::SourceError;
use formats::{Checkpoint, Input, Position, ReadError, RecordReader};
use service::Clock;
use service::apply_chunk::{Chunk, Record};
use service::{Payloads, StoredPayload};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Chunks that are read chunks.
const CHUNKS_AHEAD: usize = 2;

/// Why no more records come.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The payload can never be read.
    Payload(Problem),
    /// The payload could not be fetched for now.
    Fetch,
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        error.problem().map_or(Self::Fetch, Self::Payload)
    }
}

impl From<SourceError> for Fault {
    fn from(error: SourceError) -> Self {
        ReadError::from(error).into()
    }
}

/// Where chunks go, or why there are no more.
type Chunks = mpsc::Sender<Result<Chunk, Fault>>;

/// Starts to read at the checkpoint of an import.
pub(crate) fn open(
    payloads: &Payloads,
    clock: Clock,
    row: &ImportRow,
) -> mpsc::Receiver<Result<Chunk, Fault>> {
    let (chunks, chunks_out) = mpsc::channel(CHUNKS_AHEAD);
    // Once nobody takes the records, nothing more is fetched.
    let taken = chunks.clone();
    let source = StoredPayload::new(payloads, row, move || !taken.is_closed());
    let row = row.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&Input::new(Arc::new(source)), &row, &clock, &chunks) {
            let _nobody_waits = chunks.blocking_send(Err(error.into()));
        }
    });
    chunks_out
}

/// Reads until the end, a fault, or until nobody takes chunks any more. Blocks.
fn read(input: &Input, row: &ImportRow, clock: &Clock, chunks: &Chunks) -> Result<(), ReadError> {
    let checkpoint = Checkpoint {
        records: row.next_record,
        byte: u64::try_from(row.next_byte).unwrap_or_default(),
        lines: row.next_line,
    };
    let (mut reader, done) = formats::open(input, row.format, row.options.csv.as_ref(), checkpoint)?;
    let job = Job {
        user_id: row.user_id,
        skip: row.next_record,
        chunk_records: usize::try_from(row.chunk_records).unwrap_or(1).max(1),
        poison: row.poison(),
        clock,
        chunks,
        input,
        fresh_type_ids: RefCell::default(),
    };
    job.run(reader.as_mut(), done)
}

/// What becomes of the records of one payload.
struct Job<'j> {
    /// Owner: derived ids depend on it.
    user_id: Uuid,
    /// Records that are done.
    skip: i64,
    /// Records of a chunk.
    chunk_records: usize,
    /// The record that is refused unread: workers died of it.
    poison: Option<i64>,
    clock: &'j Clock,
    chunks: &'j Chunks,
    input: &'j Input,
    /// The id of the type that a record names, should it be missing: one for each name of a chunk, for
    /// fresh ones cost a call of the system each.
    fresh_type_ids: RefCell<HashMap<String, Uuid>>,
}

impl Job<'_> {
    /// Hands out chunks after the `done` records at which the reader begins. What is whole before a
    /// fault is handed out as well.
    fn run(&self, reader: &mut dyn RecordReader, done: i64) -> Result<(), ReadError> {
        let mut number = done;
        let mut records = Vec::with_capacity(self.chunk_records);
        let mut position = reader.position();
        loop {
            let is_more = match reader.advance() {
                Ok(is_more) => is_more,
                Err(error) if records.is_empty() => return Err(error),
                Err(error) => {
                    self.send(records, number, position, false);
                    return Err(error);
                }
            };
            position = reader.position();
            if !is_more {
                self.send(records, number, position, true);
                return Ok(());
            }
            number += 1;
            if number <= self.skip {
                continue;
            }
            records.push(self.record(reader, number));
            if records.len() == self.chunk_records {
                let full = std::mem::replace(&mut records, Vec::with_capacity(self.chunk_records));
                if !self.send(full, number, position, false) {
                    return Ok(());
                }
            }
        }
    }

    /// Whether somebody waits for more.
    fn send(&self, records: Vec<Record>, next_record: i64, position: Position, is_last: bool) -> bool {
        // The next chunk may find the type deleted that this one makes, and then needs another id.
        self.fresh_type_ids.borrow_mut().clear();
        let chunk = Chunk {
            records,
            next_record: next_record.max(self.skip),
            next_byte: i64::try_from(position.byte).unwrap_or(i64::MAX),
            next_line: position.lines,
            bytes_processed: i64::try_from(self.input.taken()).unwrap_or(i64::MAX),
            is_last,
        };
        self.chunks.blocking_send(Ok(chunk)).is_ok()
    }

    /// Reads one record. A reader that panics has met a record that is poison: it is refused, and the
    /// import goes on.
    fn record(&self, reader: &dyn RecordReader, number: i64) -> Record {
        let refused = |code, detail: String| Err(vec![FieldProblem::new("", code, detail)]);
        let event = if self.poison == Some(number) {
            refused(Code::Poison, "workers died of this record".to_owned())
        } else {
            let read = AssertUnwindSafe(|| {
                let is_meant = fault_injection::is_injected("plant-panic-on-read");
                assert!(
                    !(is_meant && reader.raw().windows(6).any(|word| word == b"poison")),
                    "as it was told to"
                );
                reader.event(self.user_id, &|draft| self.fresh_type_id(draft))
            });
            catch_unwind(read)
                .unwrap_or_else(|_| refused(Code::Poison, "the record cannot be read".to_owned()))
        };
        Record { line: reader.line(), event, excerpt: formats::excerpt(reader.raw()) }
    }

    /// The id that the type gets if it is made; nobody asks for it where the record brings no name.
    fn fresh_type_id(&self, draft: &EventDraft) -> Uuid {
        let Sent::Value(name) = &draft.event_type else {
            return Uuid::nil();
        };
        let mut ids = self.fresh_type_ids.borrow_mut();
        if let Some(id) = ids.get(name) {
            return *id;
        }
        let id = self.clock.new_id();
        ids.insert(name.clone(), id);
        id
    }
}
