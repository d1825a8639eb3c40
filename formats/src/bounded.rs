//! The unpacked bytes of a payload: bounded in size and in their ratio to the packed ones.

use std::io::{self, Read};

use domain::limits::{DECODED_BYTES_MAX, DECODED_RATIO_FROM_BYTES, DECODED_RATIO_MAX};

use crate::{Input, ReadError, SourceError};

/// How many bytes are read ahead.
const BUFFER_BYTES: usize = 64 * 1024;

/// Reads unpacked bytes ahead.
pub(crate) struct BoundedReader {
    reader: Box<dyn Read>,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    /// Offset of `begin` in the unpacked payload.
    offset: u64,
    is_at_end: bool,
    /// What was met when somebody looked ahead.
    failed: Option<ReadError>,
    /// Where in the payload the packed bytes begin; `None` if they are not packed.
    packed_at: Option<u64>,
    input: Input,
}

impl BoundedReader {
    /// Reads bytes that are not packed, from an offset on.
    pub(crate) fn plain(reader: impl Read + 'static, offset: u64, input: &Input) -> Self {
        Self::new(Box::new(reader), offset, None, input)
    }

    /// Reads bytes that were packed and begin so far into the payload.
    pub(crate) fn unpacked(reader: impl Read + 'static, packed_at: u64, input: &Input) -> Self {
        Self::new(Box::new(reader), 0, Some(packed_at), input)
    }

    fn new(reader: Box<dyn Read>, offset: u64, packed_at: Option<u64>, input: &Input) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self {
            reader,
            buffer,
            begin: 0,
            end: 0,
            offset,
            is_at_end: false,
            failed: None,
            packed_at,
            input: input.clone(),
        }
    }

    /// The offset of what comes next, in the unpacked payload.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// What comes next; empty at the end only.
    pub(crate) fn fill(&mut self) -> Result<&[u8], ReadError> {
        self.peek(1)
    }

    /// What comes next, at least so many bytes unless the end is nearer; at most [`BUFFER_BYTES`].
    pub(crate) fn peek(&mut self, bytes: usize) -> Result<&[u8], ReadError> {
        self.read_ahead(bytes)?;
        Ok(&self.buffer[self.begin..self.end])
    }

    /// As [`Self::peek`], but if fewer bytes can be had, those: the error comes after them.
    pub(crate) fn look(&mut self, bytes: usize) -> Result<&[u8], ReadError> {
        if let Err(error) = self.read_ahead(bytes) {
            if self.begin == self.end {
                return Err(error);
            }
            self.failed = Some(error);
        }
        Ok(&self.buffer[self.begin..self.end])
    }

    fn read_ahead(&mut self, bytes: usize) -> Result<(), ReadError> {
        while self.end - self.begin < bytes && !self.is_at_end {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.begin > 0 {
                self.buffer.copy_within(self.begin..self.end, 0);
                (self.begin, self.end) = (0, self.end - self.begin);
            }
            let read = match self.reader.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            self.is_at_end = read == 0;
            self.end += read;
            self.check()?;
        }
        Ok(())
    }

    /// Goes on after bytes that were seen.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.begin += bytes;
        self.offset += bytes as u64;
    }

    /// Goes on after white space, and returns the byte there; `None` at the end.
    pub(crate) fn skip_blanks(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            let block = self.fill()?;
            if block.is_empty() {
                return Ok(None);
            }
            let blanks = block.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = block.get(blanks).copied();
            self.consume(blanks);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn check(&self) -> Result<(), ReadError> {
        let decoded = self.offset + (self.end - self.begin) as u64;
        let is_bloated = self.packed_at.is_some_and(|packed_at| {
            let taken = self.input.taken().saturating_sub(packed_at);
            decoded > DECODED_RATIO_FROM_BYTES && decoded / taken.max(1) > DECODED_RATIO_MAX
        });
        if self.input.is_cut_before(decoded) {
            return Err(ReadError::Source(SourceError::NotSent));
        }
        if is_bloated || decoded > DECODED_BYTES_MAX {
            return Err(ReadError::Limit("the payload is too large once decoded".to_owned()));
        }
        Ok(())
    }
}

impl Read for BoundedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill().map_err(io::Error::other)?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
