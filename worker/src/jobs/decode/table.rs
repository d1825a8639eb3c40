//! Rows under a header, as RFC 4180 says, and more leniently: LF, CR and CRLF end lines alike.

mod rows;

use domain::limits::RECORD_BYTES_MAX;
use domain::rules::csv::{CsvMapping, Plan};
use domain::rules::draft::{EventDraft, MissingId};
use domain::rules::problem::FieldProblem;
use uuid::Uuid;

use super::Fault;
use super::cutter::{Cutter, Place};
use super::decoded::Decoded;
use rows::Rows;

/// Cuts rows, and reads them by the mapping.
pub(super) struct Table {
    rows: Rows,
    plan: Plan,
}

impl Table {
    /// Reads the header.
    pub(super) fn open(decoded: Decoded, mapping: &CsvMapping) -> Result<Self, Fault> {
        let delimiter = mapping.delimiter.as_bytes().first().copied().unwrap_or(b',');
        let mut rows = Rows::new(decoded, delimiter);
        if !rows.advance()? {
            return Err(Fault::format("the CSV is empty: it has no header"));
        }
        if rows.kept().is_too_long() {
            return Err(Fault::format(format!("the header is longer than {RECORD_BYTES_MAX} bytes")));
        }
        let plan = Plan::new(mapping, rows.row()).map_err(Fault::format)?;
        Ok(Self { rows, plan })
    }

    /// Goes on elsewhere in the same file, behind so many records and lines.
    pub(super) fn go_on(&mut self, decoded: Decoded, records: i64, lines: i64) {
        self.rows.go_on(decoded, records, lines);
    }
}

impl Cutter for Table {
    fn advance(&mut self) -> Result<bool, Fault> {
        self.rows.advance()
    }

    fn raw(&self) -> &[u8] {
        self.rows.kept().bytes()
    }

    fn is_too_long(&self) -> bool {
        self.rows.kept().is_too_long()
    }

    fn line(&self) -> Option<i64> {
        Some(self.rows.line())
    }

    fn place(&self) -> Place {
        self.rows.place()
    }

    fn draft(&self, user_id: Uuid) -> Result<(EventDraft, MissingId), Vec<FieldProblem>> {
        Ok((self.plan.draft(self.rows.row())?, MissingId::Derived(user_id)))
    }

    fn explain(&self, problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        self.plan.explain(problems)
    }
}
