//! Reads one file of a zip archive: the only one, or the export of Apple Health among several. Names in an
//! archive are compared, and never used as paths.

mod blocks;

use std::io::{BufReader, Read};
use std::sync::Arc;

use domain::limits::{ZIP_DIRECTORY_BYTES_MAX, ZIP_EXPORTS_LOOKED_AT_MAX, ZIP_MEMBERS_MAX};
use rawzip::{
    CompressionMethod, ErrorKind, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, RangeReader, ZipArchive,
    ZipArchiveEntryWayfinder, ZipLocator,
};

use crate::{Input, ReadError, apple_health};
use blocks::{BLOCK_BYTES, BlockReader};

/// Number of bytes at the end of an archive that are searched for its end record. This covers the longest
/// comment that an archive may have.
const END_BYTES_MAX: u64 = 66 * 1024;
/// Number of bytes at the beginning of an XML file that are searched for the root of an export. The DTD
/// before the root is shorter.
const EXPORT_HEAD_BYTES: u64 = 64 * 1024;

/// Opens the one file of a zip archive that is to be read: the only one, or the Apple Health export. Returns
/// a reader of its unpacked bytes, which verifies the checksum, and the offset of its packed bytes in the
/// archive.
pub(crate) fn open_chosen_member(input: &Input) -> Result<(Box<dyn Read>, u64), ReadError> {
    let archive = Archive::open(input)?;
    let member = archive.choose_member()?;
    archive.open_member(&member)
}

/// The name of the file that [`open_chosen_member`] opens in a zip archive. Finding it reads the archive.
pub(crate) fn chosen_member_name(input: &Input) -> Result<String, ReadError> {
    Ok(Archive::open(input)?.choose_member()?.name)
}

/// Number of file names that an error lists.
const NAMES_LISTED_MAX: usize = 5;

/// An archive and the files in it.
struct Archive {
    archive: ZipArchive<Arc<BlockReader>>,
    blocks: Arc<BlockReader>,
    /// Number of files, without those that an operating system added.
    files: u64,
    /// The names of the first of these files, at most [`NAMES_LISTED_MAX`].
    names: Vec<String>,
    /// Whether the archive is a workbook of Excel.
    is_workbook: bool,
    /// The file, if there is only one.
    only: Option<Member>,
    /// The first files whose names end in `.xml`, at most [`ZIP_EXPORTS_LOOKED_AT_MAX`].
    xml: Vec<Member>,
}

/// A file in an archive.
#[derive(Debug, Clone)]
struct Member {
    name: String,
    wayfinder: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    is_encrypted: bool,
}

impl Member {
    fn has_export_name(&self) -> bool {
        self.name.rsplit(['/', '\\']).next().is_some_and(|name| name.eq_ignore_ascii_case("export.xml"))
    }
}

impl Archive {
    fn open(input: &Input) -> Result<Self, ReadError> {
        let blocks = Arc::new(BlockReader::new(input.clone()));
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let located = ZipLocator::new().max_search_space(END_BYTES_MAX).locate_in_reader(
            Arc::clone(&blocks),
            &mut buffer,
            input.size(),
        );
        let archive = located.map_err(|(_, error)| to_read_error(error))?;
        let mut this = Self {
            archive,
            blocks,
            files: 0,
            names: Vec::new(),
            is_workbook: false,
            only: None,
            xml: Vec::new(),
        };
        this.read_central_directory(&mut buffer)?;
        Ok(this)
    }

    fn read_central_directory(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        let directory_bytes = self.archive.eocd_offset().saturating_sub(self.archive.directory_offset());
        if directory_bytes > ZIP_DIRECTORY_BYTES_MAX {
            return Err(ReadError::new_format_error("the zip archive has too long a list of members"));
        }
        let mut entries = self.archive.entries(buffer);
        let mut members = 0_u64;
        while let Some(entry) = entries.next_entry().map_err(to_read_error)? {
            members += 1;
            if members > ZIP_MEMBERS_MAX {
                let detail = format!("the zip archive has more than {ZIP_MEMBERS_MAX} members");
                return Err(ReadError::Format(detail));
            }
            let path = entry.file_path();
            let name = String::from_utf8_lossy(path.as_bytes());
            if entry.is_dir() || is_system_file(&name) {
                continue;
            }
            self.files += 1;
            self.is_workbook |= name == "xl/workbook.xml";
            if self.names.len() < NAMES_LISTED_MAX {
                self.names.push(crate::record_excerpt(name.as_bytes()));
            }
            let is_xml = name.to_ascii_lowercase().ends_with(".xml");
            if self.files > 1 && !(is_xml && self.xml.len() < ZIP_EXPORTS_LOOKED_AT_MAX) {
                self.only = None;
                continue;
            }
            let member = Member {
                name: name.into_owned(),
                wayfinder: entry.wayfinder(),
                method: entry.compression_method(),
                is_encrypted: entry.flags().is_encrypted(),
            };
            self.only = (self.files == 1).then(|| member.clone());
            if is_xml {
                self.xml.push(member);
            }
        }
        Ok(())
    }

    /// The file to be read: the only one, or of several the one whose content is an Apple Health export. If
    /// none is known to be one, an `export.xml` whose content was not sent. Anything else is an error.
    fn choose_member(&self) -> Result<Member, ReadError> {
        if let Some(only) = &self.only {
            return Ok(only.clone());
        }
        let (mut export, mut not_sent) = (None, None);
        for member in &self.xml {
            match self.begins_like_export(member)? {
                Some(true) if export.is_some() => {
                    let detail = "the zip archive has several exports of Apple Health: send one";
                    return Err(ReadError::new_format_error(detail));
                }
                Some(true) => export = Some(member.clone()),
                None if member.has_export_name() => not_sent = Some(member.clone()),
                _ => {}
            }
        }
        export.or(not_sent).ok_or_else(|| self.no_file_to_read_error())
    }

    /// The error for an archive of several files without an export among them, or for a workbook of Excel.
    fn no_file_to_read_error(&self) -> ReadError {
        if self.is_workbook {
            return ReadError::new_format_error(
                "a workbook of Excel is not read: save its sheet as CSV, and send that",
            );
        }
        let more = if self.files > self.names.len() as u64 { ", …" } else { "" };
        let names =
            if self.names.is_empty() { String::new() } else { format!(" ({}{more})", self.names.join(", ")) };
        let files = self.files;
        ReadError::Format(format!(
            "the zip archive has {files} files{names}: send one, or an export of Apple Health"
        ))
    }

    /// Whether a file begins like an Apple Health export. A file that cannot be unpacked does not. `None` if
    /// too little of it was sent to decide.
    fn begins_like_export(&self, member: &Member) -> Result<Option<bool>, ReadError> {
        let mut head = Vec::new();
        let read = self.open_member(member).and_then(|(reader, _)| {
            reader.take(EXPORT_HEAD_BYTES).read_to_end(&mut head).map_err(ReadError::from)
        });
        let is_export_head = apple_health::is_export_head(&head);
        match read {
            Err(error) if error.is_unsent_bytes_error() => Ok(is_export_head.then_some(true)),
            Err(error @ ReadError::Source(_)) => Err(error),
            _ => Ok(Some(is_export_head)),
        }
    }

    fn open_member(&self, member: &Member) -> Result<(Box<dyn Read>, u64), ReadError> {
        if member.is_encrypted {
            return Err(ReadError::new_format_error("the member of the zip archive is encrypted"));
        }
        let entry = self.archive.get_entry(member.wayfinder).map_err(to_read_error)?;
        let (begin, end) = entry.compressed_data_range();
        let range = RangeReader::new(Arc::clone(&self.blocks), begin..end);
        let packed = BufReader::with_capacity(BLOCK_BYTES, range);
        let unpacked: Box<dyn Read> = match member.method {
            CompressionMethod::STORE => Box::new(packed),
            CompressionMethod::DEFLATE => Box::new(flate2::bufread::DeflateDecoder::new(packed)),
            other => {
                let name = other.name().unwrap_or("an unknown method");
                let detail =
                    format!("the member of the zip archive is packed by {name}: only deflate is read");
                return Err(ReadError::Format(detail));
            }
        };
        Ok((Box::new(entry.verifying_reader(unpacked)), begin))
    }
}

/// Whether an operating system added the file, not a person.
fn is_system_file(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let folders = path.split(['/', '\\']);
    name.starts_with("._")
        || [".DS_Store", "Thumbs.db", "desktop.ini"].iter().any(|other| name.eq_ignore_ascii_case(other))
        || folders.into_iter().any(|folder| folder.eq_ignore_ascii_case("__MACOSX"))
}

fn to_read_error(error: rawzip::Error) -> ReadError {
    match error.into_kind() {
        ErrorKind::IO(error) => error.into(),
        _ => ReadError::new_format_error("the zip archive is cut or damaged"),
    }
}
