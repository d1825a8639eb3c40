//! Opens the bytes of a payload at any offset, and records how far they were read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why the bytes of a payload could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The bytes cannot be fetched now. The same read may succeed later.
    #[error("the payload cannot be fetched")]
    Unavailable,
    /// A part of the payload no longer exists.
    #[error("the payload is no longer there")]
    Gone,
    /// A part of the payload differs from what was received.
    #[error("the payload is not what was received")]
    Changed,
    /// Reading reached the end of the part that a preview may read: the rest of the payload was not sent, or
    /// is after [`Input::with_decoded_limit`].
    #[error("only a part of the payload was sent")]
    NotSent,
}

impl From<SourceError> for io::Error {
    /// Wraps the error so that it can pass through `io::Read`. Callers find it again with
    /// `io::Error::get_ref`.
    fn from(error: SourceError) -> Self {
        Self::other(error)
    }
}

/// The bytes of one payload, which can be read from any offset. Reads may block.
pub trait Source: Send + Sync {
    /// Size of the payload in bytes, as it is stored or sent, not unpacked.
    fn size(&self) -> u64;

    /// Returns a reader of the bytes from an offset to the end of the payload.
    ///
    /// If a read of it fails for a reason other than the content of the bytes, its `io::Error` holds a
    /// [`SourceError`].
    ///
    /// # Errors
    /// An [`io::Error`] if the payload cannot be opened. It holds a [`SourceError`] if the reason is one of
    /// its variants.
    fn open_at_offset(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>>;
}

/// A payload in a file on this machine.
#[derive(Debug, Clone)]
pub struct FileSource {
    path: PathBuf,
    size: u64,
}

impl FileSource {
    /// Examines a file and notes its size, without reading its content.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is not a regular file, or the error of the operating system if
    /// it cannot be examined.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let metadata = std::fs::metadata(&path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self { path, size: metadata.len() })
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn open_at_offset(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(BufReader::with_capacity(128 * 1024, file)))
    }
}

/// The beginning of a payload, and optionally its end: enough for a preview. A read outside of them fails
/// with [`SourceError::NotSent`].
#[derive(Debug, Clone)]
pub struct PartialSource {
    size: u64,
    head: Arc<[u8]>,
    tail: Arc<[u8]>,
}

impl PartialSource {
    /// Holds the first bytes (`head`) and the last bytes (`tail`) of a payload of `size` bytes. Returns
    /// `None` if one of them is longer than the payload.
    #[must_use]
    pub fn new(size: u64, head: Vec<u8>, tail: Vec<u8>) -> Option<Self> {
        let fits = [&head, &tail].into_iter().all(|part| part.len() as u64 <= size);
        let tail_at = size.checked_sub(tail.len() as u64).filter(|_| fits)?;
        // If the parts meet or overlap, they are joined to the whole payload.
        let overlap =
            (head.len() as u64).checked_sub(tail_at).and_then(|overlap| usize::try_from(overlap).ok());
        let (head, tail) = match overlap.and_then(|overlap| tail.get(overlap..)) {
            Some(rest) => ([&head, rest].concat(), Vec::new()),
            None => (head, tail),
        };
        Some(Self { size, head: head.into(), tail: tail.into() })
    }
}

impl Source for PartialSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn open_at_offset(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let tail_at = self.size - self.tail.len() as u64;
        let (part, part_at) = if offset >= tail_at { (&self.tail, tail_at) } else { (&self.head, 0) };
        let mut bytes = Cursor::new(Arc::clone(part));
        bytes.set_position(offset - part_at);
        let is_whole = part_at + part.len() as u64 == self.size;
        Ok(if is_whole { Box::new(bytes) } else { Box::new(Read::chain(bytes, EndOfPart)) })
    }
}

/// Stands for the bytes of a payload that were not sent. Every read fails with [`SourceError::NotSent`].
struct EndOfPart;

impl Read for EndOfPart {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(SourceError::NotSent.into())
    }
}

impl BufRead for EndOfPart {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Err(SourceError::NotSent.into())
    }

    fn consume(&mut self, _: usize) {}
}

/// A payload to be read, and the offset at which the last read of it ended. Clones share that offset.
#[derive(Clone)]
pub struct Input {
    source: Arc<dyn Source>,
    taken: Arc<AtomicU64>,
    /// Number of unpacked bytes after which reading ends, as if the rest had not been sent.
    decoded_max: Option<u64>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("size", &self.size())
            .field("taken", &self.last_read_end_offset())
            .finish()
    }
}

impl Input {
    /// Creates an input that reads from a source.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, taken: Arc::default(), decoded_max: None }
    }

    /// Limits the number of unpacked bytes that are read. Reading more fails with [`SourceError::NotSent`],
    /// as if the rest had not been sent.
    #[must_use]
    pub fn with_decoded_limit(self, decoded_bytes: u64) -> Self {
        Self { decoded_max: Some(decoded_bytes), ..self }
    }

    /// Whether this number of unpacked bytes is over the limit of [`Self::with_decoded_limit`].
    pub(crate) fn is_over_decoded_max(&self, decoded_bytes: u64) -> bool {
        self.decoded_max.is_some_and(|limit| decoded_bytes > limit)
    }

    /// Size of the payload in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// The offset in bytes, in the packed payload, at which the last read ended.
    #[must_use]
    pub fn last_read_end_offset(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Returns a reader of the packed bytes from an offset to the end of the payload. Sets
    /// [`Self::last_read_end_offset`] to that offset.
    pub(crate) fn open_at_offset(&self, offset: u64) -> io::Result<CountingReader> {
        let reader = self.source.open_at_offset(offset)?;
        self.taken.store(offset, Ordering::Relaxed);
        Ok(CountingReader { reader, position: offset, taken: Arc::clone(&self.taken) })
    }
}

/// Reads the packed bytes of a payload, and stores the offset after each read in its [`Input`].
pub(crate) struct CountingReader {
    reader: Box<dyn BufRead + Send>,
    position: u64,
    taken: Arc<AtomicU64>,
}

impl BufRead for CountingReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.position += bytes as u64;
        self.taken.store(self.position, Ordering::Relaxed);
    }
}

impl Read for CountingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
