//! What a payload is by its first bytes, and whether that is what was announced.

use domain::rules::import::Format;

use super::Fault;
use super::decoded::Decoded;

/// Bytes that tell what a payload is.
pub(super) const HEAD_BYTES: u64 = 512;
/// Bytes among which the first one that is not blank is looked for.
const BLANKS_MAX: usize = 32 * 1024;

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    Plain,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// An archive.
    Zip,
}

/// How a payload that begins so is packed.
pub(super) fn packing(begin: &[u8]) -> Result<Packing, Fault> {
    match magic(begin) {
        None => Ok(Packing::Plain),
        Some("gzip") => Ok(Packing::Gzip),
        Some("zstd") => Ok(Packing::Zstd),
        Some("zip") => Ok(Packing::Zip),
        Some(other) => Err(Fault::format(format!("{other} is not read; send gzip, zstd or zip"))),
    }
}

/// Of which packed kind bytes are that begin so.
fn magic(begin: &[u8]) -> Option<&'static str> {
    let is_bzip2 = begin.starts_with(b"BZh")
        && begin.get(3).is_some_and(|level| (b'1'..=b'9').contains(level))
        && [&b"1AY&SY"[..], b"\x17rE8P\x90"].iter().any(|block| begin[4..].starts_with(block));
    if is_bzip2 {
        return Some("bzip2");
    }
    // A frame that the readers of zstd pass over.
    if begin.get(1..4) == Some(b"\x2a\x4d\x18") && begin[0] & 0xf0 == 0x50 {
        return Some("zstd");
    }
    if begin.get(257..262) == Some(b"ustar") {
        return Some("tar");
    }
    let table: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"PK\x07\x08", "zip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07", "rar"),
    ];
    table.into_iter().find(|(magic, _)| begin.starts_with(magic)).map(|(_, name)| name)
}

/// Drops a byte order mark, and makes sure that text in UTF-8 follows that may be of this format.
pub(super) fn check_text(format: Format, packing: Packing, decoded: &mut Decoded) -> Result<(), Fault> {
    let begin = decoded.peek(usize::try_from(HEAD_BYTES).unwrap_or_default())?;
    match magic(begin) {
        Some("tar") => return Err(Fault::format("a tar archive is not read; send its one file")),
        Some(inner) if packing != Packing::Plain => {
            let detail = format!("the payload is compressed twice: {inner} inside of {}", packing.name());
            return Err(Fault::format(detail));
        }
        _ => {}
    }
    if let Some(encoding) = wide(begin) {
        return Err(Fault::format(format!("the text is {encoding}; send UTF-8")));
    }
    if begin.starts_with(b"\xef\xbb\xbf") {
        decoded.consume(3);
    }
    let begin = decoded.peek(HEAD_BYTES as usize)?;
    let begin = if begin.trim_ascii_start().is_empty() { decoded.peek(BLANKS_MAX)? } else { begin };
    match unfit(format, begin.trim_ascii_start()) {
        Some(detail) => Err(Fault::format(detail)),
        None => Ok(()),
    }
}

impl Packing {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "nothing",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zip => "zip",
        }
    }
}

/// The encoding of text that has more than one byte a letter throughout.
fn wide(begin: &[u8]) -> Option<&'static str> {
    match begin {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("UTF-16"),
        _ => {}
    }
    // Without a mark: the first letters are ASCII, and the rest of each is NUL.
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

/// Why text that begins so, blanks apart, is not of a format.
fn unfit(format: Format, begin: &[u8]) -> Option<&'static str> {
    // Nothing but blanks, as far as it was looked at: the reader of the format will see.
    let first = *begin.first()?;
    let is_xml = first == b'<' && begin.get(1).is_some_and(|c| c.is_ascii_alphabetic() || b"?!".contains(c));
    match format {
        Format::AppleHealth => (first != b'<').then_some("is no XML, as an export of Apple Health is"),
        _ if is_xml => Some("looks like XML: for an export of Apple Health the format is APPLE_HEALTH"),
        Format::Ndjson => (first == b'[').then_some("looks like a JSON array: format JSON"),
        Format::Json if first == b'{' => {
            Some("looks like JSON objects without an array around them: for one a line the format is NDJSON")
        }
        Format::Json => (first != b'[').then_some("is no JSON array"),
        Format::Csv if begin.starts_with(b"{\"") => Some("looks like JSON objects: format NDJSON"),
        Format::Csv => begin.starts_with(b"[{").then_some("looks like a JSON array: format JSON"),
    }
}
