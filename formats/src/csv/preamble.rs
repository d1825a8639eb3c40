//! Reads what precedes the header of a file, and determines the delimiter.

use domain::csv_mapping::CsvMapping;

use super::header::usual_delimiters;
use crate::ReadError;
use crate::bounded::BoundedReader;

/// Number of bytes of a line that are examined.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What precedes the header of a CSV, and the delimiter.
pub(super) struct Preamble {
    /// Number of lines before the header.
    pub(super) lines: i64,
    /// The delimiter of the cells.
    pub(super) delimiter: u8,
    /// Whether a line such as `sep=;` declares the delimiter.
    pub(super) has_separator_line: bool,
}

/// Moves to the header of a CSV: skips the lines before it, and determines the delimiter.
///
/// Excel obeys a first line `sep=;`, whatever its language. That line counts as one of the lines that the
/// mapping skips.
///
/// # Errors
/// [`ReadError::Format`] if the file ends before the header, or an error of reading.
pub(super) fn read_preamble(bytes: &mut BoundedReader, mapping: &CsvMapping) -> Result<Preamble, ReadError> {
    let declared = declared_delimiter(peek_next_line(bytes)?);
    let lines = i64::from(mapping.skip_lines).max(i64::from(declared.is_some()));
    for line in 0..lines {
        if !skip_line(bytes)? {
            let detail =
                format!("the CSV has no header: it ends after {line} of {lines} lines to be skipped");
            return Err(ReadError::Format(detail));
        }
    }
    let mut lines = lines;
    // The header is the first line that is not empty.
    while peek_next_line(bytes)?.is_empty() && skip_line(bytes)? {
        lines += 1;
    }
    let delimiter = match (declared, mapping.delimiter.as_str()) {
        (Some(declared), _) => declared,
        (None, "auto") => guess_delimiter(peek_next_line(bytes)?, &mapping.timestamp_column),
        (None, one) => one.as_bytes().first().copied().unwrap_or(b','),
    };
    Ok(Preamble { lines, delimiter, has_separator_line: declared.is_some() })
}

/// The bytes of the next line without its line end, at most [`LINE_BYTES_MAX`]. Consumes nothing.
fn peek_next_line(bytes: &mut BoundedReader) -> Result<&[u8], ReadError> {
    let block = bytes.peek_bytes_before_error(LINE_BYTES_MAX)?;
    let block = &block[..block.len().min(LINE_BYTES_MAX)];
    Ok(memchr::memchr2(b'\r', b'\n', block).map_or(block, |end| &block[..end]))
}

/// The delimiter that a line such as `sep=;` declares; `None` if the line is not of that form.
fn declared_delimiter(line: &[u8]) -> Option<u8> {
    let line = line.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(line);
    let (name, value) = line.split_at_checked(4)?;
    match value {
        [one] if name.eq_ignore_ascii_case(b"sep=") && one.is_ascii() => Some(*one),
        b"\\t" if name.eq_ignore_ascii_case(b"sep=") => Some(b'\t'),
        _ => None,
    }
}

/// Skips one line and its line end. Returns `false` at the end of the file.
fn skip_line(bytes: &mut BoundedReader) -> Result<bool, ReadError> {
    let mut has_line = false;
    loop {
        let block = bytes.peek_next_bytes()?;
        if block.is_empty() {
            return Ok(has_line);
        }
        has_line = true;
        let Some(end) = memchr::memchr2(b'\r', b'\n', block) else {
            let length = block.len();
            bytes.consume(length);
            continue;
        };
        let is_cr = block[end] == b'\r';
        bytes.consume(end + 1);
        if is_cr && bytes.peek_next_bytes()?.first() == Some(&b'\n') {
            bytes.consume(1);
        }
        return Ok(true);
    }
}

/// Guesses the delimiter of a header line. It is the one that makes a cell of the name of the timestamp
/// column, or else the most frequent one.
fn guess_delimiter(header: &[u8], timestamp_column: &str) -> u8 {
    let cells = |delimiter: char| {
        let mut is_quoted = false;
        let is_delimiter = move |byte: &u8| {
            is_quoted ^= *byte == b'"';
            !is_quoted && *byte == delimiter as u8
        };
        header.split(is_delimiter)
    };
    let is_time = |cell: &[u8]| {
        let cell = cell.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(cell);
        cell == timestamp_column.as_bytes()
    };
    let has_time = |delimiter: &char| cells(*delimiter).any(is_time);
    let by_time = usual_delimiters().filter(|delimiter| cells(*delimiter).count() > 1).find(has_time);
    // `max_by_key` returns the last maximum. In reverse order, that is the first of equally frequent
    // delimiters.
    let by_count = usual_delimiters().rev().max_by_key(|delimiter| cells(*delimiter).count());
    by_time.or(by_count).map_or(b',', |delimiter| delimiter as u8)
}
