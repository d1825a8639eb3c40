//! Shows how an import would read a file, before anything is stored: format, packing, header, first records,
//! and problems.
//!
//! The web page, the command line and the worker read files with the same code.

mod json;
#[cfg(test)]
mod tests;

use domain::csv_mapping::CsvMapping;
use domain::draft::NewEvent;
use domain::import::Format;
use domain::problem::{Code, FieldProblem};
use uuid::Uuid;

use crate::csv::{self, CsvSummary, UnmappedTable};
use crate::{Checkpoint, Input, Packing, ReadError, RecordReader, record_excerpt};

/// Number of kinds of problems that are counted separately.
const KINDS_MAX: usize = 20;

/// Which file to preview, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// The format of the file; `None` to detect it.
    pub format: Option<Format>,
    /// The name of the file, which helps to detect the format if its content does not decide.
    pub file_name: &'r str,
    /// The mapping of CSV columns to the fields of events. Without it, the cells of a CSV are shown, but no
    /// events.
    pub mapping: Option<&'r CsvMapping>,
    /// Number of records to show.
    pub records: usize,
    /// Whether the records after those are read as well, to count them and their problems.
    pub reads_all: bool,
}

/// What a preview shows of a file.
#[derive(Debug, Default)]
pub struct Preview {
    /// How the file is packed; `None` if that is not supported, or if the file cannot be read.
    pub packing: Option<Packing>,
    /// The requested or the detected format; `None` if it is not known.
    pub format: Option<Format>,
    /// The header, the delimiter and the encoding, if the file is a CSV.
    pub csv: Option<CsvSummary>,
    /// The first records, at most as many as were requested.
    pub records: Vec<PreviewRecord>,
    /// Number of records that were read.
    pub read: u64,
    /// Number of these records that an import would reject.
    pub rejected: u64,
    /// The problems of the records that were read, by kind, in the order in which they first occur.
    pub kinds: Vec<ProblemKind>,
    /// Number of problems of other kinds, which are counted together after the first 20 kinds.
    pub other_problems: u64,
    /// Problems of the file or the mapping as a whole.
    pub problems: Vec<FieldProblem>,
    /// Whether the preview ends before the end of the file: after the requested records, or at the end of the
    /// part that was sent or may be unpacked.
    pub is_cut: bool,
}

/// One record of a preview.
#[derive(Debug)]
pub struct PreviewRecord {
    /// Its number, counted from 1.
    pub record: u64,
    /// The line on which it begins. `None` if the format has no lines.
    pub line: Option<i64>,
    /// The cells of a CSV row, without their quotes and each cut to 200 characters. Empty for other formats.
    pub cells: Vec<String>,
    /// The beginning of the record: its first 200 characters.
    pub excerpt: String,
    /// The event that an import would store. `None` if the record has problems, or if a CSV has no valid
    /// mapping.
    pub event: Option<NewEvent>,
    /// The problems of the record.
    pub problems: Vec<CellProblem>,
}

/// A problem, and the cell that causes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellProblem {
    /// The problem of one field of the event.
    pub problem: FieldProblem,
    /// The index of the cell, from 0. `None` if the problem belongs to no single cell.
    pub column: Option<usize>,
}

/// Equal problems of one or more records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemKind {
    /// The problem that the records share.
    pub problem: FieldProblem,
    /// Number of records that have it.
    pub records: u64,
    /// The number of the first such record.
    pub record: u64,
    /// The line of that record. `None` if the format has no lines.
    pub line: Option<i64>,
}

/// Reads the beginning of a file, or all of it if that is requested, and returns how an import would read it.
/// Stores nothing. There is no error: everything that is wrong with the file is part of the result.
#[must_use]
pub fn preview_file(input: &Input, request: &Request<'_>) -> Preview {
    let mut preview = Preview::default();
    match crate::detect_packing_and_format(input, request.file_name, true) {
        Ok((packing, format)) => (preview.packing, preview.format) = (Some(packing), format),
        Err(error) => {
            preview.packing = crate::open_and_detect_packing(input).ok().map(|(packing, ..)| packing);
            preview.note_read_error(&error);
        }
    }
    preview.format = request.format.or(preview.format);
    let Some(format) = preview.format.filter(|_| preview.problems.is_empty()) else {
        // `detect` knows the format of any text here. Without a format, no byte of the unpacked content was
        // sent.
        preview.is_cut = preview.problems.is_empty();
        return preview;
    };
    let result = if format == Format::Csv {
        preview.read_csv(input, request)
    } else {
        if request.mapping.is_some() {
            preview.problems.push(FieldProblem::new(
                "/csv",
                Code::InvalidValue,
                "is for the format CSV alone",
            ));
        }
        crate::open_at_or_before_checkpoint(input, format, None, Checkpoint::default())
            .and_then(|(mut reader, _)| preview.read_records(reader.as_mut(), request, true))
    };
    if let Err(error) = result {
        preview.note_read_error(&error);
    }
    preview
}

impl Preview {
    /// Sets `is_cut` if reading ended because the rest was not sent. Adds any other error to the problems.
    fn note_read_error(&mut self, error: &ReadError) {
        if error.is_unsent_bytes_error() {
            self.is_cut = true;
        } else {
            let code = error.to_problem_if_permanent().map_or(Code::PayloadFormat, |problem| problem.code);
            self.problems.push(FieldProblem::new("", code, error.to_string()));
        }
    }

    fn read_csv(&mut self, input: &Input, request: &Request<'_>) -> Result<(), ReadError> {
        let auto = CsvMapping { delimiter: "auto".to_owned(), ..CsvMapping::default() };
        let mapping = request.mapping.unwrap_or(&auto);
        let mapping_problems = request.mapping.map(csv::check_mapping).unwrap_or_default();
        let affects_cells = |problem: &FieldProblem| {
            ["/csv/delimiter", "/csv/encoding", "/csv/skipLines"].contains(&problem.pointer.as_str())
        };
        let mut table = open_unmapped_table(
            input,
            if mapping_problems.iter().any(affects_cells) { &auto } else { mapping },
        )?;
        self.csv = Some(table.to_summary());
        if request.mapping.is_none() || !mapping_problems.is_empty() {
            self.problems = mapping_problems;
            return self.read_records(&mut table, request, false);
        }
        match table.into_mapped_table(mapping) {
            Ok(mut table) => self.read_records(&mut table, request, true),
            Err((mut table, detail)) => {
                self.problems.push(FieldProblem::new("/csv", Code::InvalidValue, detail));
                self.read_records(table.as_mut(), request, false)
            }
        }
    }

    /// Adds a problem, only once, if a row is not valid text in the encoding of the CSV. This is for rows
    /// that are read without a mapping, because only a mapping checks single cells.
    fn report_if_wrong_encoding(&mut self, reader: &dyn RecordReader) {
        let is_reported = self.problems.iter().any(|problem| problem.pointer == "/csv/encoding");
        if !is_reported && !reader.is_too_long() && std::str::from_utf8(reader.raw_bytes()).is_err() {
            let encoding = self.csv.as_ref().map_or("UTF-8", |csv| csv.encoding);
            let detail = format!("the text is not {encoding}: name its encoding, such as windows-1252");
            self.problems.push(FieldProblem::new("/csv/encoding", Code::InvalidValue, detail));
        }
    }

    fn read_records(
        &mut self,
        reader: &mut dyn RecordReader,
        request: &Request<'_>,
        is_mapped: bool,
    ) -> Result<(), ReadError> {
        while self.records.len() < request.records || request.reads_all {
            if !reader.advance()? {
                return Ok(());
            }
            self.read += 1;
            if !is_mapped {
                self.report_if_wrong_encoding(reader);
            }
            let event = is_mapped.then(|| reader.parse_event_of_record(Uuid::nil(), &|_| Uuid::nil()));
            let (event, problems) = match event {
                None => (None, Vec::new()),
                Some(Ok(event)) => (Some(event), Vec::new()),
                Some(Err(problems)) => (None, problems),
            };
            self.rejected += u64::from(!problems.is_empty());
            for problem in &problems {
                self.count_problem(problem, reader.line_number());
            }
            if self.records.len() < request.records {
                let place = |problem: FieldProblem| {
                    let column = reader.column_index_of_field(&problem.pointer);
                    CellProblem { problem, column }
                };
                self.records.push(PreviewRecord {
                    record: self.read,
                    line: reader.line_number(),
                    cells: reader.cell_excerpts(),
                    excerpt: record_excerpt(reader.raw_bytes()),
                    event,
                    problems: problems.into_iter().map(place).collect(),
                });
            }
        }
        self.is_cut = reader.advance()?;
        Ok(())
    }

    fn count_problem(&mut self, problem: &FieldProblem, line: Option<i64>) {
        if let Some(at) = self.kinds.iter().position(|kind| kind.problem == *problem) {
            self.kinds[at].records += 1;
        } else if self.kinds.len() < KINDS_MAX {
            self.kinds.push(ProblemKind { problem: problem.clone(), records: 1, record: self.read, line });
        } else {
            self.other_problems += 1;
        }
    }
}

fn open_unmapped_table(input: &Input, mapping: &CsvMapping) -> Result<UnmappedTable, ReadError> {
    UnmappedTable::open(crate::open_unpacked(input)?.1, mapping, input)
}
