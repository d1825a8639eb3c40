//! Rows in buffers of a fixed size: neither a long cell nor very many of them take more memory.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use domain::limits::{CSV_COLUMNS_MAX, RECORD_BYTES_MAX};
use domain::rules::csv::Row;

use crate::jobs::decode::Fault;
use crate::jobs::decode::cutter::{Kept, Place};
use crate::jobs::decode::decoded::Decoded;

/// Cuts rows, the header among them. Lines with nothing in them are no rows, but are lines.
pub(super) struct Rows {
    decoded: Decoded,
    reader: Reader,
    /// The cells of the row, their quotes resolved.
    output: Box<[u8]>,
    /// Where they end in `output`.
    ends: Box<[usize]>,
    cells: usize,
    /// The row as it stands in the payload.
    kept: Kept,
    /// The line on which it begins.
    line: i64,
    /// Lines up to its end.
    lines: i64,
    /// Its number; the header is 0.
    number: i64,
}

impl Rows {
    pub(super) fn new(decoded: Decoded, delimiter: u8) -> Self {
        Self {
            decoded,
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            // What does not fit is longer than a record may be.
            output: vec![0; RECORD_BYTES_MAX + 2].into_boxed_slice(),
            ends: vec![0; CSV_COLUMNS_MAX + 1].into_boxed_slice(),
            cells: 0,
            kept: Kept::default(),
            line: 0,
            lines: 0,
            number: -1,
        }
    }

    /// Goes on elsewhere in the same file, behind so many records and lines.
    pub(super) fn go_on(&mut self, decoded: Decoded, records: i64, lines: i64) {
        self.decoded = decoded;
        self.number = records;
        self.lines = lines;
    }

    /// The row; of one that is too long, or has too many cells, only the count of its cells is right.
    pub(super) fn row(&self) -> Row<'_> {
        Row { bytes: &self.output, ends: &self.ends[..self.cells.min(self.ends.len())], cells: self.cells }
    }

    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    pub(super) fn line(&self) -> i64 {
        self.line
    }

    pub(super) fn place(&self) -> Place {
        Place { byte: self.decoded.offset(), lines: self.lines }
    }

    /// Goes to the next row; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, Fault> {
        while self.skip_empty_lines()? {
            self.cut()?;
            if self.cells != 1 || self.kept.is_too_long() || !self.kept.bytes().trim_ascii().is_empty() {
                self.number += 1;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes on behind ends of lines; false at the end of all.
    fn skip_empty_lines(&mut self) -> Result<bool, Fault> {
        let mut last = 0;
        loop {
            let piece = self.decoded.fill()?;
            if piece.is_empty() {
                return Ok(false);
            }
            let length = piece.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let is_over = length < piece.len();
            self.lines += count_lines(&piece[..length], &mut last);
            self.decoded.consume(length);
            if is_over {
                return Ok(true);
            }
        }
    }

    /// Cuts the row that begins here.
    fn cut(&mut self) -> Result<(), Fault> {
        self.kept.clear();
        self.cells = 0;
        self.line = self.lines + 1;
        let (mut last, mut written, mut ended) = (0, 0, 0);
        loop {
            let piece = self.decoded.fill()?;
            // At the end one more line ends, unless a quote is open: then it would be part of a cell.
            let is_at_end = piece.is_empty();
            let input = if is_at_end { b"\n" } else { piece };
            let (output, ends) = (&mut self.output[written..], &mut self.ends[ended..]);
            let (result, read, wrote, cells) = self.reader.read_record(input, output, ends);
            self.lines += count_lines(&input[..read], &mut last);
            if !is_at_end {
                self.kept.extend(&input[..read]);
                self.decoded.consume(read);
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
        self.kept.trim_line_end();
        if last == b'\r' && self.decoded.fill()?.first() == Some(&b'\n') {
            self.decoded.consume(1);
        }
        Ok(())
    }

    fn endless(&self) -> Fault {
        let place = match self.number + 1 {
            0 => "the header".to_owned(),
            number => format!("record {number}"),
        };
        Fault::format(format!("a quote in {place}, which begins on line {}, never ends", self.line))
    }
}

/// Ends of lines in a piece; CRLF is one. `last` is the byte before it, and then its last one.
fn count_lines(piece: &[u8], last: &mut u8) -> i64 {
    let mut count = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', piece) {
        let before = if at == 0 { *last } else { piece[at - 1] };
        count += i64::from(!(piece[at] == b'\n' && before == b'\r'));
    }
    *last = piece.last().copied().unwrap_or(*last);
    count
}
