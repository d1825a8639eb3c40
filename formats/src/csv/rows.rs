//! Rows in buffers of a fixed size: neither a long cell nor very many of them take more memory.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use domain::limits::{CSV_COLUMNS_MAX, RECORD_BYTES_MAX};

use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::reader::{Position, RecordBuffer, excerpt};

/// One row, its quotes resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'r> {
    /// Its cells without anything between them.
    bytes: &'r [u8],
    /// Where each cell ends; of a row with too many cells those of the first.
    ends: &'r [usize],
    /// How many cells it has.
    pub(super) cells: usize,
}

impl<'r> Row<'r> {
    /// A cell; `None` if it is not there, or is not UTF-8.
    pub(super) fn cell(&self, at: usize) -> Option<&'r str> {
        std::str::from_utf8(self.range(at)?).ok()
    }

    /// The bytes of a cell; none if it is not there.
    pub(super) fn bytes(&self, at: usize) -> &'r [u8] {
        self.range(at).unwrap_or_default()
    }

    fn range(&self, at: usize) -> Option<&'r [u8]> {
        let begin = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(begin..*self.ends.get(at)?)
    }

    /// Whether a cell from this one on holds anything but blanks.
    pub(super) fn has_content_from(&self, at: usize) -> bool {
        if self.cells <= at {
            return false;
        }
        let begin = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let cells = begin.zip(self.ends.last()).filter(|_| self.ends.len() == self.cells);
        let cells = cells.and_then(|(begin, end)| self.bytes.get(begin..*end));
        cells.is_none_or(|cells| !cells.trim_ascii().is_empty())
    }

    /// Its cells, as far as they can be shown.
    pub(super) fn shown(&self) -> Vec<String> {
        (0..self.ends.len()).map(|at| excerpt(self.bytes(at))).collect()
    }

    /// Bytes of its cells.
    pub(super) fn length(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }
}

/// Reads rows, the header among them. Lines with nothing in them are no rows, but are lines.
pub(super) struct Rows {
    bytes: BoundedReader,
    reader: Reader,
    /// The cells of the row, their quotes resolved.
    output: Box<[u8]>,
    /// Where they end in `output`.
    ends: Box<[usize]>,
    cells: usize,
    /// The row as it stands in the payload.
    record: RecordBuffer,
    /// The line on which it begins.
    line: i64,
    /// Lines up to its end.
    lines: i64,
    /// Its number; the header is 0.
    number: i64,
}

impl Rows {
    /// The rows after so many lines.
    pub(super) fn new(bytes: BoundedReader, delimiter: u8, lines: i64) -> Self {
        Self {
            bytes,
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            // What does not fit is longer than a record may be.
            output: vec![0; RECORD_BYTES_MAX + 2].into_boxed_slice(),
            ends: vec![0; CSV_COLUMNS_MAX + 1].into_boxed_slice(),
            cells: 0,
            record: RecordBuffer::default(),
            line: 0,
            lines,
            number: -1,
        }
    }

    /// Goes on elsewhere in the same file, after so many records and lines.
    pub(super) fn seek(&mut self, bytes: BoundedReader, records: i64, lines: i64) {
        self.bytes = bytes;
        self.number = records;
        self.lines = lines;
    }

    /// The row; of one that is too long, or has too many cells, only the count of its cells is right.
    pub(super) fn row(&self) -> Row<'_> {
        Row { bytes: &self.output, ends: &self.ends[..self.cells.min(self.ends.len())], cells: self.cells }
    }

    pub(super) fn record(&self) -> &RecordBuffer {
        &self.record
    }

    pub(super) fn line(&self) -> i64 {
        self.line
    }

    pub(super) fn position(&self) -> Position {
        Position { byte: self.bytes.offset(), lines: self.lines }
    }

    /// Goes to the next row; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, ReadError> {
        while self.skip_empty_lines()? {
            self.read_row()?;
            let is_blank = self.cells == 1 && self.record.bytes().trim_ascii().is_empty();
            if !is_blank || self.record.is_too_long() {
                self.number += 1;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes on after ends of lines; `false` at the end of all.
    fn skip_empty_lines(&mut self) -> Result<bool, ReadError> {
        let mut last = 0;
        loop {
            let block = self.bytes.fill()?;
            if block.is_empty() {
                return Ok(false);
            }
            let length = block.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let is_over = length < block.len();
            self.lines += count_lines(&block[..length], &mut last);
            self.bytes.consume(length);
            if is_over {
                return Ok(true);
            }
        }
    }

    /// Reads the row that begins here.
    fn read_row(&mut self) -> Result<(), ReadError> {
        self.record.clear();
        self.cells = 0;
        self.line = self.lines + 1;
        let (mut last, mut written, mut ended) = (0, 0, 0);
        loop {
            let block = self.bytes.fill()?;
            // At the end one more line ends, unless a quote is open: then it would be part of a cell.
            let is_at_end = block.is_empty();
            let input = if is_at_end { b"\n" } else { block };
            let (output, ends) = (&mut self.output[written..], &mut self.ends[ended..]);
            let (result, read, wrote, cells) = self.reader.read_record(input, output, ends);
            self.lines += count_lines(&input[..read], &mut last);
            if !is_at_end {
                self.record.extend(&input[..read]);
                self.bytes.consume(read);
            }
            self.cells += cells;
            written += wrote;
            ended += cells;
            match result {
                ReadRecordResult::InputEmpty if is_at_end => return Err(self.endless()),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => written = 0,
                ReadRecordResult::OutputEndsFull => ended = 0,
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        self.record.trim_line_end();
        if last == b'\r' && self.bytes.fill()?.first() == Some(&b'\n') {
            self.bytes.consume(1);
        }
        Ok(())
    }

    fn endless(&self) -> ReadError {
        let place = match self.number + 1 {
            0 => "the header".to_owned(),
            number => format!("record {number}"),
        };
        ReadError::Format(format!("a quote in {place}, which begins on line {}, never ends", self.line))
    }
}

/// Ends of lines in a block; CRLF is one. `last` is the byte before it, and then its last one.
fn count_lines(block: &[u8], last: &mut u8) -> i64 {
    let mut count = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', block) {
        let before = if at == 0 { *last } else { block[at - 1] };
        count += i64::from(!(block[at] == b'\n' && before == b'\r'));
    }
    *last = block.last().copied().unwrap_or(*last);
    count
}
