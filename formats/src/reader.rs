//! What the readers of all formats have in common: records, one after the other.

use domain::draft::{EventDraft, MissingId, NewEvent, parse_event};
use domain::limits::{EXCERPT_CHARS_MAX, RECORD_BYTES_MAX};
use domain::problem::{Code, FieldProblem};
use uuid::Uuid;

use crate::ReadError;

/// Splits an unpacked payload into records. The other methods tell of the record that [`RecordReader::advance`] went to.
pub trait RecordReader {
    /// Goes to the next record; `false` at the end of a payload that is whole. A record that is too long is passed over
    /// in flat memory.
    ///
    /// # Errors
    /// If the payload ends early, is not of the format, is over a limit, or cannot be fetched.
    fn advance(&mut self) -> Result<bool, ReadError>;

    /// The bytes of the record; of one that is too long, its beginning.
    fn raw(&self) -> &[u8];

    /// Whether the record has more than [`RECORD_BYTES_MAX`] bytes.
    fn is_too_long(&self) -> bool;

    /// The line on which the record begins, from 1 on, where the format has lines.
    fn line(&self) -> Option<i64> {
        None
    }

    /// Where the payload goes on after the record.
    fn position(&self) -> Position;

    /// What the record says; its fields are for `domain` to check.
    ///
    /// # Errors
    /// What is wrong with the record as a whole.
    fn read(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>>;

    /// The cells of the record as they were sent, cut to what can be shown, where the format has cells.
    fn cells(&self) -> Vec<String> {
        Vec::new()
    }

    /// The index of the cell that a field of the event was read from.
    fn column(&self, _pointer: &str) -> Option<usize> {
        None
    }

    /// Says in the words of the format what is wrong with the event of the record.
    fn explain(&self, problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        problems
    }

    /// The event of the record. `fresh_type_id` is the id that its type gets if it is made.
    ///
    /// # Errors
    /// All that is wrong with the record.
    fn event(
        &self,
        user_id: Uuid,
        fresh_type_id: &dyn Fn(&EventDraft) -> Uuid,
    ) -> Result<NewEvent, Vec<FieldProblem>> {
        if self.is_too_long() {
            let detail = format!("a record has at most {RECORD_BYTES_MAX} bytes");
            return Err(vec![FieldProblem::new("", Code::RecordTooLarge, detail)]);
        }
        let ParsedRecord { draft, missing_id, mut problems } = self.read(user_id)?;
        let fresh_type_id = fresh_type_id(&draft);
        let fields = match parse_event(draft, missing_id, fresh_type_id) {
            Ok(event) if problems.is_empty() => return Ok(event),
            Ok(_) => Vec::new(),
            Err(fields) => self.explain(fields),
        };
        // A field that could not be read counts as missing, which is no problem of its own.
        let fields =
            fields.into_iter().filter(|field| problems.iter().all(|read| read.pointer != field.pointer));
        problems.extend(fields.collect::<Vec<_>>());
        Err(problems)
    }
}

/// What a record says, as far as it can be read.
#[derive(Debug, Clone)]
pub struct ParsedRecord {
    /// The event; a field that cannot be read is absent.
    pub draft: EventDraft,
    /// Where its id comes from if it brings none.
    pub missing_id: MissingId,
    /// The fields that cannot be read.
    pub problems: Vec<FieldProblem>,
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Offset in bytes in the unpacked payload.
    pub byte: u64,
    /// Lines before it, where the format has lines.
    pub lines: i64,
}

/// The bytes of one record, as far as they are kept.
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
        let room = (RECORD_BYTES_MAX + 2).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len();
    }

    /// Gives up what was added since the buffer had so many bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
        self.length = self.length.min(length);
    }

    pub(crate) fn len(&self) -> usize {
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

    /// Takes the end of a line off.
    pub(crate) fn trim_line_end(&mut self) {
        for end in [b'\n', b'\r'] {
            if self.length == self.bytes.len() && self.bytes.last() == Some(&end) {
                self.bytes.pop();
                self.length -= 1;
            }
        }
    }
}

/// The beginning of a record, safe to keep and to show: at most [`EXCERPT_CHARS_MAX`] characters.
#[must_use]
pub fn excerpt(record: &[u8]) -> String {
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
