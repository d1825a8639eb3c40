//! Reads rows under a header, as in RFC 4180 but more leniently: LF, CR and CRLF all end a line.

use domain::csv_mapping::CsvMapping;
use domain::draft::{MissingId, Sent};
use domain::import::Format;
use domain::limits::RECORD_BYTES_MAX;
use domain::problem::{Code, FieldProblem};
use encoding_rs::{Encoding, UTF_8};
use uuid::Uuid;

use super::charset;
use super::fold::{Fold, FoldTracker};
use super::header::Header;
use super::preamble::{self, Preamble};
use super::resolved_mapping::ResolvedMapping;
use super::rows::Rows;
use crate::bounded::BoundedReader;
use crate::reader::{ParsedRecord, Position, RecordReader};
use crate::{Input, ReadError, detect};

/// Reads the rows of a CSV, and makes events of them by a mapping.
pub(crate) struct Table {
    rows: Rows,
    mapping: ResolvedMapping,
    is_utf8: bool,
    /// The order of the rows so far. It is tracked only if it may decide which instant a time means.
    fold_tracker: FoldTracker,
    /// Which instant the time of the current row means if it is ambiguous.
    fold: Fold,
    /// The previous row, if its time is ambiguous.
    previous_row: Option<Vec<u8>>,
    /// Whether the current row equals the previous one, and both have the same ambiguous time.
    is_repeated: bool,
}

/// A CSV whose header was read, without a mapping of its columns. It can read rows, but makes no events.
pub(crate) struct UnmappedTable {
    rows: Rows,
    header: Header,
    width: usize,
    encoding: &'static Encoding,
    preamble: Preamble,
}

impl UnmappedTable {
    /// Opens a CSV: determines its encoding and delimiter, and reads its header. Of `mapping`, only what
    /// concerns these is used.
    ///
    /// # Errors
    /// [`ReadError::Format`] if there is no header, or it is too long, has too many columns or cannot be
    /// decoded. Otherwise an error of reading.
    pub(crate) fn open(bytes: BoundedReader, mapping: &CsvMapping, input: &Input) -> Result<Self, ReadError> {
        let named = charset::encoding_by_label(mapping.encoding.as_deref().unwrap_or_default());
        let (mut text, encoding) = charset::decode_to_utf8(bytes, named.map_err(ReadError::Format)?, input)?;
        detect::skip_bom_and_check_format(Format::Csv, &mut text)?;
        let preamble = preamble::read_preamble(&mut text, mapping)?;
        let mut rows = Rows::new(text, preamble.delimiter, preamble.lines);
        if !rows.advance()? {
            return Err(ReadError::new_format_error("the CSV is empty: it has no header"));
        }
        if rows.current_record().is_too_long() {
            return Err(ReadError::Format(format!("the header is longer than {RECORD_BYTES_MAX} bytes")));
        }
        let header = Header::from_row(rows.current_row()).map_err(ReadError::Format)?;
        let width = rows.current_row().cells;
        Ok(Self { rows, header, width, encoding, preamble })
    }

    /// Number of cells of the header row, including those without a name.
    pub(crate) fn header_cell_count(&self) -> usize {
        self.width
    }

    /// The current row as CSV with exactly this many cells. Missing cells are empty, and surplus cells are
    /// dropped.
    pub(crate) fn csv_row_of_cell_count(&self, cells: usize) -> Vec<u8> {
        let (row, delimiter) = (self.rows.current_row(), self.preamble.delimiter);
        let mut out = Vec::with_capacity(self.rows.current_record().record_length());
        for at in 0..cells {
            if at > 0 {
                out.push(delimiter);
            }
            push_quoted_cell(&mut out, row.cell_bytes(at), delimiter);
        }
        out
    }

    /// Whether the current row has cells beyond the header that are not empty.
    pub(crate) fn has_surplus_cells(&self) -> bool {
        self.rows.current_row().has_content_from_cell(self.width)
    }

    /// Applies a mapping to the header.
    ///
    /// # Errors
    /// This table, and the detail of a problem, if the mapping does not fit the header.
    pub(crate) fn into_mapped_table(self, mapping: &CsvMapping) -> Result<Table, (Box<Self>, String)> {
        let resolved = match ResolvedMapping::new(mapping, &self.header, self.encoding.name()) {
            Ok(resolved) => resolved,
            Err(detail) => return Err((Box::new(self), detail)),
        };
        Ok(Table {
            rows: self.rows,
            mapping: resolved,
            is_utf8: self.encoding == UTF_8,
            fold_tracker: FoldTracker::default(),
            fold: Fold::Earlier,
            previous_row: None,
            is_repeated: false,
        })
    }

    /// Returns the column names, the delimiter and the encoding of the file.
    pub(crate) fn to_summary(&self) -> CsvSummary {
        CsvSummary {
            header: (0..self.header.column_count())
                .map(|at| self.header.column_name(at).to_owned())
                .collect(),
            delimiter: char::from(self.preamble.delimiter),
            has_separator_line: self.preamble.has_separator_line,
            encoding: self.encoding.name(),
            lines_before: self.preamble.lines,
        }
    }
}

/// Writes a cell, in quotes where it needs them (RFC 4180).
fn push_quoted_cell(out: &mut Vec<u8>, cell: &[u8], delimiter: u8) {
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

/// Describes a CSV, without the meaning of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvSummary {
    /// The names of the columns.
    pub header: Vec<String>,
    /// The delimiter between two cells.
    pub delimiter: char,
    /// Whether the file begins with a line such as `sep=;`, which declares the delimiter.
    pub has_separator_line: bool,
    /// Name of its encoding in the WHATWG encoding standard.
    pub encoding: &'static str,
    /// Number of lines before the header.
    pub lines_before: i64,
}

impl RecordReader for UnmappedTable {
    fn advance(&mut self) -> Result<bool, ReadError> {
        self.rows.advance()
    }

    fn raw_bytes(&self) -> &[u8] {
        self.rows.current_record().bytes()
    }

    fn is_too_long(&self) -> bool {
        self.rows.current_record().is_too_long()
    }

    fn line_number(&self) -> Option<i64> {
        Some(self.rows.current_line_number())
    }

    fn position_after_record(&self) -> Position {
        self.rows.position_after_record()
    }

    fn parse_record(&self, _: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        Err(Vec::new())
    }

    fn cell_excerpts(&self) -> Vec<String> {
        self.rows.current_row().cell_excerpts()
    }
}

impl Table {
    /// Opens a CSV, reads its header, and applies a mapping to it.
    ///
    /// # Errors
    /// [`ReadError::Format`] also if the mapping does not fit the header. Otherwise as for
    /// [`UnmappedTable::open`].
    pub(crate) fn open_with_mapping(
        bytes: BoundedReader,
        mapping: &CsvMapping,
        input: &Input,
    ) -> Result<Self, ReadError> {
        let table = UnmappedTable::open(bytes, mapping, input)?;
        table.into_mapped_table(mapping).map_err(|(_, detail)| ReadError::Format(detail))
    }

    /// Whether reading can begin at any row: the file is UTF-8, so that offsets in its text are offsets in
    /// the payload, and no row depends on the rows before it.
    pub(crate) fn can_begin_at_any_row(&self) -> bool {
        self.is_utf8 && !self.mapping.needs_row_order()
    }

    /// Continues at another place of the same file, where `bytes` begins. That place is after this number of
    /// records and lines.
    pub(crate) fn resume_at_checkpoint(&mut self, bytes: BoundedReader, records: i64, lines: i64) {
        self.rows.resume_at_checkpoint(bytes, records, lines);
    }

    fn update_fold_and_repetition(&mut self) {
        let Some(fold) = self.mapping.note_row_time_and_fold(self.rows.current_row(), &mut self.fold_tracker)
        else {
            (self.fold, self.previous_row, self.is_repeated) = (Fold::Earlier, None, false);
            return;
        };
        let raw = self.rows.current_record().bytes();
        self.is_repeated = fold == self.fold && self.previous_row.as_deref() == Some(raw);
        (self.fold, self.previous_row) = (fold, Some(raw.to_owned()));
    }
}

impl RecordReader for Table {
    fn advance(&mut self) -> Result<bool, ReadError> {
        let has_row = self.rows.advance()?;
        if has_row && self.mapping.needs_row_order() {
            self.update_fold_and_repetition();
        }
        Ok(has_row)
    }

    fn raw_bytes(&self) -> &[u8] {
        self.rows.current_record().bytes()
    }

    fn is_too_long(&self) -> bool {
        self.rows.current_record().is_too_long()
    }

    fn line_number(&self) -> Option<i64> {
        Some(self.rows.current_line_number())
    }

    fn position_after_record(&self) -> Position {
        self.rows.position_after_record()
    }

    fn parse_record(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        let (draft, mut problems) = self.mapping.read_draft(self.rows.current_row(), self.fold)?;
        let has_key = draft.id != Sent::Absent || draft.external_id != Sent::Absent;
        if self.is_repeated && !has_key {
            let detail = "equals the row before it, at a time that the clocks show twice: \
                only an offset can show whether it is another event";
            problems.push(FieldProblem::new("/timestamp", Code::InvalidDatetime, detail));
        }
        Ok(ParsedRecord { draft, missing_id: MissingId::Derived(user_id), problems })
    }

    fn explain_problems(&self, problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        self.mapping.add_column_names_to_problems(problems)
    }

    fn cell_excerpts(&self) -> Vec<String> {
        self.rows.current_row().cell_excerpts()
    }

    fn column_index_of_field(&self, pointer: &str) -> Option<usize> {
        self.mapping.column_index_of_field(pointer)
    }
}
