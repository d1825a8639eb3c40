//! How payloads are packed: not at all, by gzip or zstd, or in a zip archive. Told by the first bytes, never by a name.

mod gzip;
pub(crate) mod zip;

use std::io::Cursor;

use domain::limits::ZSTD_WINDOW_LOG_MAX;

use crate::bounded::BoundedReader;
use crate::source::CountingReader;
use crate::{Input, ReadError};
use gzip::GzipReader;

/// How a payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// An archive, of which one file is read.
    Zip,
}

impl Packing {
    /// Its name in lower case; `plain` if it is not packed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zip => "zip",
        }
    }

    /// How bytes are packed that begin so, of which there are at least four; `None` if not, or in a way that is not read.
    #[must_use]
    pub fn told_by(begin: &[u8]) -> Option<Self> {
        Self::of(begin).ok().filter(|packing| *packing != Self::Plain)
    }

    /// How a payload is packed that begins with these bytes.
    pub(crate) fn of(begin: &[u8]) -> Result<Self, ReadError> {
        match magic(begin) {
            None => Ok(Self::Plain),
            Some("gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some("zip") => Ok(Self::Zip),
            Some(other) => Err(ReadError::format(format!("{other} is not read; send gzip, zstd or zip"))),
        }
    }
}

/// Unpacks a payload, whose first bytes were read into `head`, from its beginning.
pub(crate) fn unpack(
    packing: Packing,
    head: Vec<u8>,
    rest: CountingReader,
    input: &Input,
) -> Result<BoundedReader, ReadError> {
    let bytes = std::io::Read::chain(Cursor::new(head), rest);
    Ok(match packing {
        Packing::Plain => BoundedReader::plain(bytes, 0, input),
        Packing::Gzip => BoundedReader::unpacked(GzipReader::new(bytes), 0, input),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            BoundedReader::unpacked(decoder, 0, input)
        }
        Packing::Zip => {
            drop(bytes);
            let (member, at) = zip::open(input)?;
            BoundedReader::unpacked(member, at, input)
        }
    })
}

/// Which packed kind bytes are that begin so.
pub(crate) fn magic(begin: &[u8]) -> Option<&'static str> {
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
