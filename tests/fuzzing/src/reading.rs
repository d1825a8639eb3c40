//! Reads a payload in several ways, which must give the same records.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use domain::csv_mapping::CsvMapping;
use domain::draft::{EventDraft, NewEvent};
use domain::import::Format;
use domain::problem::{Code, FieldProblem};
use formats::{Checkpoint, Input, Packing, Position, ReadError, Source};
use uuid::Uuid;

use crate::events;

/// The number of checkpoints from which a payload is read again. Each costs one pass over the payload.
const CHECKPOINTS_MAX: usize = 4;

/// Everything that the reader returns for one record.
#[derive(Debug, PartialEq)]
struct ReadRecord {
    line: Option<i64>,
    raw: Vec<u8>,
    is_too_long: bool,
    draft: Option<EventDraft>,
    event: Result<NewEvent, Vec<FieldProblem>>,
    position: Position,
}

/// Everything that was read from a payload.
#[derive(Debug, Default)]
struct ReadPayload {
    /// The payload is compressed or in an archive.
    is_packed: bool,
    records: Vec<ReadRecord>,
    /// The problem that ended the reading, or `None` if the payload was read to its end.
    end: Option<(Code, Option<String>)>,
}

/// Checks that a payload gives the same records in pieces of any size and from any checkpoint, and checks the
/// invariants of each record.
pub(crate) fn check(format: Format, mapping: Option<&CsvMapping>, payload: &[u8]) {
    let payload: Arc<[u8]> = payload.into();
    let read = |piece_bytes, from| read(format, mapping, &payload, piece_bytes, from);
    let whole = read(usize::MAX, Checkpoint::default());
    let mut byte = 0;
    for record in &whole.records {
        // This bounds the number of records by the number of bytes.
        assert!(record.position.byte > byte, "a record has no bytes: {record:?}");
        byte = record.position.byte;
        events::check_record(format, &record.raw, record.draft.as_ref(), &record.event);
    }
    assert_same(&whole, 0, &read(1 + payload.len() % 13, Checkpoint::default()), "read in pieces");
    let step = whole.records.len().div_ceil(CHECKPOINTS_MAX).max(1);
    for (at, record) in whole.records.iter().enumerate().step_by(step) {
        let Position { byte, lines } = record.position;
        let records = at + 1;
        let checkpoint = Checkpoint { records: as_count(records), byte, lines };
        assert_same(&whole, records, &read(usize::MAX, checkpoint), "read from a checkpoint");
    }
}

/// Reads a payload from a checkpoint on, as an import does.
fn read(
    format: Format,
    mapping: Option<&CsvMapping>,
    payload: &Arc<[u8]>,
    piece_bytes: usize,
    checkpoint: Checkpoint,
) -> ReadPayload {
    let input = Input::new(Arc::new(Memory { payload: Arc::clone(payload), piece_bytes }));
    let mut result = ReadPayload {
        is_packed: Packing::detect_supported_packing(payload).is_some(),
        ..ReadPayload::default()
    };
    let end_of =
        |error: ReadError| error.to_problem_if_permanent().map(|problem| (problem.code, problem.detail));
    let (mut reader, mut number) =
        match formats::open_at_or_before_checkpoint(&input, format, mapping, checkpoint) {
            Ok(opened) => opened,
            Err(error) => return ReadPayload { end: end_of(error), ..result },
        };
    loop {
        match reader.advance() {
            Ok(true) => {}
            Ok(false) => return result,
            Err(error) => return ReadPayload { end: end_of(error), ..result },
        }
        number += 1;
        if number <= checkpoint.records {
            continue;
        }
        let draft = reader
            .parse_record(Uuid::nil())
            .ok()
            .filter(|read| read.problems.is_empty())
            .map(|read| read.draft);
        let event = reader.parse_event_of_record(Uuid::nil(), &|_| Uuid::nil());
        let (line, raw, is_too_long) =
            (reader.line_number(), reader.raw_bytes().to_vec(), reader.is_too_long());
        result.records.push(ReadRecord {
            line,
            raw,
            is_too_long,
            draft,
            event,
            position: reader.position_after_record(),
        });
    }
}

/// Checks that `rest` has the records of `whole` after the first `records`, and the same end.
fn assert_same(whole: &ReadPayload, records: usize, rest: &ReadPayload, how: &str) {
    let whole_records = &whole.records[records..];
    if whole.is_packed && whole.end.is_some() && rest.end.is_some() {
        // The size of the pieces determines how much of a damaged payload is decompressed, and whether that
        // is too much.
        let both = whole_records.len().min(rest.records.len());
        assert_eq!(whole_records[..both], rest.records[..both], "{how} after {records} records, damaged");
        return;
    }
    assert_eq!(whole_records, rest.records, "{how} after {records} records");
    assert_eq!(whole.end, rest.end, "{how} after {records} records");
}

fn as_count(records: usize) -> i64 {
    i64::try_from(records).expect("memory holds fewer records")
}

/// A payload in memory that is handed out in pieces.
struct Memory {
    payload: Arc<[u8]>,
    /// The size of a piece in bytes.
    piece_bytes: usize,
}

impl Source for Memory {
    fn size(&self) -> u64 {
        self.payload.len() as u64
    }

    fn open_at_offset(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let at = usize::try_from(offset).map_or(self.payload.len(), |at| at.min(self.payload.len()));
        Ok(Box::new(Pieces { payload: Arc::clone(&self.payload), piece_bytes: self.piece_bytes, at }))
    }
}

struct Pieces {
    payload: Arc<[u8]>,
    piece_bytes: usize,
    at: usize,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let rest = &self.payload[self.at..];
        Ok(&rest[..rest.len().min(self.piece_bytes)])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// Returns an input that is read in one piece.
pub(crate) fn whole(payload: &[u8]) -> Input {
    Input::new(Arc::new(Memory { payload: payload.into(), piece_bytes: usize::MAX }))
}
