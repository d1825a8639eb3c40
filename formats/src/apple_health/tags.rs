//! Reads the tags of an XML file one after the other, without keeping the file in memory. Comments,
//! processing instructions, CDATA and the DTD are skipped, and nothing in them is resolved.

use std::fmt;

use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::reader::RecordBuffer;

/// Number of bytes of an element name that are compared. Longer names are cut.
const NAME_BYTES_MAX: usize = 40;

/// The name of an XML element, cut to [`NAME_BYTES_MAX`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl Name {
    pub(super) fn new(name: &[u8]) -> Self {
        let (mut bytes, length) = ([0; NAME_BYTES_MAX], name.len().min(NAME_BYTES_MAX));
        bytes[..length].copy_from_slice(&name[..length]);
        Self { bytes, length }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.bytes[..self.length]))
    }
}

/// The next tag of a file, or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Markup {
    /// A start tag.
    Open {
        /// The name of the element.
        name: Name,
        /// Whether the tag has its `>` before the next `<`.
        is_whole: bool,
        /// Whether the tag ends in `/>`, so that no end tag follows.
        is_empty: bool,
    },
    /// An end tag.
    Close(Name),
    /// The end of the file.
    End,
}

/// Reads the tags of an XML file one after the other.
pub(super) struct Tags {
    bytes: BoundedReader,
}

impl Tags {
    pub(super) fn new(bytes: BoundedReader) -> Self {
        Self { bytes }
    }

    /// The offset of the next byte in the unpacked payload.
    pub(super) fn next_byte_offset(&self) -> u64 {
        self.bytes.next_byte_offset()
    }

    /// Reads the next tag and adds its bytes to `kept`. The text before it is added if `keep_text` is true.
    /// Comments, CDATA, processing instructions and the DTD are never added.
    pub(super) fn next_tag(&mut self, kept: &mut RecordBuffer, keep_text: bool) -> Result<Markup, ReadError> {
        loop {
            self.skip_to_byte(b'<', |text| {
                if keep_text {
                    kept.extend(text);
                }
            })?;
            let begin = self.bytes.peek_bytes(9)?;
            if begin.len() < 2 {
                return if begin.is_empty() { Ok(Markup::End) } else { Err(cut_off_error()) };
            }
            if begin.starts_with(b"<!--") {
                self.bytes.consume(4);
                self.skip_past_mark(b"-->")?;
            } else if begin.starts_with(b"<![CDATA[") {
                self.bytes.consume(9);
                self.skip_past_mark(b"]]>")?;
            } else if begin.starts_with(b"<?") {
                self.bytes.consume(2);
                self.skip_past_mark(b"?>")?;
            } else if begin.starts_with(b"<!") {
                self.bytes.consume(2);
                self.skip_dtd()?;
            } else {
                return self.read_tag(kept);
            }
        }
    }

    /// Reads to the end of the file. Fails if a tag or text other than white space follows.
    pub(super) fn check_nothing_follows(&mut self) -> Result<(), ReadError> {
        let mut kept = RecordBuffer::default();
        let markup = self.next_tag(&mut kept, true)?;
        if markup == Markup::End && kept.bytes().trim_ascii().is_empty() {
            return Ok(());
        }
        Err(ReadError::new_format_error("the XML goes on after its root element"))
    }

    /// Moves to the next occurrence of a byte, or to the end of the file. Passes the bytes before it to
    /// `before`.
    fn skip_to_byte(&mut self, byte: u8, mut before: impl FnMut(&[u8])) -> Result<(), ReadError> {
        loop {
            let block = self.bytes.peek_next_bytes()?;
            if block.is_empty() {
                return Ok(());
            }
            let found = memchr::memchr(byte, block);
            let length = found.unwrap_or(block.len());
            before(&block[..length]);
            self.bytes.consume(length);
            if found.is_some() {
                return Ok(());
            }
        }
    }

    /// Skips everything up to and including an end mark such as `-->`. Fails if the file ends before it.
    fn skip_past_mark(&mut self, mark: &[u8]) -> Result<(), ReadError> {
        loop {
            self.skip_to_byte(mark[0], |_| {})?;
            let next = self.bytes.peek_bytes(mark.len())?;
            if next.starts_with(mark) {
                self.bytes.consume(mark.len());
                return Ok(());
            }
            if next.is_empty() {
                return Err(cut_off_error());
            }
            self.bytes.consume(1);
        }
    }

    /// Skips a DTD up to its closing `>`. A `>` in its literals, comments or processing instructions, or
    /// within its brackets, does not close it.
    fn skip_dtd(&mut self) -> Result<(), ReadError> {
        let mut is_inside = false;
        loop {
            let next = self.bytes.peek_bytes(4)?;
            let (Some(first), is_comment) = (next.first().copied(), next.starts_with(b"<!--")) else {
                return Err(cut_off_error());
            };
            let is_instruction = next.starts_with(b"<?");
            self.bytes.consume(if is_comment { 4 } else { 1 });
            match first {
                _ if is_comment => self.skip_past_mark(b"-->")?,
                _ if is_instruction => self.skip_past_mark(b"?>")?,
                b'"' | b'\'' => self.skip_past_mark(&[first])?,
                b'[' => is_inside = true,
                b']' => is_inside = false,
                b'>' if !is_inside => return Ok(()),
                _ => {}
            }
        }
    }

    /// Reads the tag that begins at the next byte, and adds its bytes to `kept`. It ends at the next `<` at
    /// the latest, because no attribute value may hold that character.
    fn read_tag(&mut self, kept: &mut RecordBuffer) -> Result<Markup, ReadError> {
        let (mut name, mut is_named) = ([0; NAME_BYTES_MAX + 1], false);
        let (mut length, mut quote, mut last) = (0, None, b'<');
        kept.extend(b"<");
        self.bytes.consume(1);
        loop {
            let block = self.bytes.peek_next_bytes()?;
            if block.is_empty() {
                return Err(cut_off_error());
            }
            let mut at = 0;
            let mut end = None;
            while at < block.len() {
                let byte = block[at];
                match quote {
                    Some(open) => {
                        let Some(found) = memchr::memchr2(open, b'<', &block[at..]) else {
                            at = block.len();
                            break;
                        };
                        at += found;
                        if block[at] == b'<' {
                            end = Some(false);
                            break;
                        }
                        quote = None;
                    }
                    None if byte == b'<' || byte == b'>' => {
                        end = Some(byte == b'>');
                        break;
                    }
                    None => {
                        quote = matches!(byte, b'"' | b'\'').then_some(byte);
                        is_named |= byte <= b' ' || (byte == b'/' && length > 0);
                        if !is_named && length < name.len() {
                            name[length] = byte;
                            length += 1;
                        }
                    }
                }
                last = block[at];
                at += 1;
            }
            let is_whole = end == Some(true);
            let taken = at + usize::from(is_whole);
            kept.extend(&block[..taken]);
            self.bytes.consume(taken);
            if end.is_some() {
                let name = &name[..length];
                return Ok(match name.strip_prefix(b"/") {
                    Some(name) => Markup::Close(Name::new(name)),
                    None => Markup::Open { name: Name::new(name), is_whole, is_empty: last == b'/' },
                });
            }
        }
    }
}

fn cut_off_error() -> ReadError {
    ReadError::new_format_error("the XML is cut")
}
