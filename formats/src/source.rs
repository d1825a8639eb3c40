//! Where the bytes of a payload come from, and how many of them were taken.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why the bytes of a payload could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// For now: the same read may succeed later.
    #[error("the payload cannot be fetched")]
    Unavailable,
    /// A part of it is no longer there.
    #[error("the payload is no longer there")]
    Gone,
    /// A part of it is not what was received.
    #[error("the payload is not what was received")]
    Changed,
    /// Only a part of it was sent, to be looked at, and this is beyond.
    #[error("only a part of the payload was sent")]
    NotSent,
}

impl From<SourceError> for io::Error {
    /// Wraps the error for `io::Read`; callers find it again with `io::Error::get_ref`.
    fn from(error: SourceError) -> Self {
        Self::other(error)
    }
}

/// The bytes of one payload, to be read from any place. Reads may block.
pub trait Source: Send + Sync {
    /// How many bytes the payload has.
    fn size(&self) -> u64;

    /// Reads from an offset in bytes to the end. A read that fails for a reason that has nothing to do with what the
    /// bytes are returns a [`SourceError`] within its `io::Error`.
    ///
    /// # Errors
    /// If nothing can be read at all.
    fn open(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>>;
}

/// A file of this machine.
#[derive(Debug, Clone)]
pub struct FileSource {
    path: PathBuf,
    size: u64,
}

impl FileSource {
    /// Looks at a file.
    ///
    /// # Errors
    /// If it is not there, or is no regular file.
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

    fn open(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(BufReader::with_capacity(128 * 1024, file)))
    }
}

/// The beginning of a payload, and perhaps its end: enough for a preview. A read beyond them fails with
/// [`SourceError::NotSent`].
#[derive(Debug, Clone)]
pub struct PartialSource {
    size: u64,
    head: Arc<[u8]>,
    tail: Arc<[u8]>,
}

impl PartialSource {
    /// Parts of a payload of `size` bytes; `None` if they are more than the whole.
    #[must_use]
    pub fn new(size: u64, head: Vec<u8>, tail: Vec<u8>) -> Option<Self> {
        let fits = [&head, &tail].into_iter().all(|part| part.len() as u64 <= size);
        let tail_at = size.checked_sub(tail.len() as u64).filter(|_| fits)?;
        // Parts that meet are the whole.
        let common = (head.len() as u64).checked_sub(tail_at).and_then(|common| usize::try_from(common).ok());
        let (head, tail) = match common.and_then(|common| tail.get(common..)) {
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

    fn open(&self, offset: u64) -> io::Result<Box<dyn BufRead + Send>> {
        let tail_at = self.size - self.tail.len() as u64;
        let (part, part_at) = if offset >= tail_at { (&self.tail, tail_at) } else { (&self.head, 0) };
        let mut bytes = Cursor::new(Arc::clone(part));
        bytes.set_position(offset - part_at);
        let is_whole = part_at + part.len() as u64 == self.size;
        Ok(if is_whole { Box::new(bytes) } else { Box::new(Read::chain(bytes, EndOfPart)) })
    }
}

/// Where only a part was sent, what is beyond it.
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

/// A payload that is read, and how far.
#[derive(Clone)]
pub struct Input {
    source: Arc<dyn Source>,
    taken: Arc<AtomicU64>,
    /// Unpacked bytes after which it is as if no more had been sent.
    decoded_max: Option<u64>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("size", &self.size()).field("taken", &self.taken()).finish()
    }
}

impl Input {
    /// Reads from a source.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, taken: Arc::default(), decoded_max: None }
    }

    /// Ends after so many unpacked bytes as if no more had been sent.
    #[must_use]
    pub fn cut_after(self, decoded_bytes: u64) -> Self {
        Self { decoded_max: Some(decoded_bytes), ..self }
    }

    /// Whether so many unpacked bytes are more than is to be read.
    pub(crate) fn is_cut_before(&self, decoded_bytes: u64) -> bool {
        self.decoded_max.is_some_and(|most| decoded_bytes > most)
    }

    /// How many bytes the payload has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// The offset in bytes at which the last read ended.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Reads from an offset to the end.
    pub(crate) fn open(&self, offset: u64) -> io::Result<CountingReader> {
        let reader = self.source.open(offset)?;
        self.taken.store(offset, Ordering::Relaxed);
        Ok(CountingReader { reader, position: offset, taken: Arc::clone(&self.taken) })
    }
}

/// The bytes of a payload, counted as they are taken.
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
