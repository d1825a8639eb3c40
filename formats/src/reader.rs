//! Defines the interface of the readers of all formats, which return one record after the other.

use domain::draft::{EventDraft, MissingId, NewEvent, parse_event};
use domain::limits::{EXCERPT_CHARS_MAX, RECORD_BYTES_MAX};
use domain::problem::{Code, FieldProblem};
use uuid::Uuid;

use crate::ReadError;

/// Splits an unpacked payload into records. All other methods describe the record to which
/// [`RecordReader::advance`] moved.
pub trait RecordReader {
    /// Moves to the next record. Returns `false` at the end of a complete payload. Only the beginning of a
    /// record that is too long is kept in memory.
    ///
    /// # Errors
    /// [`ReadError::Format`] if the payload ends early or is not of the format. [`ReadError::Limit`] if it is
    /// over a limit. [`ReadError::Source`] if its bytes cannot be read.
    fn advance(&mut self) -> Result<bool, ReadError>;

    /// The bytes of the record without a line end, or the beginning of a record that is too long. A CSV row
    /// is converted to UTF-8. An Apple Health record lacks comments and child elements that are not used.
    fn raw_bytes(&self) -> &[u8];

    /// Whether the record has more than [`RECORD_BYTES_MAX`] bytes.
    fn is_too_long(&self) -> bool;

    /// The line on which the record begins, counted from 1. `None` if the format has no lines.
    fn line_number(&self) -> Option<i64> {
        None
    }

    /// The place directly after the record.
    fn position_after_record(&self) -> Position;

    /// Parses the record as an event draft, without checking the values of its fields. The id of a record
    /// without one will be derived from `user_id`.
    ///
    /// # Errors
    /// The problems of the record as a whole, such as [`Code::InvalidJson`].
    fn parse_record(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>>;

    /// The cells of a CSV row without their quotes, each cut to [`EXCERPT_CHARS_MAX`] characters. Empty if
    /// the format has no cells.
    fn cell_excerpts(&self) -> Vec<String> {
        Vec::new()
    }

    /// The index, from 0, of the CSV cell from which a field of the event is read; of the first one if there
    /// are several. `None` if there is no such cell.
    fn column_index_of_field(&self, _pointer: &str) -> Option<usize> {
        None
    }

    /// Returns the problems of the event in the terms of the format, for example with the name of a column.
    fn explain_problems(&self, problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        problems
    }

    /// Parses and checks the event of the record. `fresh_type_id` returns the id that its event type gets if
    /// the type has to be created.
    ///
    /// # Errors
    /// [`Code::RecordTooLarge`] if the record is too long. Otherwise all problems of the record and its
    /// fields.
    fn parse_event_of_record(
        &self,
        user_id: Uuid,
        fresh_type_id: &dyn Fn(&EventDraft) -> Uuid,
    ) -> Result<NewEvent, Vec<FieldProblem>> {
        if self.is_too_long() {
            let detail = format!("a record has at most {RECORD_BYTES_MAX} bytes");
            return Err(vec![FieldProblem::new("", Code::RecordTooLarge, detail)]);
        }
        let ParsedRecord { draft, missing_id, mut problems } = self.parse_record(user_id)?;
        let fresh_type_id = fresh_type_id(&draft);
        let fields = match parse_event(draft, missing_id, fresh_type_id) {
            Ok(event) if problems.is_empty() => return Ok(event),
            Ok(_) => Vec::new(),
            Err(fields) => self.explain_problems(fields),
        };
        // For a field that cannot be read, the check also reports that it is missing. That second problem is
        // dropped.
        let fields =
            fields.into_iter().filter(|field| problems.iter().all(|read| read.pointer != field.pointer));
        problems.extend(fields.collect::<Vec<_>>());
        Err(problems)
    }
}

/// A parsed record. The values of its fields are not checked.
#[derive(Debug, Clone)]
pub struct ParsedRecord {
    /// The event. A field that cannot be read is `Sent::Absent` or `Sent::WrongType`.
    pub draft: EventDraft,
    /// How the id of the event is made if the record has none.
    pub missing_id: MissingId,
    /// Problems that were found while parsing: fields that cannot be read, or that events do not have.
    pub problems: Vec<FieldProblem>,
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Offset in bytes in the unpacked payload. For a CSV in another encoding than UTF-8, the offset is in
    /// its text as UTF-8.
    pub byte: u64,
    /// Number of lines before it; 0 if the format has no lines.
    pub lines: i64,
}

/// The bytes of one record. The length counts all bytes, but only about [`RECORD_BYTES_MAX`] of them are
/// kept.
#[derive(Debug, Default)]
pub(crate) struct RecordBuffer {
    bytes: Vec<u8>,
    length: usize,
}

impl RecordBuffer {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.length = 0;
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        // Two more bytes hold the CRLF of a record that has the full length.
        let room = (RECORD_BYTES_MAX + 2).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len();
    }

    /// Removes what was added after the buffer had this length.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
        self.length = self.length.min(length);
    }

    /// The length of the record in bytes, including those that were not kept.
    pub(crate) fn record_length(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn is_too_long(&self) -> bool {
        self.length > RECORD_BYTES_MAX
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Removes one line end (LF, CR or CRLF) from the end of the record, unless that end was not kept.
    pub(crate) fn trim_line_end(&mut self) {
        for end in [b'\n', b'\r'] {
            if self.length == self.bytes.len() && self.bytes.last() == Some(&end) {
                self.bytes.pop();
                self.length -= 1;
            }
        }
    }
}

/// The beginning of a record as text that can be stored and shown: at most [`EXCERPT_CHARS_MAX`] characters.
/// NUL and bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn record_excerpt(record: &[u8]) -> String {
    let plain = &record[..record.len().min(EXCERPT_CHARS_MAX)];
    if plain.is_ascii() && !plain.contains(&0) {
        return String::from_utf8_lossy(plain).into_owned();
    }
    let begin = &record[..record.len().min(EXCERPT_CHARS_MAX * 4)];
    String::from_utf8_lossy(begin)
        .chars()
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .take(EXCERPT_CHARS_MAX)
        .collect()
}
