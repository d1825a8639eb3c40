//! What stands before the header of a file, and the delimiter that it is written with.

use domain::csv_mapping::CsvMapping;

use super::header::delimiters;
use crate::ReadError;
use crate::bounded::BoundedReader;

/// Bytes of a line that are looked at.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What was told before the header.
pub(super) struct Begin {
    /// How many lines there were.
    pub(super) lines: i64,
    /// The delimiter.
    pub(super) delimiter: u8,
    /// A line `sep=;` told it.
    pub(super) is_told: bool,
}

/// Passes over the lines before the header.
///
/// Excel takes a first line `sep=;` as an instruction, whatever its language; it counts as one of the lines.
pub(super) fn skip_to_header(bytes: &mut BoundedReader, mapping: &CsvMapping) -> Result<Begin, ReadError> {
    let told = separator(first_line(bytes)?);
    let lines = i64::from(mapping.skip_lines).max(i64::from(told.is_some()));
    for line in 0..lines {
        if !skip_line(bytes)? {
            let detail =
                format!("the CSV has no header: it ends after {line} of {lines} lines to be skipped");
            return Err(ReadError::Format(detail));
        }
    }
    let mut lines = lines;
    // The header is the first line with anything in it.
    while first_line(bytes)?.is_empty() && skip_line(bytes)? {
        lines += 1;
    }
    let delimiter = match (told, mapping.delimiter.as_str()) {
        (Some(told), _) => told,
        (None, "auto") => likely(first_line(bytes)?, &mapping.timestamp_column),
        (None, one) => one.as_bytes().first().copied().unwrap_or(b','),
    };
    Ok(Begin { lines, delimiter, is_told: told.is_some() })
}

/// What comes next up to the end of its line, as far as it is looked at.
fn first_line(bytes: &mut BoundedReader) -> Result<&[u8], ReadError> {
    let block = bytes.look(LINE_BYTES_MAX)?;
    let block = &block[..block.len().min(LINE_BYTES_MAX)];
    Ok(memchr::memchr2(b'\r', b'\n', block).map_or(block, |end| &block[..end]))
}

/// The delimiter that a line `sep=;` tells.
fn separator(line: &[u8]) -> Option<u8> {
    let line = line.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(line);
    let (name, value) = line.split_at_checked(4)?;
    match value {
        [one] if name.eq_ignore_ascii_case(b"sep=") && one.is_ascii() => Some(*one),
        b"\\t" if name.eq_ignore_ascii_case(b"sep=") => Some(b'\t'),
        _ => None,
    }
}

/// Passes over one line; `false` if there is none.
fn skip_line(bytes: &mut BoundedReader) -> Result<bool, ReadError> {
    let mut is_there = false;
    loop {
        let block = bytes.fill()?;
        if block.is_empty() {
            return Ok(is_there);
        }
        is_there = true;
        let Some(end) = memchr::memchr2(b'\r', b'\n', block) else {
            let length = block.len();
            bytes.consume(length);
            continue;
        };
        let is_cr = block[end] == b'\r';
        bytes.consume(end + 1);
        if is_cr && bytes.fill()?.first() == Some(&b'\n') {
            bytes.consume(1);
        }
        return Ok(true);
    }
}

/// The delimiter of a header: the one that makes the column of the time one of its cells, else the one that is there
/// most often.
fn likely(header: &[u8], timestamp_column: &str) -> u8 {
    let cells = |delimiter: char| {
        let mut quoted = false;
        let is_end = move |byte: &u8| {
            quoted ^= *byte == b'"';
            !quoted && *byte == delimiter as u8
        };
        header.split(is_end)
    };
    let is_time = |cell: &[u8]| {
        let cell = cell.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(cell);
        cell == timestamp_column.as_bytes()
    };
    let has_time = |delimiter: &char| cells(*delimiter).any(is_time);
    let by_time = delimiters().filter(|delimiter| cells(*delimiter).count() > 1).find(has_time);
    // Of those that are there as often, the first.
    let by_count = delimiters().rev().max_by_key(|delimiter| cells(*delimiter).count());
    by_time.or(by_count).map_or(b',', |delimiter| delimiter as u8)
}
