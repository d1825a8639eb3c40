//! One array of JSON objects.

use domain::draft::MissingId;
use domain::problem::FieldProblem;
use uuid::Uuid;

use super::parse_leniently;
use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::reader::{ParsedRecord, Position, RecordBuffer, RecordReader};

/// Splits the array into its elements; what they are is for [`parse_leniently`] to say.
pub(crate) struct Array {
    bytes: BoundedReader,
    record: RecordBuffer,
    elements: u64,
    is_open: bool,
}

impl Array {
    pub(crate) fn new(bytes: BoundedReader) -> Self {
        Self { bytes, record: RecordBuffer::default(), elements: 0, is_open: false }
    }

    /// What is wrong here.
    fn fault(&self, what: &str) -> ReadError {
        let (byte, elements) = (self.bytes.offset(), self.elements);
        ReadError::Format(format!("{what} at byte {byte}, after {elements} elements of the array"))
    }

    /// Goes to the next element; false at the end of the array.
    fn find(&mut self) -> Result<bool, ReadError> {
        let mut next = self.bytes.skip_blanks()?;
        if !self.is_open {
            if next != Some(b'[') {
                return Err(self.fault("the payload is no JSON array"));
            }
            self.is_open = true;
            self.bytes.consume(1);
            next = self.bytes.skip_blanks()?;
        } else if next == Some(b',') {
            self.bytes.consume(1);
            next = self.bytes.skip_blanks()?;
            return match next {
                Some(b',' | b']' | b'}') => Err(self.fault("an element is missing")),
                Some(_) => Ok(true),
                None => Err(self.fault("the array is cut")),
            };
        } else if !matches!(next, Some(b']') | None) {
            return Err(self.fault("neither a comma nor the end of the array comes"));
        }
        match next {
            None => Err(self.fault("the array is cut")),
            Some(b']') => {
                self.bytes.consume(1);
                match self.bytes.skip_blanks()? {
                    None => Ok(false),
                    Some(_) => Err(self.fault("something follows the array")),
                }
            }
            Some(b',' | b'}') => Err(self.fault("an element is missing")),
            Some(_) => Ok(true),
        }
    }
}

impl RecordReader for Array {
    fn advance(&mut self) -> Result<bool, ReadError> {
        if !self.find()? {
            return Ok(false);
        }
        self.record.clear();
        let mut scan = Scan::default();
        loop {
            let block = self.bytes.fill()?;
            if block.is_empty() {
                return Err(self.fault("the array is cut"));
            }
            let (length, is_whole) = scan.run(block);
            self.record.extend(&block[..length]);
            self.bytes.consume(length);
            if is_whole {
                self.elements += 1;
                return Ok(true);
            }
        }
    }

    fn raw(&self) -> &[u8] {
        self.record.bytes()
    }

    fn is_too_long(&self) -> bool {
        self.record.is_too_long()
    }

    fn position(&self) -> Position {
        Position { byte: self.bytes.offset(), lines: 0 }
    }

    fn read(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        let (draft, problems) = parse_leniently(self.record.bytes())?;
        Ok(ParsedRecord { draft, missing_id: MissingId::Derived(user_id), problems })
    }
}

/// Where in an element a scan stands. However deep it is nested, only the depth is kept.
#[derive(Default)]
struct Scan {
    depth: u64,
    is_in_text: bool,
    is_escaped: bool,
}

impl Scan {
    /// Scans on; returns how many bytes belong to the element, and whether it is whole.
    fn run(&mut self, block: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < block.len() {
            if self.is_escaped {
                self.is_escaped = false;
                at += 1;
            } else if self.is_in_text {
                let Some(found) = memchr::memchr2(b'"', b'\\', &block[at..]) else { break };
                at += found + 1;
                self.is_escaped = block[at - 1] == b'\\';
                self.is_in_text = self.is_escaped;
                if self.depth == 0 && !self.is_in_text {
                    return (at, true);
                }
            } else {
                match block[at] {
                    b'"' => self.is_in_text = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 0 => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return (at + 1, true);
                        }
                    }
                    b'}' | b']' | b',' if self.depth == 0 => return (at, true),
                    byte if self.depth == 0 && byte.is_ascii_whitespace() => return (at, true),
                    _ => {}
                }
                at += 1;
            }
        }
        (block.len(), false)
    }
}
