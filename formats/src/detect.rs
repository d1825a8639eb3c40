//! Detects the format of a payload from its first unpacked bytes, and checks whether it is the announced
//! format.

use domain::import::Format;

use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::packing::{Packing, packing_name_by_magic};

/// Number of bytes from which packing and format are detected.
pub(crate) const HEAD_BYTES: usize = 512;
/// Number of bytes that are searched for the first byte that is not white space.
pub(crate) const WHITE_SPACE_BYTES_MAX: usize = 32 * 1024;
/// The byte order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Checks the first unpacked bytes. Refuses payloads that are packed twice, tar archives, and known kinds of
/// files that hold no records, such as PDF. Consumes nothing.
///
/// # Errors
/// [`ReadError::Format`] if the payload is one of these. Otherwise an error of reading.
pub(crate) fn refuse_unsupported_content(
    packing: Packing,
    reader: &mut BoundedReader,
) -> Result<(), ReadError> {
    let begin = reader.peek_bytes_before_error(HEAD_BYTES)?;
    if let Some(kind) = unsupported_kind_name(begin) {
        return Err(ReadError::Format(format!(
            "{kind} is not read: send CSV, JSON, NDJSON or an export of Apple Health"
        )));
    }
    match packing_name_by_magic(begin) {
        Some("tar") => Err(ReadError::new_format_error("a tar archive is not read; send its one file")),
        Some(inner) if packing != Packing::Plain => {
            let detail = format!("the payload is compressed twice: {inner} inside of {}", packing.name());
            Err(ReadError::Format(detail))
        }
        _ => Ok(()),
    }
}

/// The name of a kind of file that people send although it holds no records, by its first bytes.
fn unsupported_kind_name(begin: &[u8]) -> Option<&'static str> {
    let table: [(&[u8], &str); 5] = [
        (b"%PDF-", "a PDF"),
        (b"SQLite format 3\0", "a database of SQLite"),
        (b"PAR1\x15", "a file of Parquet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old file of Office"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
    ];
    let text = begin.strip_prefix(BOM).unwrap_or(begin).trim_ascii_start();
    let is_page = [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| text.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag)));
    let by_magic = table.into_iter().find(|(magic, _)| begin.starts_with(magic)).map(|(_, kind)| kind);
    by_magic.or(is_page.then_some("a page of HTML"))
}

/// Skips a byte order mark of UTF-8. Refuses text in UTF-16 or UTF-32, and text whose beginning shows that it
/// is not of this format.
///
/// # Errors
/// [`ReadError::Format`] if the text is refused. Otherwise an error of reading.
pub(crate) fn skip_bom_and_check_format(format: Format, reader: &mut BoundedReader) -> Result<(), ReadError> {
    if let Some(encoding) = detect_utf16_or_utf32(reader.peek_bytes_before_error(HEAD_BYTES)?) {
        let hint = if format == Format::Csv { ", or name its encoding in the mapping" } else { "" };
        return Err(ReadError::Format(format!("the text is {encoding}; send UTF-8{hint}")));
    }
    if reader.peek_bytes_before_error(HEAD_BYTES)?.starts_with(BOM) {
        reader.consume(BOM.len());
    }
    let begin = reader.peek_bytes_before_error(HEAD_BYTES)?;
    let begin = if begin.trim_ascii_start().is_empty() {
        reader.peek_bytes_before_error(WHITE_SPACE_BYTES_MAX)?
    } else {
        begin
    };
    match format_mismatch_detail(format, begin.trim_ascii_start()) {
        Some(detail) => Err(ReadError::new_format_error(detail)),
        None => Ok(()),
    }
}

/// Returns `UTF-16` or `UTF-32` if the first bytes of a text show that encoding, by a byte order mark or by
/// NUL bytes. `None` for any other text.
pub(crate) fn detect_utf16_or_utf32(begin: &[u8]) -> Option<&'static str> {
    match begin {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("UTF-16"),
        _ => {}
    }
    // Without a byte order mark, the first characters are ASCII, and the other bytes of each character are
    // NUL.
    let begin = begin.get(..8)?;
    let are_nul = |places: [usize; 4]| places.into_iter().all(|at| begin[at] == 0);
    let [even, odd] = [are_nul([0, 2, 4, 6]), are_nul([1, 3, 5, 7])];
    match (even, odd) {
        (true, true) => None,
        (true, false) | (false, true) => {
            let is_32 = are_nul([1, 2, 5, 6]);
            Some(if is_32 { "UTF-32" } else { "UTF-16" })
        }
        (false, false) => None,
    }
}

/// Why text is not of a format; `None` if its beginning does not show that. `begin` holds its first bytes,
/// without white space before them.
fn format_mismatch_detail(format: Format, begin: &[u8]) -> Option<&'static str> {
    // There is only white space so far. The reader of the format decides.
    let first = *begin.first()?;
    let is_xml = first == b'<' && begin.get(1).is_some_and(|c| c.is_ascii_alphabetic() || b"?!".contains(c));
    match format {
        Format::AppleHealth => {
            (first != b'<').then_some("is not XML: an export of Apple Health is an XML file")
        }
        _ if is_xml => Some("looks like XML: for an export of Apple Health the format is APPLE_HEALTH"),
        Format::Ndjson => (first == b'[').then_some("looks like a JSON array: use the format JSON"),
        Format::Json if first == b'{' => Some(
            "looks like JSON objects without an array around them: if each is on its own line, \
                 use the format NDJSON",
        ),
        Format::Json => (first != b'[').then_some("is not a JSON array"),
        Format::Csv if begin.starts_with(b"{\"") => Some("looks like JSON objects: use the format NDJSON"),
        Format::Csv => begin.starts_with(b"[{").then_some("looks like a JSON array: use the format JSON"),
    }
}

/// The format of text with these first bytes, in a file with this name. `None` if neither decides. If
/// `columns_are_named`, text that is neither JSON nor XML is CSV, and so is any text in a file named `.csv`
/// or `.tsv`.
pub(crate) fn detect_format(begin: &[u8], name: &str, columns_are_named: bool) -> Option<Format> {
    let by_name = format_by_file_name(name);
    let is_called_csv = by_name == Some(Format::Csv);
    let text = begin.strip_prefix(BOM).unwrap_or(begin).trim_ascii_start();
    match text.first() {
        // The header of a CSV may begin with a bracket.
        Some(_) if is_called_csv && columns_are_named => Some(Format::Csv),
        Some(b'[') => Some(Format::Json),
        Some(b'{') => Some(Format::Ndjson),
        Some(b'<') => Some(Format::AppleHealth),
        Some(_) if columns_are_named || is_called_csv => Some(Format::Csv),
        Some(_) => None,
        None => by_name.or(Some(Format::Ndjson)),
    }
}

/// The format for which the extension of a file name stands; `None` if it is not known. An extension `.gz` or
/// `.zst` after it is ignored.
pub(crate) fn format_by_file_name(name: &str) -> Option<Format> {
    let name = name.to_lowercase();
    let stem = name.trim_end_matches(".gz").trim_end_matches(".zst");
    match stem.rsplit_once('.')?.1 {
        "csv" | "tsv" => Some(Format::Csv),
        "json" => Some(Format::Json),
        "xml" => Some(Format::AppleHealth),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        _ => None,
    }
}
