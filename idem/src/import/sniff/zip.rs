//! The list of files in a zip, and the beginning of one: as much as it takes to tell what it holds.

use std::io::{BufRead, Read, Seek, SeekFrom};

use anyhow::{Context, bail, ensure};
use flate2::bufread::DeflateDecoder;

const STORED: u64 = 0;
const DEFLATED: u64 = 8;
/// Bytes of the last record of a zip, before its comment.
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = 65_535;
/// Bytes of the list of files. Ten thousand routes of an Apple export take one of these.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// In a field of 32 bits: look in the 64 bits elsewhere.
const ELSEWHERE: u64 = 0xffff_ffff;

/// One file in a zip.
pub(super) struct Member {
    pub(super) name: String,
    method: u64,
    offset: u64,
}

/// The files in a zip, without folders and without what macOS adds.
pub(super) fn members(file: &mut (impl Read + Seek)) -> anyhow::Result<Vec<Member>> {
    let size = file.seek(SeekFrom::End(0))?;
    let tail_bytes = size.min((END_BYTES + COMMENT_BYTES_MAX) as u64);
    let tail = read(file, size - tail_bytes, tail_bytes)?;
    let at = tail.windows(4).rposition(|four| four == b"PK\x05\x06").context("it has no list of files")?;
    let end = &tail[at..];
    ensure!(end.len() >= END_BYTES, "it is cut");
    let (mut list_bytes, mut list_offset) = (number(end, 12, 4), number(end, 16, 4));
    if (list_bytes == ELSEWHERE || list_offset == ELSEWHERE) && at >= 20 {
        let locator = &tail[at - 20..at];
        ensure!(locator.starts_with(b"PK\x06\x07"), "the list of files is nowhere");
        let wide = read(file, number(locator, 8, 8), 56)?;
        ensure!(wide.starts_with(b"PK\x06\x06"), "the list of files is nowhere");
        (list_bytes, list_offset) = (number(&wide, 40, 8), number(&wide, 48, 8));
    }
    ensure!(list_bytes <= LIST_BYTES_MAX, "its list of files is too long");
    let list = read(file, list_offset, list_bytes)?;
    let mut members = Vec::new();
    let mut rest = list.as_slice();
    while rest.len() >= 46 && rest.starts_with(b"PK\x01\x02") {
        let name_end = 46 + number(rest, 28, 2) as usize;
        let entry_end = name_end + (number(rest, 30, 2) + number(rest, 32, 2)) as usize;
        ensure!(entry_end <= rest.len(), "its list of files is cut");
        let name = String::from_utf8_lossy(&rest[46..name_end]).into_owned();
        if !name.ends_with('/') && !name.starts_with("__MACOSX/") {
            members.push(Member { name, method: number(rest, 10, 2), offset: number(rest, 42, 4) });
        }
        rest = &rest[entry_end..];
    }
    Ok(members)
}

/// The decoded bytes of a file in a zip. They do not end with it: only the beginning is wanted.
pub(super) fn open<'a>(
    file: &'a mut (impl BufRead + Seek),
    member: &Member,
) -> anyhow::Result<Box<dyn Read + 'a>> {
    let header = read(file, member.offset, 30)?;
    ensure!(header.starts_with(b"PK\x03\x04"), "{} is not where the zip says", member.name);
    file.seek_relative((number(&header, 26, 2) + number(&header, 28, 2)).cast_signed())?;
    Ok(match member.method {
        STORED => Box::new(file),
        DEFLATED => Box::new(DeflateDecoder::new(file)),
        method => bail!("{} is packed by method {method}: zip it again, deflated", member.name),
    })
}

fn read(file: &mut (impl Read + Seek), offset: u64, length: u64) -> anyhow::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == length, "it is cut");
    Ok(bytes)
}

/// The little-endian number of `width` bytes at `at`.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
