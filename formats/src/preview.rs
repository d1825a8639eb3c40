//! A file as an import would read it, before anything is stored: format, packing, header, the first records, and the
//! problems by kind. A page, the command line and the worker read by the same code.

mod shown;
#[cfg(test)]
mod tests;

use domain::csv_mapping::CsvMapping;
use domain::draft::NewEvent;
use domain::import::Format;
use domain::problem::{Code, FieldProblem};
use uuid::Uuid;

use crate::csv::{self, CsvSummary, UnmappedTable};
use crate::{Checkpoint, Input, Packing, ReadError, RecordReader, excerpt};

/// Kinds of problems that are told apart.
const KINDS_MAX: usize = 20;

/// What is to be looked at, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// What the file holds; told by its content if it is not said.
    pub format: Option<Format>,
    /// Its name, which helps where the content does not tell.
    pub file_name: &'r str,
    /// How columns become events.
    pub mapping: Option<&'r CsvMapping>,
    /// How many records are shown.
    pub records: usize,
    /// Whether the records after those are read as well, for their number and their problems.
    pub reads_all: bool,
}

/// What was seen of a file.
#[derive(Debug, Default)]
pub struct Preview {
    /// How it is packed; `None` if in a way that is not read.
    pub packing: Option<Packing>,
    /// What it holds; `None` if that is not known.
    pub format: Option<Format>,
    /// What there is to tell of a CSV.
    pub csv: Option<CsvSummary>,
    /// The first records.
    pub records: Vec<PreviewRecord>,
    /// How many records were read.
    pub read: u64,
    /// How many of them would be rejected.
    pub rejected: u64,
    /// The problems of the records read, by kind, in order of appearance.
    pub kinds: Vec<ProblemKind>,
    /// How many more problems the records have, of kinds that are not told apart any more.
    pub other_problems: u64,
    /// What is wrong with the file or the mapping as a whole.
    pub problems: Vec<FieldProblem>,
    /// There is more of it than was read.
    pub is_cut: bool,
}

/// A record.
#[derive(Debug)]
pub struct PreviewRecord {
    /// Its number, from 1 on.
    pub record: u64,
    /// The line on which it begins, where the format has lines.
    pub line: Option<i64>,
    /// Its cells as they were sent, at most 200 characters of each, where the format has cells.
    pub cells: Vec<String>,
    /// The beginning of it.
    pub excerpt: String,
    /// The event; `None` while no columns are mapped.
    pub event: Option<NewEvent>,
    /// What is wrong with it.
    pub problems: Vec<CellProblem>,
}

/// A problem, and the cell that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellProblem {
    /// What is wrong with which field of the event.
    pub problem: FieldProblem,
    /// The index of the cell, if the problem belongs to one.
    pub column: Option<usize>,
}

/// Problems of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemKind {
    /// The first of them.
    pub problem: FieldProblem,
    /// How many records have it.
    pub records: u64,
    /// The first such record.
    pub record: u64,
    /// Its line, where the format has lines.
    pub line: Option<i64>,
}

/// Looks at a file. Whatever is wrong with it is part of what was seen.
#[must_use]
pub fn preview(input: &Input, request: &Request<'_>) -> Preview {
    let mut preview = Preview::default();
    match crate::detect(input, request.file_name, true) {
        Ok((packing, format)) => (preview.packing, preview.format) = (Some(packing), format),
        Err(error) => {
            preview.packing = crate::begin(input).ok().map(|(packing, ..)| packing);
            preview.end(&error);
        }
    }
    preview.format = request.format.or(preview.format);
    let Some(format) = preview.format.filter(|_| preview.problems.is_empty()) else {
        // The format of any text is known. Without one, nothing of the file within was sent.
        preview.is_cut = preview.problems.is_empty();
        return preview;
    };
    let read = if format == Format::Csv {
        preview.read_csv(input, request)
    } else {
        if request.mapping.is_some() {
            preview.problems.push(FieldProblem::new(
                "/csv",
                Code::InvalidValue,
                "is for the format CSV alone",
            ));
        }
        crate::open(input, format, None, Checkpoint::default())
            .and_then(|(mut reader, _)| preview.read(reader.as_mut(), request, true))
    };
    if let Err(error) = read {
        preview.end(&error);
    }
    preview
}

impl Preview {
    /// Notes why no more can be read.
    fn end(&mut self, error: &ReadError) {
        if error.is_cut() {
            self.is_cut = true;
        } else {
            let code = error.problem().map_or(Code::PayloadFormat, |problem| problem.code);
            self.problems.push(FieldProblem::new("", code, error.to_string()));
        }
    }

    fn read_csv(&mut self, input: &Input, request: &Request<'_>) -> Result<(), ReadError> {
        let auto = CsvMapping { delimiter: "auto".to_owned(), ..CsvMapping::default() };
        let mapping = request.mapping.unwrap_or(&auto);
        let wrong = request.mapping.map(csv::check).unwrap_or_default();
        let concerns_cells = |problem: &FieldProblem| {
            ["/csv/delimiter", "/csv/encoding", "/csv/skipLines"].contains(&problem.pointer.as_str())
        };
        let mut table = open_table(input, if wrong.iter().any(concerns_cells) { &auto } else { mapping })?;
        self.csv = Some(table.summary());
        if request.mapping.is_none() || !wrong.is_empty() {
            self.problems = wrong;
            return self.read(&mut table, request, false);
        }
        match table.mapped(mapping) {
            Ok(mut table) => self.read(&mut table, request, true),
            Err((mut table, detail)) => {
                self.problems.push(FieldProblem::new("/csv", Code::InvalidValue, detail));
                self.read(table.as_mut(), request, false)
            }
        }
    }

    /// Without a mapping nobody was told of the cells that are no text.
    fn doubt_encoding(&mut self, reader: &dyn RecordReader) {
        let is_doubted = self.problems.iter().any(|problem| problem.pointer == "/csv/encoding");
        if !is_doubted && !reader.is_too_long() && std::str::from_utf8(reader.raw()).is_err() {
            let encoding = self.csv.as_ref().map_or("UTF-8", |csv| csv.encoding);
            let detail = format!("the text is not {encoding}: name its encoding, such as windows-1252");
            self.problems.push(FieldProblem::new("/csv/encoding", Code::InvalidValue, detail));
        }
    }

    fn read(
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
                self.doubt_encoding(reader);
            }
            let event = is_mapped.then(|| reader.event(Uuid::nil(), &|_| Uuid::nil()));
            let (event, problems) = match event {
                None => (None, Vec::new()),
                Some(Ok(event)) => (Some(event), Vec::new()),
                Some(Err(problems)) => (None, problems),
            };
            self.rejected += u64::from(!problems.is_empty());
            for problem in &problems {
                self.count(problem, reader.line());
            }
            if self.records.len() < request.records {
                let place = |problem: FieldProblem| {
                    let column = reader.column(&problem.pointer);
                    CellProblem { problem, column }
                };
                self.records.push(PreviewRecord {
                    record: self.read,
                    line: reader.line(),
                    cells: reader.cells(),
                    excerpt: excerpt(reader.raw()),
                    event,
                    problems: problems.into_iter().map(place).collect(),
                });
            }
        }
        self.is_cut = reader.advance()?;
        Ok(())
    }

    fn count(&mut self, problem: &FieldProblem, line: Option<i64>) {
        if let Some(at) = self.kinds.iter().position(|kind| kind.problem == *problem) {
            self.kinds[at].records += 1;
        } else if self.kinds.len() < KINDS_MAX {
            self.kinds.push(ProblemKind { problem: problem.clone(), records: 1, record: self.read, line });
        } else {
            self.other_problems += 1;
        }
    }
}

fn open_table(input: &Input, mapping: &CsvMapping) -> Result<UnmappedTable, ReadError> {
    UnmappedTable::open(crate::unpacked(input)?.1, mapping, input)
}
