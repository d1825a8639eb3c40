//! Rows under a header, as RFC 4180 says, and more leniently: LF, CR and CRLF end lines alike.

use domain::csv_mapping::CsvMapping;
use domain::draft::{MissingId, Sent};
use domain::import::Format;
use domain::limits::RECORD_BYTES_MAX;
use domain::problem::{Code, FieldProblem};
use encoding_rs::{Encoding, UTF_8};
use uuid::Uuid;

use super::begin::{self, Begin};
use super::charset;
use super::clock::{Clock, Fold};
use super::header::Header;
use super::plan::Plan;
use super::rows::Rows;
use crate::bounded::BoundedReader;
use crate::reader::{ParsedRecord, Position, RecordReader};
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

/// A file up to its header: what is known of it without a mapping of its columns.
pub(crate) struct UnmappedTable {
    rows: Rows,
    header: Header,
    width: usize,
    encoding: &'static Encoding,
    begin: Begin,
}

impl UnmappedTable {
    /// Reads the header.
    pub(crate) fn open(bytes: BoundedReader, mapping: &CsvMapping, input: &Input) -> Result<Self, ReadError> {
        let named = charset::by_label(mapping.encoding.as_deref().unwrap_or_default());
        let (mut text, encoding) = charset::decode(bytes, named.map_err(ReadError::Format)?, input)?;
        detect::check_text(Format::Csv, &mut text)?;
        let begin = begin::skip_to_header(&mut text, mapping)?;
        let mut rows = Rows::new(text, begin.delimiter, begin.lines);
        if !rows.advance()? {
            return Err(ReadError::format("the CSV is empty: it has no header"));
        }
        if rows.record().is_too_long() {
            return Err(ReadError::Format(format!("the header is longer than {RECORD_BYTES_MAX} bytes")));
        }
        let header = Header::read(rows.row()).map_err(ReadError::Format)?;
        let width = rows.row().cells;
        Ok(Self { rows, header, width, encoding, begin })
    }

    /// How many cells the header has, those without a name counted.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The current row as CSV with exactly this many cells. Missing cells are empty; surplus cells are dropped.
    pub(crate) fn cut_to(&self, cells: usize) -> Vec<u8> {
        let (row, delimiter) = (self.rows.row(), self.begin.delimiter);
        let mut out = Vec::with_capacity(self.rows.record().len());
        for at in 0..cells {
            if at > 0 {
                out.push(delimiter);
            }
            push_quoted(&mut out, row.bytes(at), delimiter);
        }
        out
    }

    /// Whether the row has cells beyond the header that hold something.
    pub(crate) fn has_surplus(&self) -> bool {
        self.rows.row().has_content_from(self.width)
    }

    /// Lays a mapping over the header.
    ///
    /// # Errors
    /// The table, and why the mapping does not fit.
    pub(crate) fn mapped(self, mapping: &CsvMapping) -> Result<Table, (Box<Self>, String)> {
        let plan = match Plan::new(mapping, &self.header, self.encoding.name()) {
            Ok(plan) => plan,
            Err(detail) => return Err((Box::new(self), detail)),
        };
        Ok(Table {
            rows: self.rows,
            plan,
            is_utf8: self.encoding == UTF_8,
            clock: Clock::default(),
            fold: Fold::Earlier,
            before: None,
            is_repeated: false,
        })
    }

    /// What is to be told of it.
    pub(crate) fn summary(&self) -> CsvSummary {
        CsvSummary {
            header: (0..self.header.len()).map(|at| self.header.name(at).to_owned()).collect(),
            delimiter: char::from(self.begin.delimiter),
            is_delimiter_told: self.begin.is_told,
            encoding: self.encoding.name(),
            lines_before: self.begin.lines,
        }
    }
}

/// Writes a cell, in quotes where it needs them (RFC 4180).
fn push_quoted(out: &mut Vec<u8>, cell: &[u8], delimiter: u8) {
    if !cell.iter().any(|byte| [b'"', b'\r', b'\n', delimiter].contains(byte)) {
        out.extend(cell);
        return;
    }
    out.push(b'"');
    for byte in cell {
        out.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
    }
    out.push(b'"');
}

/// What is to be told of a file of CSV, whatever its columns mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvSummary {
    /// The names of the columns.
    pub header: Vec<String>,
    /// Between two cells.
    pub delimiter: char,
    /// The file begins with a line that tells it.
    pub is_delimiter_told: bool,
    /// The name of its encoding in the WHATWG encoding standard.
    pub encoding: &'static str,
    /// Lines before the header.
    pub lines_before: i64,
}

impl RecordReader for UnmappedTable {
    fn advance(&mut self) -> Result<bool, ReadError> {
        self.rows.advance()
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

    fn read(&self, _: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        Err(Vec::new())
    }

    fn cells(&self) -> Vec<String> {
        self.rows.row().shown()
    }
}

impl Table {
    /// Reads the header.
    pub(crate) fn open(bytes: BoundedReader, mapping: &CsvMapping, input: &Input) -> Result<Self, ReadError> {
        let table = UnmappedTable::open(bytes, mapping, input)?;
        table.mapped(mapping).map_err(|(_, detail)| ReadError::Format(detail))
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

    fn read(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        let (draft, mut problems) = self.plan.draft(self.rows.row(), self.fold)?;
        let has_key = draft.id != Sent::Absent || draft.external_id != Sent::Absent;
        if self.is_repeated && !has_key {
            let detail = "equals the row before it, at a time that the clocks show twice: only an offset can tell \
                whether it is another one";
            problems.push(FieldProblem::new("/timestamp", Code::InvalidDatetime, detail));
        }
        Ok(ParsedRecord { draft, missing_id: MissingId::Derived(user_id), problems })
    }

    fn explain(&self, problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        self.plan.explain(problems)
    }

    fn cells(&self) -> Vec<String> {
        self.rows.row().shown()
    }

    fn column(&self, pointer: &str) -> Option<usize> {
        self.plan.column(pointer)
    }
}
