//! Reads files of events: detects the format, unpacks the bytes and splits them into records.
//!
//! A payload is unpacked ([`Packing`]) and split into records by the reader of its format. Each record
//! becomes an `EventDraft`, which `domain` checks. All code that knows one format is in the module of that
//! format.
//!
//! This crate does not know where the bytes come from ([`Source`]), or what happens to the events. Memory use
//! does not grow with the size of the payload. Reading blocks, so asynchronous callers must read in a thread
//! of their own.

mod apple_health;
mod bounded;
pub mod csv;
mod detect;
mod error;
pub mod json;
mod ndjson;
mod packing;
pub mod preview;
mod reader;
pub mod rejected;
mod source;
#[cfg(test)]
mod tests;

use std::io::Read;

use domain::csv_mapping::CsvMapping;
use domain::import::Format;

use bounded::BoundedReader;
pub use error::ReadError;
pub use packing::Packing;
pub use reader::{ParsedRecord, Position, RecordReader, record_excerpt};
pub use source::{FileSource, Input, PartialSource, Source, SourceError};

/// The place at which reading continues after some records of a payload are done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checkpoint {
    /// Number of records that are done.
    pub records: i64,
    /// Offset in bytes, in the unpacked payload, of the first byte after them.
    pub byte: u64,
    /// Number of lines before that offset; 0 if the format has no lines.
    pub lines: i64,
}

/// Opens a payload to continue reading it at a checkpoint.
///
/// Uncompressed NDJSON, and uncompressed CSV in UTF-8 whose rows do not depend on earlier rows, are read from
/// the checkpoint on. Any other payload is read from its beginning. Returns the reader, and the number of
/// records before the place at which it begins: that of the checkpoint, or 0. The caller skips the other
/// records that are done.
///
/// # Errors
/// [`ReadError::Format`] if the payload is not of the format, or if the CSV mapping does not fit its header.
/// [`ReadError::Limit`] if it is over a limit. [`ReadError::Source`] if its bytes cannot be read.
pub fn open_at_or_before_checkpoint(
    input: &Input,
    format: Format,
    mapping: Option<&CsvMapping>,
    checkpoint: Checkpoint,
) -> Result<(Box<dyn RecordReader>, i64), ReadError> {
    let (packing, head, rest) = open_and_detect_packing(input)?;
    let may_seek = packing == Packing::Plain && checkpoint.byte > 0;
    if may_seek && format == Format::Ndjson {
        drop(rest);
        let bytes = BoundedReader::of_plain(input.open_at_offset(checkpoint.byte)?, checkpoint.byte, input);
        return Ok((Box::new(ndjson::NdjsonReader::new(bytes, checkpoint.lines)), checkpoint.records));
    }
    let mut bytes = unpack_and_refuse_unsupported(packing, head, rest, input)?;
    if format != Format::Csv {
        detect::skip_bom_and_check_format(format, &mut bytes)?;
    }
    Ok(match format {
        Format::Ndjson => (Box::new(ndjson::NdjsonReader::new(bytes, 0)), 0),
        Format::Json => (Box::new(json::ArrayReader::new(bytes)), 0),
        Format::AppleHealth => (Box::new(apple_health::ExportReader::new(bytes)), 0),
        Format::Csv => {
            let mut table =
                csv::Table::open_with_mapping(bytes, &mapping.cloned().unwrap_or_default(), input)?;
            let seeks = may_seek && table.can_begin_at_any_row();
            if seeks {
                let bytes =
                    BoundedReader::of_plain(input.open_at_offset(checkpoint.byte)?, checkpoint.byte, input);
                table.resume_at_checkpoint(bytes, checkpoint.records, checkpoint.lines);
            }
            (Box::new(table), if seeks { checkpoint.records } else { 0 })
        }
    })
}

/// Detects how a payload is packed and which format it has, from its content and, if that is not enough, its
/// file name.
///
/// The format is `None` if neither is enough. If `columns_are_named`, text that is neither JSON nor XML is
/// CSV whatever its file name, and any text in a file named `.csv` or `.tsv` is CSV.
///
/// # Errors
/// [`ReadError::Format`] if the payload cannot be unpacked, is of a kind that is not supported, or is UTF-16
/// or UTF-32 and not a CSV with named columns. [`ReadError::Limit`] if it unpacks to too many bytes.
/// [`ReadError::Source`] if its bytes cannot be read.
pub fn detect_packing_and_format(
    input: &Input,
    file_name: &str,
    columns_are_named: bool,
) -> Result<(Packing, Option<Format>), ReadError> {
    let (packing, head, rest) = open_and_detect_packing(input)?;
    let name =
        if packing == Packing::Zip { packing::zip::chosen_member_name(input)? } else { file_name.to_owned() };
    let mut bytes = match unpack_and_refuse_unsupported(packing, head, rest, input) {
        // No byte of the unpacked content was sent, so only the file name can decide.
        Err(error) if error.is_unsent_bytes_error() => {
            return Ok((packing, detect::format_by_file_name(&name)));
        }
        unpacked => unpacked?,
    };
    let first_bytes = bytes.peek_bytes_before_error(detect::HEAD_BYTES)?;
    if let Some(encoding) = detect::detect_utf16_or_utf32(first_bytes) {
        // Only a CSV may have another encoding than UTF-8. XML in UTF-16 or UTF-32 is recognized by its first
        // `<`.
        let hint = match first_bytes.iter().find(|byte| byte.is_ascii_graphic()) {
            Some(b'<') => "",
            _ if columns_are_named => return Ok((packing, Some(Format::Csv))),
            _ => ", or a CSV with a column mapping",
        };
        return Err(ReadError::Format(format!("the text is {encoding}; send UTF-8{hint}")));
    }
    let first_bytes = if first_bytes.trim_ascii_start().is_empty() {
        bytes.peek_bytes_before_error(detect::WHITE_SPACE_BYTES_MAX)?
    } else {
        first_bytes
    };
    Ok((packing, detect::detect_format(first_bytes, &name, columns_are_named)))
}

/// Opens a payload from its beginning. Returns how it is packed, and a reader of its unpacked bytes. Content
/// that is not supported, such as a PDF or a tar archive, is an error.
fn open_unpacked(input: &Input) -> Result<(Packing, BoundedReader), ReadError> {
    let (packing, head, rest) = open_and_detect_packing(input)?;
    Ok((packing, unpack_and_refuse_unsupported(packing, head, rest, input)?))
}

fn unpack_and_refuse_unsupported(
    packing: Packing,
    head: Vec<u8>,
    rest: source::CountingReader,
    input: &Input,
) -> Result<BoundedReader, ReadError> {
    let mut bytes = packing::open_unpacking_reader(packing, head, rest, input)?;
    detect::refuse_unsupported_content(packing, &mut bytes)?;
    Ok(bytes)
}

/// Opens a payload and detects how it is packed. Returns that, its first packed bytes, and a reader of the
/// packed bytes after them.
fn open_and_detect_packing(input: &Input) -> Result<(Packing, Vec<u8>, source::CountingReader), ReadError> {
    let mut rest = input.open_at_offset(0)?;
    let mut head = Vec::new();
    let read = rest.by_ref().take(detect::HEAD_BYTES as u64).read_to_end(&mut head);
    // If only a part was sent, the same error comes again after the bytes that were read here. Any other
    // error is returned now, because the source might continue after it in another place.
    if let Err(error) = read.map_err(ReadError::from)
        && (head.is_empty() || !error.is_unsent_bytes_error())
    {
        return Err(error);
    }
    Ok((Packing::detect_or_refuse(&head)?, head, rest))
}
