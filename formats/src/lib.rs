//! Files of events: what they hold, and their records one after the other.
//!
//! A payload is unpacked ([`Packing`]) and split into records by the reader of its format, and each record becomes an
//! `EventDraft`, which `domain` checks. Everything that knows one format stands in its module. Nothing here knows where
//! the bytes come from ([`Source`]) or what becomes of the events. Memory is flat in the size of the payload, and reading
//! blocks: callers that are asynchronous read in a thread of their own.

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
pub use reader::{ParsedRecord, Position, RecordReader, excerpt};
pub use source::{FileSource, Input, PartialSource, Source, SourceError};

/// Where to go on in a payload, of which some records are done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checkpoint {
    /// How many records are done.
    pub records: i64,
    /// Where the payload goes on after them.
    pub byte: u64,
    /// The lines before that.
    pub lines: i64,
}

/// Opens a payload at a checkpoint. Plain text is sought; anything else is unpacked from its beginning. Returns the
/// reader, and how many records lie before the place where it begins: the caller passes over the rest.
///
/// # Errors
/// If the payload is not of the format, is over a limit, or cannot be fetched.
pub fn open(
    input: &Input,
    format: Format,
    mapping: Option<&CsvMapping>,
    checkpoint: Checkpoint,
) -> Result<(Box<dyn RecordReader>, i64), ReadError> {
    let (packing, head, rest) = begin(input)?;
    let is_sought = packing == Packing::Plain && checkpoint.byte > 0;
    if is_sought && format == Format::Ndjson {
        drop(rest);
        let bytes = BoundedReader::plain(input.open(checkpoint.byte)?, checkpoint.byte, input);
        return Ok((Box::new(ndjson::Lines::new(bytes, checkpoint.lines)), checkpoint.records));
    }
    let mut bytes = unpack(packing, head, rest, input)?;
    if format != Format::Csv {
        detect::check_text(format, &mut bytes)?;
    }
    Ok(match format {
        Format::Ndjson => (Box::new(ndjson::Lines::new(bytes, 0)), 0),
        Format::Json => (Box::new(json::Array::new(bytes)), 0),
        Format::AppleHealth => (Box::new(apple_health::Export::new(bytes)), 0),
        Format::Csv => {
            let mut table = csv::Table::open(bytes, &mapping.cloned().unwrap_or_default(), input)?;
            let is_sought = is_sought && table.can_seek();
            if is_sought {
                let bytes = BoundedReader::plain(input.open(checkpoint.byte)?, checkpoint.byte, input);
                table.seek(bytes, checkpoint.records, checkpoint.lines);
            }
            (Box::new(table), if is_sought { checkpoint.records } else { 0 })
        }
    })
}

/// The format of a payload, by its content and, where that does not tell, by its file name. `None`: neither tells it.
/// Text that is neither JSON nor XML is CSV if columns of it were named.
///
/// # Errors
/// If the payload cannot be unpacked, or cannot be fetched.
pub fn detect(
    input: &Input,
    file_name: &str,
    columns_are_named: bool,
) -> Result<(Packing, Option<Format>), ReadError> {
    let (packing, head, rest) = begin(input)?;
    let name = if packing == Packing::Zip { packing::zip::name(input)? } else { file_name.to_owned() };
    let mut bytes = match unpack(packing, head, rest, input) {
        // Of the file within, nothing was sent.
        Err(error) if error.is_cut() => return Ok((packing, detect::format_by_name(&name))),
        unpacked => unpacked?,
    };
    let begin = bytes.look(detect::HEAD_BYTES)?;
    if let Some(encoding) = detect::wide_encoding(begin) {
        // Only a CSV may be of another encoding; an XML of it begins with a bracket all the same.
        let way_out = match begin.iter().find(|byte| byte.is_ascii_graphic()) {
            Some(b'<') => "",
            _ if columns_are_named => return Ok((packing, Some(Format::Csv))),
            _ => ", or a CSV with its columns named",
        };
        return Err(ReadError::Format(format!("the text is {encoding}; send UTF-8{way_out}")));
    }
    let begin = if begin.trim_ascii_start().is_empty() { bytes.look(detect::BLANKS_MAX)? } else { begin };
    Ok((packing, detect::format_of(begin, &name, columns_are_named)))
}

/// How a payload is packed, and all of it unpacked.
fn unpacked(input: &Input) -> Result<(Packing, BoundedReader), ReadError> {
    let (packing, head, rest) = begin(input)?;
    Ok((packing, unpack(packing, head, rest, input)?))
}

fn unpack(
    packing: Packing,
    head: Vec<u8>,
    rest: source::CountingReader,
    input: &Input,
) -> Result<BoundedReader, ReadError> {
    let mut bytes = packing::unpack(packing, head, rest, input)?;
    detect::check_packing(packing, &mut bytes)?;
    Ok(bytes)
}

/// How a payload is packed, its first bytes, and the rest of it.
fn begin(input: &Input) -> Result<(Packing, Vec<u8>, source::CountingReader), ReadError> {
    let mut rest = input.open(0)?;
    let mut head = Vec::new();
    let read = rest.by_ref().take(detect::HEAD_BYTES as u64).read_to_end(&mut head);
    // Where only a part was sent, its end is met again after what was read of it. Any other error is met here.
    if let Err(error) = read.map_err(ReadError::from)
        && (head.is_empty() || !error.is_cut())
    {
        return Err(error);
    }
    Ok((Packing::of(&head)?, head, rest))
}
