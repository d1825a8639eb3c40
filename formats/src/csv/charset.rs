//! Decodes a CSV to UTF-8. Its encoding is UTF-8 unless a byte order mark or the mapping names another one.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

use crate::Input;
use crate::ReadError;
use crate::bounded::BoundedReader;

/// Number of bytes of decoded text that are buffered.
const BUFFER_BYTES: usize = 32 * 1024;
/// Stands for bytes that cannot be decoded. It never occurs in UTF-8, so the row that has it is rejected.
const NOT_DECODABLE: u8 = 0xff;

/// The encoding that a label of the WHATWG encoding standard names. `None` for `auto` or an empty label.
///
/// # Errors
/// The detail of a problem if there is no such label.
pub(super) fn encoding_by_label(label: &str) -> Result<Option<&'static Encoding>, String> {
    if label.is_empty() || label == "auto" {
        return Ok(None);
    }
    Encoding::for_label_no_replacement(label.as_bytes()).map(Some).ok_or_else(|| {
        "must be auto, or a label of the WHATWG encoding standard such as windows-1252".to_owned()
    })
}

/// Returns a reader of a CSV as UTF-8, and the encoding of the file: that of its byte order mark, or else
/// `named`, or else UTF-8. Bytes that cannot be decoded become [`NOT_DECODABLE`]. UTF-8 is not checked.
///
/// # Errors
/// [`ReadError`] if the first bytes cannot be read.
pub(super) fn decode_to_utf8(
    mut bytes: BoundedReader,
    named: Option<&'static Encoding>,
    input: &Input,
) -> Result<(BoundedReader, &'static Encoding), ReadError> {
    let marked = Encoding::for_bom(bytes.peek_bytes_before_error(3)?);
    let encoding = match (named, marked) {
        // If a byte order mark contradicts the mapping, the mark is right more often.
        (_, Some((encoding, _))) => encoding,
        (Some(named), None) => named,
        (None, None) => UTF_8,
    };
    if encoding == UTF_8 {
        return Ok((bytes, encoding));
    }
    if let Some((_, mark)) = marked {
        bytes.consume(mark);
    }
    let decoder = encoding.new_decoder_without_bom_handling();
    let text =
        Transcoder { bytes, decoder, buffer: Vec::with_capacity(BUFFER_BYTES), at: 0, is_at_end: false };
    Ok((BoundedReader::of_plain(text, 0, input), encoding))
}

/// Decodes text in another encoding to UTF-8. Bytes that cannot be decoded become [`NOT_DECODABLE`].
struct Transcoder {
    bytes: BoundedReader,
    decoder: Decoder,
    /// Decoded text. The bytes from `at` on were not read yet.
    buffer: Vec<u8>,
    at: usize,
    is_at_end: bool,
}

impl Transcoder {
    fn decode_next_block(&mut self) -> Result<(), ReadError> {
        self.buffer.resize(BUFFER_BYTES, 0);
        self.at = 0;
        let mut written = 0;
        while written == 0 && !self.is_at_end {
            let block = self.bytes.peek_next_bytes()?;
            let is_last = block.is_empty();
            let room = &mut self.buffer[..BUFFER_BYTES - 1];
            let (result, read, wrote) =
                self.decoder.decode_to_utf8_without_replacement(block, &mut room[written..], is_last);
            self.bytes.consume(read);
            written += wrote;
            match result {
                DecoderResult::Malformed(..) => {
                    self.buffer[written] = NOT_DECODABLE;
                    written += 1;
                }
                DecoderResult::InputEmpty => self.is_at_end = is_last,
                DecoderResult::OutputFull => {}
            }
        }
        self.buffer.truncate(written);
        Ok(())
    }
}

impl Read for Transcoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() && !self.is_at_end {
            self.decode_next_block().map_err(io::Error::other)?;
        }
        let available = &self.buffer[self.at..];
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.at += length;
        Ok(length)
    }
}
