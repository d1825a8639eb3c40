//! The tags of an XML file one by one, in flat memory. Comments, instructions, CDATA and the DTD are
//! passed over; nothing in them is resolved.

use std::fmt;

use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::reader::RecordBuffer;

/// Letters of a name that count.
const NAME_BYTES: usize = 40;

/// The name of an element, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    bytes: [u8; NAME_BYTES],
    length: usize,
}

impl Name {
    pub(super) fn new(name: &[u8]) -> Self {
        let (mut bytes, length) = ([0; NAME_BYTES], name.len().min(NAME_BYTES));
        bytes[..length].copy_from_slice(&name[..length]);
        Self { bytes, length }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.bytes[..self.length]))
    }
}

/// What comes next in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Markup {
    /// An element begins.
    Open {
        /// Its name.
        name: Name,
        /// Its tag ends before the next one begins.
        is_whole: bool,
        /// It ends with its tag.
        is_empty: bool,
    },
    /// An element ends.
    Close(Name),
    /// The file ends.
    End,
}

/// Reads tags.
pub(super) struct Tags {
    bytes: BoundedReader,
}

impl Tags {
    pub(super) fn new(bytes: BoundedReader) -> Self {
        Self { bytes }
    }

    /// Where the file goes on.
    pub(super) fn offset(&self) -> u64 {
        self.bytes.offset()
    }

    /// The next tag; it is kept, with the text before it where that is wanted. No comment is.
    pub(super) fn next(&mut self, kept: &mut RecordBuffer, keep_text: bool) -> Result<Markup, ReadError> {
        loop {
            self.until(b'<', |text| {
                if keep_text {
                    kept.extend(text);
                }
            })?;
            let begin = self.bytes.peek(9)?;
            if begin.len() < 2 {
                return if begin.is_empty() { Ok(Markup::End) } else { Err(cut()) };
            }
            if begin.starts_with(b"<!--") {
                self.bytes.consume(4);
                self.skip_past(b"-->")?;
            } else if begin.starts_with(b"<![CDATA[") {
                self.bytes.consume(9);
                self.skip_past(b"]]>")?;
            } else if begin.starts_with(b"<?") {
                self.bytes.consume(2);
                self.skip_past(b"?>")?;
            } else if begin.starts_with(b"<!") {
                self.bytes.consume(2);
                self.skip_dtd()?;
            } else {
                return self.tag(kept);
            }
        }
    }

    /// Makes sure that nothing but comments, instructions and blanks follows.
    pub(super) fn end(&mut self) -> Result<(), ReadError> {
        let mut kept = RecordBuffer::default();
        let markup = self.next(&mut kept, true)?;
        if markup == Markup::End && kept.bytes().trim_ascii().is_empty() {
            return Ok(());
        }
        Err(ReadError::format("the XML goes on after its root element"))
    }

    /// Goes to the next such byte, and hands out what is before it.
    fn until(&mut self, byte: u8, mut before: impl FnMut(&[u8])) -> Result<(), ReadError> {
        loop {
            let block = self.bytes.fill()?;
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

    /// Goes on behind an end mark.
    fn skip_past(&mut self, mark: &[u8]) -> Result<(), ReadError> {
        loop {
            self.until(mark[0], |_| {})?;
            let next = self.bytes.peek(mark.len())?;
            if next.starts_with(mark) {
                self.bytes.consume(mark.len());
                return Ok(());
            }
            if next.is_empty() {
                return Err(cut());
            }
            self.bytes.consume(1);
        }
    }

    /// Goes on behind a DTD: its texts, comments and the brackets around its declarations are told apart.
    fn skip_dtd(&mut self) -> Result<(), ReadError> {
        let mut is_inside = false;
        loop {
            let next = self.bytes.peek(4)?;
            let (Some(first), is_comment) = (next.first().copied(), next.starts_with(b"<!--")) else {
                return Err(cut());
            };
            let is_instruction = next.starts_with(b"<?");
            self.bytes.consume(if is_comment { 4 } else { 1 });
            match first {
                _ if is_comment => self.skip_past(b"-->")?,
                _ if is_instruction => self.skip_past(b"?>")?,
                b'"' | b'\'' => self.skip_past(&[first])?,
                b'[' => is_inside = true,
                b']' => is_inside = false,
                b'>' if !is_inside => return Ok(()),
                _ => {}
            }
        }
    }

    /// Reads the tag that begins here. It ends where another begins: no value holds a `<`.
    fn tag(&mut self, kept: &mut RecordBuffer) -> Result<Markup, ReadError> {
        let (mut name, mut is_named) = ([0; NAME_BYTES + 1], false);
        let (mut length, mut quote, mut last) = (0, None, b'<');
        kept.extend(b"<");
        self.bytes.consume(1);
        loop {
            let block = self.bytes.fill()?;
            if block.is_empty() {
                return Err(cut());
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

fn cut() -> ReadError {
    ReadError::format("the XML is cut")
}
