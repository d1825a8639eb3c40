//! Where the bytes of a payload come from, and how many of them were taken.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of one payload, to be read from any place. Reads may block.
pub trait Source: Send + Sync {
    /// How many bytes the payload has.
    fn size(&self) -> u64;

    /// Reads from an offset in bytes to the end. A read that fails for a reason that has nothing to do with what the
    /// bytes are returns a [`SourceError`](crate::SourceError) within its `io::Error`.
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

/// A payload that is read, and how far.
#[derive(Clone)]
pub struct Input {
    source: Arc<dyn Source>,
    taken: Arc<AtomicU64>,
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
        Self { source, taken: Arc::default() }
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
    pub(crate) fn open(&self, offset: u64) -> io::Result<Counted> {
        let reader = self.source.open(offset)?;
        self.taken.store(offset, Ordering::Relaxed);
        Ok(Counted { reader, position: offset, taken: Arc::clone(&self.taken) })
    }
}

/// The bytes of a payload, counted as they are taken.
pub(crate) struct Counted {
    reader: Box<dyn BufRead + Send>,
    position: u64,
    taken: Arc<AtomicU64>,
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.position += bytes as u64;
        self.taken.store(self.position, Ordering::Relaxed);
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
