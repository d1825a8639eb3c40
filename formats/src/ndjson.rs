//! Reads NDJSON: one JSON object per line.

use domain::draft::MissingId;
use domain::problem::FieldProblem;
use uuid::Uuid;

use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::json;
use crate::reader::{ParsedRecord, Position, RecordBuffer, RecordReader};

/// Splits NDJSON into records, one per line. Blank lines count for line numbers, but they are not records.
pub(crate) struct NdjsonReader {
    bytes: BoundedReader,
    record: RecordBuffer,
    lines: i64,
}

impl NdjsonReader {
    /// Creates a reader. `lines` is the number of lines in the payload before the first byte of `bytes`.
    pub(crate) fn new(bytes: BoundedReader, lines: i64) -> Self {
        Self { bytes, record: RecordBuffer::default(), lines }
    }

    /// Replaces the record with the next line, without its line end. Returns `false` at the end.
    fn read_line(&mut self) -> Result<bool, ReadError> {
        self.record.clear();
        loop {
            let block = self.bytes.peek_next_bytes()?;
            if block.is_empty() {
                return Ok(!self.record.is_empty());
            }
            let end = memchr::memchr(b'\n', block);
            let length = end.map_or(block.len(), |at| at + 1);
            self.record.extend(&block[..length]);
            self.bytes.consume(length);
            if end.is_some() {
                self.record.trim_line_end();
                return Ok(true);
            }
        }
    }
}

impl RecordReader for NdjsonReader {
    fn advance(&mut self) -> Result<bool, ReadError> {
        while self.read_line()? {
            self.lines += 1;
            if self.record.is_too_long() || !self.record.bytes().trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn raw_bytes(&self) -> &[u8] {
        self.record.bytes()
    }

    fn is_too_long(&self) -> bool {
        self.record.is_too_long()
    }

    fn line_number(&self) -> Option<i64> {
        Some(self.lines)
    }

    fn position_after_record(&self) -> Position {
        Position { byte: self.bytes.next_byte_offset(), lines: self.lines }
    }

    fn parse_record(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        let (draft, problems) = json::parse_record_reporting_unknown_fields(self.record.bytes())?;
        Ok(ParsedRecord { draft, missing_id: MissingId::Derived(user_id), problems })
    }
}
