//! One JSON object a line.

use domain::rules::draft::{EventDraft, MissingId};
use domain::rules::problem::FieldProblem;
use domain::rules::record;
use uuid::Uuid;

use super::Fault;
use super::cutter::{Cutter, Kept, Place};
use super::decoded::Decoded;

/// Cuts lines. Blank ones are no records, but are lines.
pub(super) struct Lines {
    decoded: Decoded,
    kept: Kept,
    lines: i64,
}

impl Lines {
    /// The lines behind the first so many.
    pub(super) fn new(decoded: Decoded, lines: i64) -> Self {
        Self { decoded, kept: Kept::default(), lines }
    }

    /// Cuts one line; false at the end.
    fn cut(&mut self) -> Result<bool, Fault> {
        self.kept.clear();
        loop {
            let piece = self.decoded.fill()?;
            if piece.is_empty() {
                return Ok(!self.kept.is_empty());
            }
            let end = memchr::memchr(b'\n', piece);
            let length = end.map_or(piece.len(), |at| at + 1);
            self.kept.extend(&piece[..length]);
            self.decoded.consume(length);
            if end.is_some() {
                self.kept.trim_line_end();
                return Ok(true);
            }
        }
    }
}

impl Cutter for Lines {
    fn advance(&mut self) -> Result<bool, Fault> {
        while self.cut()? {
            self.lines += 1;
            if self.kept.is_too_long() || !self.kept.bytes().trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn raw(&self) -> &[u8] {
        self.kept.bytes()
    }

    fn is_too_long(&self) -> bool {
        self.kept.is_too_long()
    }

    fn line(&self) -> Option<i64> {
        Some(self.lines)
    }

    fn place(&self) -> Place {
        Place { byte: self.decoded.offset(), lines: self.lines }
    }

    fn draft(&self, user_id: Uuid) -> Result<(EventDraft, MissingId), Vec<FieldProblem>> {
        Ok((record::parse(self.kept.bytes())?, MissingId::Derived(user_id)))
    }
}
