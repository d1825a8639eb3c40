//! What the readers of all formats have in common: records, one after the other.

use domain::limits::{EXCERPT_CHARS_MAX, RECORD_BYTES_MAX};
use domain::rules::draft::{EventDraft, MissingId};
use domain::rules::problem::FieldProblem;
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

    /// What the record says, and where its id comes from if it brings none.
    ///
    /// # Errors
    /// What is wrong with the record itself; its fields are for `domain` to check.
    fn draft(&self, user_id: Uuid) -> Result<(EventDraft, MissingId), Vec<FieldProblem>>;

    /// Says in the words of the format what is wrong with the event of the record.
    fn explain(&self, problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        problems
    }
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
