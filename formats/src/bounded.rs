//! Buffers the unpacked bytes of a payload. Their size is limited, and their ratio to the packed bytes.

use std::io::{self, Read};

use domain::limits::{DECODED_BYTES_MAX, DECODED_RATIO_FROM_BYTES, DECODED_RATIO_MAX};

use crate::{Input, ReadError, SourceError};

/// Size of the buffer in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Reads the unpacked bytes of a payload, and can return the next bytes without consuming them. Fails with
/// [`ReadError::Limit`] if they are too many, in all or compared to the packed bytes.
pub(crate) struct BoundedReader {
    reader: Box<dyn Read>,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    /// Offset of `begin` in the unpacked payload.
    offset: u64,
    is_at_end: bool,
    /// An error of reading ahead. The next read that needs more bytes than are buffered returns it.
    pending_error: Option<ReadError>,
    /// Offset in the payload at which the packed bytes begin; `None` if the bytes are not packed.
    packed_at: Option<u64>,
    input: Input,
}

impl BoundedReader {
    /// Wraps a reader of bytes that are not packed. `offset` is the place of the first one in the payload.
    pub(crate) fn of_plain(reader: impl Read + 'static, offset: u64, input: &Input) -> Self {
        Self::new(Box::new(reader), offset, None, input)
    }

    /// Wraps a decoder, which already unpacks. Limits the number of its bytes, and their ratio to the packed
    /// bytes. These begin at the offset `packed_at` in the payload.
    pub(crate) fn of_decoder(decoder: impl Read + 'static, packed_at: u64, input: &Input) -> Self {
        Self::new(Box::new(decoder), 0, Some(packed_at), input)
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
            pending_error: None,
            packed_at,
            input: input.clone(),
        }
    }

    /// The offset of the next byte in the unpacked payload.
    pub(crate) fn next_byte_offset(&self) -> u64 {
        self.offset
    }

    /// Returns at least one of the next bytes without consuming any. The result is empty only at the end.
    pub(crate) fn peek_next_bytes(&mut self) -> Result<&[u8], ReadError> {
        self.peek_bytes(1)
    }

    /// Returns the next bytes without consuming them: at least `bytes` unless the payload ends earlier, and
    /// at most [`BUFFER_BYTES`].
    pub(crate) fn peek_bytes(&mut self, bytes: usize) -> Result<&[u8], ReadError> {
        self.buffer_at_least(bytes)?;
        Ok(&self.buffer[self.begin..self.end])
    }

    /// Like [`Self::peek_bytes`], but if reading fails after at least one byte, returns the bytes before the
    /// error. A later read returns the error.
    pub(crate) fn peek_bytes_before_error(&mut self, bytes: usize) -> Result<&[u8], ReadError> {
        if let Err(error) = self.buffer_at_least(bytes) {
            if self.begin == self.end {
                return Err(error);
            }
            self.pending_error = Some(error);
        }
        Ok(&self.buffer[self.begin..self.end])
    }

    fn buffer_at_least(&mut self, bytes: usize) -> Result<(), ReadError> {
        while self.end - self.begin < bytes && !self.is_at_end {
            if let Some(error) = self.pending_error.take() {
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
            self.check_unpacked_size_and_ratio()?;
        }
        Ok(())
    }

    /// Moves past this number of the bytes that the last peek returned.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.begin += bytes;
        self.offset += bytes as u64;
    }

    /// Skips ASCII white space. Returns the byte after it without consuming that byte, and `None` at the end.
    pub(crate) fn skip_whitespace_and_peek(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            let block = self.peek_next_bytes()?;
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

    fn check_unpacked_size_and_ratio(&self) -> Result<(), ReadError> {
        let decoded = self.offset + (self.end - self.begin) as u64;
        let is_over_ratio = self.packed_at.is_some_and(|packed_at| {
            let packed = self.input.last_read_end_offset().saturating_sub(packed_at);
            decoded > DECODED_RATIO_FROM_BYTES && decoded / packed.max(1) > DECODED_RATIO_MAX
        });
        if self.input.is_over_decoded_max(decoded) {
            return Err(ReadError::Source(SourceError::NotSent));
        }
        if is_over_ratio || decoded > DECODED_BYTES_MAX {
            return Err(ReadError::Limit("the payload is too large once decoded".to_owned()));
        }
        Ok(())
    }
}

impl Read for BoundedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.peek_next_bytes().map_err(io::Error::other)?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
