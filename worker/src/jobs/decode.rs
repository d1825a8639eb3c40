//! Decodes the payload of an import into chunks of records.
//!
//! It runs in a blocking thread and sends the chunks through a bounded channel, so the memory does not grow
//! with the size of the payload. The crate `formats` reads the records, and this module knows no format.

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

/// How many decoded chunks of an import may wait to be stored.
const CHUNKS_AHEAD: usize = 2;

/// Why a payload could not be read to its end.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// The payload is invalid, over a limit, removed or changed, so another attempt cannot succeed.
    Unreadable(Problem),
    /// The payload could not be fetched. Another attempt may succeed.
    Unavailable,
}

impl From<ReadError> for DecodeError {
    fn from(error: ReadError) -> Self {
        error.to_problem_if_permanent().map_or(Self::Unavailable, Self::Unreadable)
    }
}

impl From<SourceError> for DecodeError {
    fn from(error: SourceError) -> Self {
        ReadError::from(error).into()
    }
}

/// Sends decoded chunks, and at last the error if the payload could not be read to its end.
type ChunkSender = mpsc::Sender<Result<Chunk, DecodeError>>;

/// Starts a task that decodes the payload of an import from its checkpoint on. Returns the receiver of the
/// chunks. If it is dropped, the task ends.
pub(crate) fn start_payload_decoder(
    payloads: &Payloads,
    clock: Clock,
    row: &ImportRow,
) -> mpsc::Receiver<Result<Chunk, DecodeError>> {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    // When the receiver is dropped, nothing more is fetched.
    let probe = sender.clone();
    let source = StoredPayload::new(payloads, row, move || !probe.is_closed());
    let row = row.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = decode_payload_into_channel(&Input::new(Arc::new(source)), &row, &clock, &sender)
        {
            let _receiver_is_gone = sender.blocking_send(Err(error.into()));
        }
    });
    chunks
}

/// Opens the payload of an import and sends the chunks after its checkpoint, until the payload ends, cannot
/// be read, or the receiver is dropped. Blocks.
fn decode_payload_into_channel(
    input: &Input,
    row: &ImportRow,
    clock: &Clock,
    sender: &ChunkSender,
) -> Result<(), ReadError> {
    let checkpoint = Checkpoint {
        records: row.next_record,
        byte: u64::try_from(row.next_byte).unwrap_or_default(),
        lines: row.next_line,
    };
    let (mut reader, records_before) =
        formats::open_at_or_before_checkpoint(input, row.format, row.options.csv.as_ref(), checkpoint)?;
    let decoder = ChunkDecoder {
        user_id: row.user_id,
        records_done: row.next_record,
        chunk_records: usize::try_from(row.chunk_records).unwrap_or(1).max(1),
        poison: row.poison_record_number(),
        clock,
        sender,
        input,
        new_type_ids: RefCell::default(),
    };
    decoder.send_chunks_after_checkpoint(reader.as_mut(), records_before)
}

/// Decodes the records of one payload and groups them into chunks.
struct ChunkDecoder<'d> {
    /// The user who owns the import. Ids that are derived from a record depend on it.
    user_id: Uuid,
    /// The checkpoint of the import: how many records are done. They are skipped.
    records_done: i64,
    /// How many records a chunk has. The last one may have fewer.
    chunk_records: usize,
    /// The number of the record at which workers have crashed, from 1. It is rejected without being parsed.
    poison: Option<i64>,
    clock: &'d Clock,
    sender: &'d ChunkSender,
    input: &'d Input,
    /// An id for each event type name in the chunk, in case the type does not exist. Records with the same
    /// name share one, because each new id costs a system call.
    new_type_ids: RefCell<HashMap<String, Uuid>>,
}

impl ChunkDecoder<'_> {
    /// Sends all chunks after the checkpoint. The reader begins after `records_before` records. If it fails,
    /// the complete records before the error are sent first.
    fn send_chunks_after_checkpoint(
        &self,
        reader: &mut dyn RecordReader,
        records_before: i64,
    ) -> Result<(), ReadError> {
        let mut number = records_before;
        let mut records = Vec::with_capacity(self.chunk_records);
        let mut position = reader.position_after_record();
        loop {
            let has_more = match reader.advance() {
                Ok(has_more) => has_more,
                Err(error) if records.is_empty() => return Err(error),
                Err(error) => {
                    self.send_chunk(records, number, position, false);
                    return Err(error);
                }
            };
            position = reader.position_after_record();
            if !has_more {
                self.send_chunk(records, number, position, true);
                return Ok(());
            }
            number += 1;
            if number <= self.records_done {
                continue;
            }
            records.push(self.parse_current_record(reader, number));
            if records.len() == self.chunk_records {
                let full = std::mem::replace(&mut records, Vec::with_capacity(self.chunk_records));
                if !self.send_chunk(full, number, position, false) {
                    return Ok(());
                }
            }
        }
    }

    /// Makes a chunk of these records and sends it; waits while too many chunks wait to be stored. Returns
    /// `false` if the receiver was dropped.
    fn send_chunk(&self, records: Vec<Record>, next_record: i64, position: Position, is_last: bool) -> bool {
        // The next chunk needs other ids: a type that this chunk creates may be deleted before that one is
        // stored.
        self.new_type_ids.borrow_mut().clear();
        let chunk = Chunk {
            records,
            next_record: next_record.max(self.records_done),
            next_byte: i64::try_from(position.byte).unwrap_or(i64::MAX),
            next_line: position.lines,
            bytes_processed: i64::try_from(self.input.last_read_end_offset()).unwrap_or(i64::MAX),
            is_last,
        };
        self.sender.blocking_send(Ok(chunk)).is_ok()
    }

    /// Parses and checks the record at which the reader is. If that panics, the record is rejected as poison
    /// and the import goes on.
    fn parse_current_record(&self, reader: &dyn RecordReader, number: i64) -> Record {
        let rejected = |code, detail: String| Err(vec![FieldProblem::new("", code, detail)]);
        let event = if self.poison == Some(number) {
            rejected(Code::Poison, "workers crashed at this record, so it was skipped".to_owned())
        } else {
            let read = AssertUnwindSafe(|| {
                let is_injected = fault_injection::is_injected("plant-panic-on-read");
                assert!(
                    !(is_injected && reader.raw_bytes().windows(6).any(|word| word == b"poison")),
                    "the injected fault: a reader panics"
                );
                reader.parse_event_of_record(self.user_id, &|draft| self.cached_or_new_type_id(draft))
            });
            catch_unwind(read)
                .unwrap_or_else(|_| rejected(Code::Poison, "the record cannot be read".to_owned()))
        };
        Record { line: reader.line_number(), event, excerpt: formats::record_excerpt(reader.raw_bytes()) }
    }

    /// The id that the event type of a record gets if it is created: the same for all records of a chunk with
    /// the same type name. Nil for a record without a type name.
    fn cached_or_new_type_id(&self, draft: &EventDraft) -> Uuid {
        let Sent::Value(name) = &draft.event_type else {
            return Uuid::nil();
        };
        let mut ids = self.new_type_ids.borrow_mut();
        if let Some(id) = ids.get(name) {
            return *id;
        }
        let id = self.clock.new_id();
        ids.insert(name.clone(), id);
        id
    }
}
