//! The one member of a zip archive that is read. Names in an archive are compared and never used as paths.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use domain::limits::{ZIP_DIRECTORY_BYTES_MAX, ZIP_MEMBERS_MAX};
use rawzip::{
    CompressionMethod, ErrorKind, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, RangeReader, ReaderAt, ZipArchive,
    ZipArchiveEntryWayfinder, ZipLocator,
};

use super::pieces::{Pieces, Source};
use super::{Fault, decoded};

/// Bytes at the end of an archive among which the end of its list is looked for: all that a comment may have.
const END_BYTES_MAX: u64 = 66 * 1024;
/// Bytes that are read at once.
const BLOCK_BYTES: usize = 128 * 1024;

/// Opens the member, unpacked and verified; tells where in the archive it begins.
pub(super) fn open(source: &Source) -> Result<(Box<dyn Read>, u64), Fault> {
    let blocks = Arc::new(Blocks::new(source.clone()));
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let located = ZipLocator::new().max_search_space(END_BYTES_MAX).locate_in_reader(
        Arc::clone(&blocks),
        &mut buffer,
        source.size(),
    );
    let archive = located.map_err(|(_, error)| fault(error))?;
    let member = choose(&archive, &mut buffer)?;
    if member.is_encrypted {
        return Err(Fault::format("the member of the zip archive is encrypted"));
    }
    let entry = archive.get_entry(member.place).map_err(fault)?;
    let (begin, end) = entry.compressed_data_range();
    let packed = BufReader::with_capacity(BLOCK_BYTES, RangeReader::new(blocks, begin..end));
    let unpacked: Box<dyn Read> = match member.method {
        CompressionMethod::STORE => Box::new(packed),
        CompressionMethod::DEFLATE => Box::new(flate2::bufread::DeflateDecoder::new(packed)),
        other => {
            let name = other.name().unwrap_or("an unknown method");
            let detail = format!("the member of the zip archive is packed by {name}: only deflate is read");
            return Err(Fault::format(detail));
        }
    };
    Ok((Box::new(entry.verifying_reader(unpacked)), begin))
}

/// A member that may be the one.
#[derive(Debug, Clone, Copy)]
struct Member {
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    is_encrypted: bool,
}

/// The only file; else the export of Apple Health, under its own name or as the only XML of its folder.
fn choose(archive: &ZipArchive<Arc<Blocks>>, buffer: &mut [u8]) -> Result<Member, Fault> {
    if archive.eocd_offset().saturating_sub(archive.directory_offset()) > ZIP_DIRECTORY_BYTES_MAX {
        return Err(Fault::format("the zip archive has too long a list of members"));
    }
    let (mut seen, mut files, mut in_folder) = (0_u64, 0_u64, 0_u64);
    let (mut any, mut export, mut xml) = (None, None, None);
    let mut entries = archive.entries(buffer);
    while let Some(entry) = entries.next_entry().map_err(fault)? {
        seen += 1;
        if seen > ZIP_MEMBERS_MAX {
            return Err(Fault::format(format!("the zip archive has more than {ZIP_MEMBERS_MAX} members")));
        }
        let name = entry.file_path().as_bytes().to_ascii_lowercase();
        if entry.is_dir() || name.starts_with(b"__macosx/") {
            continue;
        }
        let member = Member {
            place: entry.wayfinder(),
            method: entry.compression_method(),
            is_encrypted: entry.flags().is_encrypted(),
        };
        files += 1;
        any = Some(member);
        if let Some(name) = name.strip_prefix(b"apple_health_export/") {
            if name == b"export.xml" {
                export = Some(member);
            } else if !name.contains(&b'/') && name.ends_with(b".xml") && !name.ends_with(b"_cda.xml") {
                in_folder += 1;
                xml = Some(member);
            }
        }
    }
    let only = any.filter(|_| files == 1);
    only.or(export).or(xml.filter(|_| in_folder == 1)).ok_or_else(|| {
        Fault::format(format!("the zip archive has {files} files: send one, or an export of Apple Health"))
    })
}

fn fault(error: rawzip::Error) -> Fault {
    match error.into_kind() {
        ErrorKind::IO(error) => decoded::fault(&error),
        _ => Fault::format("the zip archive is cut or damaged"),
    }
}

/// A payload that is read here and there: forward through one stream, in blocks of which the last is kept.
struct Blocks {
    source: Source,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stream: Option<Pieces>,
    /// Where the stream goes on.
    position: u64,
    block: Vec<u8>,
    block_at: u64,
}

impl Blocks {
    fn new(source: Source) -> Self {
        Self { source, state: Mutex::default() }
    }
}

impl ReaderAt for Blocks {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.source.size() {
            return Ok(0);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let block_at = offset - offset % BLOCK_BYTES as u64;
        if state.block.is_empty() || state.block_at != block_at {
            state.load(&self.source, block_at)?;
        }
        let skip = usize::try_from(offset - block_at).unwrap_or(usize::MAX);
        let available = state.block.get(skip..).unwrap_or_default();
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        Ok(length)
    }
}

impl State {
    fn load(&mut self, source: &Source, at: u64) -> io::Result<()> {
        if self.stream.is_none() || self.position != at {
            self.stream = Some(source.open(at));
            self.position = at;
        }
        self.block.clear();
        self.block_at = at;
        if let Some(stream) = &mut self.stream {
            stream.take(BLOCK_BYTES as u64).read_to_end(&mut self.block)?;
        }
        self.position += self.block.len() as u64;
        Ok(())
    }
}
