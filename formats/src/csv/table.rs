//! Rows under a header, as RFC 4180 says, and more leniently: LF, CR and CRLF end lines alike.

use domain::limits::RECORD_BYTES_MAX;
use domain::rules::csv_mapping::CsvMapping;
use domain::rules::draft::{EventDraft, MissingId, Sent};
use domain::rules::import::Format;
use domain::rules::problem::{Code, FieldProblem};
use encoding_rs::UTF_8;
use uuid::Uuid;

use super::clock::{Clock, Fold};
use super::plan::Plan;
use super::rows::Rows;
use super::{begin, charset};
use crate::bounded::BoundedReader;
use crate::reader::{Position, RecordReader};
use crate::{Input, ReadError, detect};

/// Reads rows, and events by the mapping.
pub(crate) struct Table {
    rows: Rows,
    plan: Plan,
    is_utf8: bool,
    /// The order of the rows so far, where the order matters.
    clock: Clock,
    /// Which instant is meant if the clocks show the time of the row twice.
    fold: Fold,
    /// The row before, if the clocks show its time twice.
    before: Option<Vec<u8>>,
    /// The row is equal to the one before, and the clocks show its time twice.
    is_repeated: bool,
}

impl Table {
    /// Reads the header.
    pub(crate) fn open(bytes: BoundedReader, mapping: &CsvMapping, input: &Input) -> Result<Self, ReadError> {
        let named = charset::by_label(mapping.encoding.as_deref().unwrap_or_default());
        let (mut text, encoding) = charset::decode(bytes, named.map_err(ReadError::Format)?, input)?;
        detect::check_text(Format::Csv, &mut text)?;
        let (lines, delimiter) = begin::skip_to_header(&mut text, mapping)?;
        let mut rows = Rows::new(text, delimiter, lines);
        if !rows.advance()? {
            return Err(ReadError::format("the CSV is empty: it has no header"));
        }
        if rows.record().is_too_long() {
            return Err(ReadError::Format(format!("the header is longer than {RECORD_BYTES_MAX} bytes")));
        }
        let plan = Plan::new(mapping, rows.row(), encoding.name()).map_err(ReadError::Format)?;
        Ok(Self {
            rows,
            plan,
            is_utf8: encoding == UTF_8,
            clock: Clock::default(),
            fold: Fold::Earlier,
            before: None,
            is_repeated: false,
        })
    }

    /// Whether a row can be read without those before it.
    pub(crate) fn can_seek(&self) -> bool {
        self.is_utf8 && !self.plan.needs_order()
    }

    /// Goes on elsewhere in the same file, after so many records and lines.
    pub(crate) fn seek(&mut self, bytes: BoundedReader, records: i64, lines: i64) {
        self.rows.seek(bytes, records, lines);
    }

    fn follow(&mut self) {
        let Some(fold) = self.plan.follow(self.rows.row(), &mut self.clock) else {
            (self.fold, self.before, self.is_repeated) = (Fold::Earlier, None, false);
            return;
        };
        let raw = self.rows.record().bytes();
        self.is_repeated = fold == self.fold && self.before.as_deref() == Some(raw);
        (self.fold, self.before) = (fold, Some(raw.to_owned()));
    }
}

impl RecordReader for Table {
    fn advance(&mut self) -> Result<bool, ReadError> {
        let is_there = self.rows.advance()?;
        if is_there && self.plan.needs_order() {
            self.follow();
        }
        Ok(is_there)
    }

    fn raw(&self) -> &[u8] {
        self.rows.record().bytes()
    }

    fn is_too_long(&self) -> bool {
        self.rows.record().is_too_long()
    }

    fn line(&self) -> Option<i64> {
        Some(self.rows.line())
    }

    fn position(&self) -> Position {
        self.rows.position()
    }

    fn draft(&self, user_id: Uuid) -> Result<(EventDraft, MissingId), Vec<FieldProblem>> {
        let draft = self.plan.draft(self.rows.row(), self.fold)?;
        let has_key = draft.id != Sent::Absent || draft.external_id != Sent::Absent;
        if self.is_repeated && !has_key {
            let detail = "equals the row before it, at a time that the clocks show twice: only an offset can tell \
                whether it is another one";
            return Err(vec![FieldProblem::new("/timestamp", Code::InvalidDatetime, detail)]);
        }
        Ok((draft, MissingId::Derived(user_id)))
    }

    fn explain(&self, problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        self.plan.explain(problems)
    }
}
