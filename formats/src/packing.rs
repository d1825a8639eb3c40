//! Unpacks payloads: gzip, zstd, and zip archives. The first bytes decide how a payload is packed, never a
//! name.

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
    /// It is not packed.
    Plain,
    /// Gzip (RFC 1952) with one or more members.
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// A zip archive. One of its files is read.
    Zip,
}

impl Packing {
    /// The name in lower case; `plain` if the payload is not packed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zip => "zip",
        }
    }

    /// Detects how a payload is packed. `begin` holds its first bytes, at least four. Returns `None` if it is
    /// not packed, or in a way that is not supported.
    #[must_use]
    pub fn detect_supported_packing(begin: &[u8]) -> Option<Self> {
        Self::detect_or_refuse(begin).ok().filter(|packing| *packing != Self::Plain)
    }

    /// Detects from its first bytes how a payload is packed; [`Self::Plain`] if they show no packing.
    ///
    /// # Errors
    /// [`ReadError::Format`] if it is packed in a way that is not supported, such as bzip2 or tar.
    pub(crate) fn detect_or_refuse(begin: &[u8]) -> Result<Self, ReadError> {
        match packing_name_by_magic(begin) {
            None => Ok(Self::Plain),
            Some("gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some("zip") => Ok(Self::Zip),
            Some(other) => {
                Err(ReadError::new_format_error(format!("{other} is not read; send gzip, zstd or zip")))
            }
        }
    }
}

/// Returns a reader that unpacks a payload from its beginning. `head` holds its first packed bytes, and
/// `rest` reads those after them. A zip archive is opened again from `input`, at the file in it that is to be
/// read.
pub(crate) fn open_unpacking_reader(
    packing: Packing,
    head: Vec<u8>,
    rest: CountingReader,
    input: &Input,
) -> Result<BoundedReader, ReadError> {
    let bytes = std::io::Read::chain(Cursor::new(head), rest);
    Ok(match packing {
        Packing::Plain => BoundedReader::of_plain(bytes, 0, input),
        Packing::Gzip => BoundedReader::of_decoder(GzipReader::new(bytes), 0, input),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            BoundedReader::of_decoder(decoder, 0, input)
        }
        Packing::Zip => {
            drop(bytes);
            let (member, packed_at) = zip::open_chosen_member(input)?;
            BoundedReader::of_decoder(member, packed_at, input)
        }
    })
}

/// The name of the compression or archive format that these first bytes show, such as `gzip` or `tar`,
/// whether or not it is supported. `None` if they show none.
pub(crate) fn packing_name_by_magic(begin: &[u8]) -> Option<&'static str> {
    let is_bzip2 = begin.starts_with(b"BZh")
        && begin.get(3).is_some_and(|level| (b'1'..=b'9').contains(level))
        && [&b"1AY&SY"[..], b"\x17rE8P\x90"].iter().any(|block| begin[4..].starts_with(block));
    if is_bzip2 {
        return Some("bzip2");
    }
    // A skippable frame of zstd (RFC 8878, section 3.1.2), which decoders ignore.
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
