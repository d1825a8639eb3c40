//! Reads rows into buffers of a fixed size. Neither a long cell nor a large number of cells takes more
//! memory.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use domain::limits::{CSV_COLUMNS_MAX, RECORD_BYTES_MAX};

use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::reader::{Position, RecordBuffer, record_excerpt};

/// One row without the quotes and escapes of CSV.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'r> {
    /// The bytes of all cells, one after the other.
    bytes: &'r [u8],
    /// The end of each cell in `bytes`. If the row is too long or has too many cells, these are not the ends
    /// of its first cells.
    ends: &'r [usize],
    /// Number of cells.
    pub(super) cells: usize,
}

impl<'r> Row<'r> {
    /// The text of a cell; `None` if it does not exist or is not UTF-8.
    pub(super) fn cell_text(&self, at: usize) -> Option<&'r str> {
        std::str::from_utf8(self.find_cell_bytes(at)?).ok()
    }

    /// The bytes of a cell; empty if it does not exist.
    pub(super) fn cell_bytes(&self, at: usize) -> &'r [u8] {
        self.find_cell_bytes(at).unwrap_or_default()
    }

    fn find_cell_bytes(&self, at: usize) -> Option<&'r [u8]> {
        let begin = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(begin..*self.ends.get(at)?)
    }

    /// Whether any cell from the index `first_cell` on holds more than white space. True also if the row has
    /// too many cells to know it.
    pub(super) fn has_content_from_cell(&self, first_cell: usize) -> bool {
        if self.cells <= first_cell {
            return false;
        }
        let begin = first_cell.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let cells = begin.zip(self.ends.last()).filter(|_| self.ends.len() == self.cells);
        let cells = cells.and_then(|(begin, end)| self.bytes.get(begin..*end));
        cells.is_none_or(|cells| !cells.trim_ascii().is_empty())
    }

    /// The beginnings of all cells of the row, at most 200 characters each, which can be shown.
    pub(super) fn cell_excerpts(&self) -> Vec<String> {
        (0..self.ends.len()).map(|at| record_excerpt(self.cell_bytes(at))).collect()
    }

    /// Number of bytes of all cells together, without quotes and delimiters.
    pub(super) fn content_byte_count(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }
}

/// Splits a CSV into rows, including the header. Blank lines count for line numbers, but they are not rows.
pub(super) struct Rows {
    bytes: BoundedReader,
    reader: Reader,
    /// The cells of the row, without quotes and escapes.
    output: Box<[u8]>,
    /// The end of each cell in `output`.
    ends: Box<[usize]>,
    cells: usize,
    /// The row with its quotes and escapes, as it is in the payload.
    record: RecordBuffer,
    /// The line on which the row begins.
    line: i64,
    /// Number of lines up to the end of the row.
    lines: i64,
    /// The number of the row; the header is 0.
    number: i64,
}

impl Rows {
    /// Creates a reader of rows. `lines` is the number of lines in the file before the first byte of `bytes`.
    pub(super) fn new(bytes: BoundedReader, delimiter: u8, lines: i64) -> Self {
        Self {
            bytes,
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            // A row that does not fit is longer than a record may be.
            output: vec![0; RECORD_BYTES_MAX + 2].into_boxed_slice(),
            ends: vec![0; CSV_COLUMNS_MAX + 1].into_boxed_slice(),
            cells: 0,
            record: RecordBuffer::default(),
            line: 0,
            lines,
            number: -1,
        }
    }

    /// Continues at another place of the same file, where `bytes` begins. That place is after this number of
    /// records and lines.
    pub(super) fn resume_at_checkpoint(&mut self, bytes: BoundedReader, records: i64, lines: i64) {
        self.bytes = bytes;
        self.number = records;
        self.lines = lines;
    }

    /// The current row. If it is too long or has too many cells, only the number of its cells is right.
    pub(super) fn current_row(&self) -> Row<'_> {
        Row { bytes: &self.output, ends: &self.ends[..self.cells.min(self.ends.len())], cells: self.cells }
    }

    pub(super) fn current_record(&self) -> &RecordBuffer {
        &self.record
    }

    pub(super) fn current_line_number(&self) -> i64 {
        self.line
    }

    pub(super) fn position_after_record(&self) -> Position {
        Position { byte: self.bytes.next_byte_offset(), lines: self.lines }
    }

    /// Moves to the next row that is not blank. Returns `false` at the end of the file.
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

    /// Skips line ends and counts them as lines. Returns `false` at the end of the file.
    fn skip_empty_lines(&mut self) -> Result<bool, ReadError> {
        let mut last = 0;
        loop {
            let block = self.bytes.peek_next_bytes()?;
            if block.is_empty() {
                return Ok(false);
            }
            let length = block.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let has_content = length < block.len();
            self.lines += count_lines(&block[..length], &mut last);
            self.bytes.consume(length);
            if has_content {
                return Ok(true);
            }
        }
    }

    /// Reads the row that begins at the next byte, and its line end.
    fn read_row(&mut self) -> Result<(), ReadError> {
        self.record.clear();
        self.cells = 0;
        self.line = self.lines + 1;
        let (mut last, mut written, mut ended) = (0, 0, 0);
        loop {
            let block = self.bytes.peek_next_bytes()?;
            // The end of the file also ends a line, unless a quote is open: then the line end is a part of a
            // cell.
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
                ReadRecordResult::InputEmpty if is_at_end => return Err(self.unterminated_quote_error()),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => written = 0,
                ReadRecordResult::OutputEndsFull => ended = 0,
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        self.record.trim_line_end();
        if last == b'\r' && self.bytes.peek_next_bytes()?.first() == Some(&b'\n') {
            self.bytes.consume(1);
        }
        Ok(())
    }

    fn unterminated_quote_error(&self) -> ReadError {
        let place = match self.number + 1 {
            0 => "the header".to_owned(),
            number => format!("record {number}"),
        };
        ReadError::Format(format!("a quote in {place}, which begins on line {}, never ends", self.line))
    }
}

/// Number of line ends in a block; CRLF is one. `last` is the byte before the block, and afterwards its last
/// byte.
fn count_lines(block: &[u8], last: &mut u8) -> i64 {
    let mut count = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', block) {
        let before = if at == 0 { *last } else { block[at - 1] };
        count += i64::from(!(block[at] == b'\n' && before == b'\r'));
    }
    *last = block.last().copied().unwrap_or(*last);
    count
}
