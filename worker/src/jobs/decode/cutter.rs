//! What all formats have in common: records, one behind the other.

use domain::limits::RECORD_BYTES_MAX;
use domain::rules::draft::{EventDraft, MissingId};
use domain::rules::problem::FieldProblem;
use uuid::Uuid;

use super::Fault;

/// Cuts a decoded payload into records. What [`Cutter::advance`] went to is what the others tell of.
pub(super) trait Cutter {
    /// Goes to the next record; false at the end of a payload that is whole. A record that is too long
    /// is passed over in flat memory.
    fn advance(&mut self) -> Result<bool, Fault>;

    /// The bytes of the record; of one that is too long, the beginning.
    fn raw(&self) -> &[u8];

    /// Whether the record has more bytes than a record may have.
    fn is_too_long(&self) -> bool;

    /// The line on which the record begins, where the format has lines.
    fn line(&self) -> Option<i64> {
        None
    }

    /// Where the payload goes on behind the record.
    fn place(&self) -> Place;

    /// What the record says, and where its id comes from if it brings none.
    fn draft(&self, user_id: Uuid) -> Result<(EventDraft, MissingId), Vec<FieldProblem>>;

    /// Says in the words of the format what is wrong with its event.
    fn explain(&self, problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        problems
    }
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset in the decoded payload.
    pub byte: u64,
    /// Lines before it, where the format has lines.
    pub lines: i64,
}

/// The bytes of one record as far as they are kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    length: usize,
}

impl Kept {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.length = 0;
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let room = (RECORD_BYTES_MAX + 2).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.length > RECORD_BYTES_MAX
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the end of a line off.
    pub(super) fn trim_line_end(&mut self) {
        for end in [b'\n', b'\r'] {
            if self.length == self.bytes.len() && self.bytes.last() == Some(&end) {
                self.bytes.pop();
                self.length -= 1;
            }
        }
    }
}
