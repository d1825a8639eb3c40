//! The unpacked bytes of a payload: counted, bounded in size and in ratio.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::limits::{DECODED_BYTES_MAX, DECODED_RATIO_FROM_BYTES, DECODED_RATIO_MAX};
use domain::rules::problem::{Code, Problem};

use super::pieces::{CHANGED, FETCH_FAILED, GONE};
use super::{Chunks, Fault};

/// Bytes that are read ahead.
const BUFFER_BYTES: usize = 64 * 1024;

/// Sees how much of the payload was taken, and whether anybody still waits for what comes of it.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    taken: Arc<AtomicU64>,
    chunks: Chunks,
}

impl Watch {
    pub(super) fn new(taken: Arc<AtomicU64>, chunks: Chunks) -> Self {
        Self { taken, chunks }
    }
}

/// Reads decoded bytes ahead.
pub(super) struct Decoded {
    reader: Box<dyn Read>,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    /// Offset of `begin` in the decoded payload.
    offset: u64,
    is_at_end: bool,
    /// Where in the payload the packed bytes begin; none when they are not packed.
    packed_at: Option<u64>,
    watch: Watch,
}

impl Decoded {
    /// Bytes that are not packed, from an offset on.
    pub(super) fn plain(reader: impl Read + 'static, offset: u64, watch: Watch) -> Self {
        Self::new(Box::new(reader), offset, None, watch)
    }

    /// Bytes that were packed, which begin so far into the payload.
    pub(super) fn unpacked(reader: impl Read + 'static, packed_at: u64, watch: Watch) -> Self {
        Self::new(Box::new(reader), 0, Some(packed_at), watch)
    }

    fn new(reader: Box<dyn Read>, offset: u64, packed_at: Option<u64>, watch: Watch) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { reader, buffer, begin: 0, end: 0, offset, is_at_end: false, packed_at, watch }
    }

    /// Offset of what comes next.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What comes next; nothing at the end only.
    pub(super) fn fill(&mut self) -> Result<&[u8], Fault> {
        self.peek(1)
    }

    /// What comes next, at least so many bytes unless the end is nearer; at most [`BUFFER_BYTES`].
    pub(super) fn peek(&mut self, bytes: usize) -> Result<&[u8], Fault> {
        while self.end - self.begin < bytes && !self.is_at_end {
            if self.begin > 0 {
                self.buffer.copy_within(self.begin..self.end, 0);
                (self.begin, self.end) = (0, self.end - self.begin);
            }
            let read = match self.reader.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| fault(&error))?,
            };
            self.is_at_end = read == 0;
            self.end += read;
            self.check()?;
        }
        Ok(&self.buffer[self.begin..self.end])
    }

    /// Goes on behind bytes that were seen.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.begin += bytes;
        self.offset += bytes as u64;
    }

    /// Goes on behind white space, and returns the byte there; none at the end.
    pub(super) fn skip_blanks(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            let piece = self.fill()?;
            if piece.is_empty() {
                return Ok(None);
            }
            let blanks = piece.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = piece.get(blanks).copied();
            self.consume(blanks);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.watch.chunks.is_closed() {
            return Err(Fault::Fetch);
        }
        let decoded = self.offset + (self.end - self.begin) as u64;
        let is_bloated = self.packed_at.is_some_and(|packed_at| {
            let taken = self.watch.taken.load(Ordering::Relaxed).saturating_sub(packed_at);
            decoded > DECODED_RATIO_FROM_BYTES && decoded / taken.max(1) > DECODED_RATIO_MAX
        });
        if is_bloated || decoded > DECODED_BYTES_MAX {
            let detail = "the payload is too large once decoded";
            return Err(Fault::Payload(Problem::new(Code::PayloadLimit, detail)));
        }
        Ok(())
    }
}

/// What a failed read means.
pub(super) fn fault(error: &io::Error) -> Fault {
    match error.kind() {
        FETCH_FAILED => Fault::Fetch,
        GONE => Fault::gone(),
        CHANGED => Fault::changed(),
        // The decoder tells it by this text alone.
        _ if error.to_string().contains("requires too much memory") => {
            let detail = "zstd: compress with a window of at most 8 MiB, without --long and --ultra";
            Fault::Payload(Problem::new(Code::PayloadLimit, detail))
        }
        _ => Fault::format("the compressed payload is cut or damaged"),
    }
}
