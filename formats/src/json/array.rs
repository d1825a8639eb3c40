//! Reads one JSON array of objects.

use domain::draft::MissingId;
use domain::problem::FieldProblem;
use uuid::Uuid;

use super::parse_record_reporting_unknown_fields;
use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::reader::{ParsedRecord, Position, RecordBuffer, RecordReader};

/// Splits a payload that is one JSON array into its elements, which are the records.
pub(crate) struct ArrayReader {
    bytes: BoundedReader,
    record: RecordBuffer,
    elements: u64,
    has_begun: bool,
}

impl ArrayReader {
    pub(crate) fn new(bytes: BoundedReader) -> Self {
        Self { bytes, record: RecordBuffer::default(), elements: 0, has_begun: false }
    }

    /// A format error. The current offset and the number of elements read so far are added to the detail.
    fn error_at_offset(&self, detail: &str) -> ReadError {
        let (byte, elements) = (self.bytes.next_byte_offset(), self.elements);
        ReadError::Format(format!("{detail} at byte {byte}, after {elements} elements of the array"))
    }

    /// Moves to the first byte of the next element. Returns `false` at the end of the array, after checking
    /// that nothing follows it.
    fn move_to_next_element(&mut self) -> Result<bool, ReadError> {
        let mut next = self.bytes.skip_whitespace_and_peek()?;
        if !self.has_begun {
            if next != Some(b'[') {
                return Err(self.error_at_offset("the payload is not a JSON array"));
            }
            self.has_begun = true;
            self.bytes.consume(1);
            next = self.bytes.skip_whitespace_and_peek()?;
        } else if next == Some(b',') {
            self.bytes.consume(1);
            next = self.bytes.skip_whitespace_and_peek()?;
            return match next {
                Some(b',' | b']' | b'}') => Err(self.error_at_offset("an element is missing")),
                Some(_) => Ok(true),
                None => Err(self.error_at_offset("the array is cut")),
            };
        } else if !matches!(next, Some(b']') | None) {
            return Err(self.error_at_offset("a comma or the end of the array is missing"));
        }
        match next {
            None => Err(self.error_at_offset("the array is cut")),
            Some(b']') => {
                self.bytes.consume(1);
                match self.bytes.skip_whitespace_and_peek()? {
                    None => Ok(false),
                    Some(_) => Err(self.error_at_offset("something follows the array")),
                }
            }
            Some(b',' | b'}') => Err(self.error_at_offset("an element is missing")),
            Some(_) => Ok(true),
        }
    }
}

impl RecordReader for ArrayReader {
    fn advance(&mut self) -> Result<bool, ReadError> {
        if !self.move_to_next_element()? {
            return Ok(false);
        }
        self.record.clear();
        let mut scanner = ElementScanner::default();
        loop {
            let block = self.bytes.peek_next_bytes()?;
            if block.is_empty() {
                return Err(self.error_at_offset("the array is cut"));
            }
            let (length, is_complete) = scanner.scan_for_element_end(block);
            self.record.extend(&block[..length]);
            self.bytes.consume(length);
            if is_complete {
                self.elements += 1;
                return Ok(true);
            }
        }
    }

    fn raw_bytes(&self) -> &[u8] {
        self.record.bytes()
    }

    fn is_too_long(&self) -> bool {
        self.record.is_too_long()
    }

    fn position_after_record(&self) -> Position {
        Position { byte: self.bytes.next_byte_offset(), lines: 0 }
    }

    fn parse_record(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        let (draft, problems) = parse_record_reporting_unknown_fields(self.record.bytes())?;
        Ok(ParsedRecord { draft, missing_id: MissingId::Derived(user_id), problems })
    }
}

/// The state of a scan for the end of one element of an array. However deep the element is nested, only the
/// depth is kept.
#[derive(Default)]
struct ElementScanner {
    depth: u64,
    is_in_string: bool,
    is_escaped: bool,
}

impl ElementScanner {
    /// Continues the scan. Returns how many bytes at the beginning of `block` belong to the element, and
    /// whether the element ends there.
    fn scan_for_element_end(&mut self, block: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < block.len() {
            if self.is_escaped {
                self.is_escaped = false;
                at += 1;
            } else if self.is_in_string {
                let Some(found) = memchr::memchr2(b'"', b'\\', &block[at..]) else { break };
                at += found + 1;
                self.is_escaped = block[at - 1] == b'\\';
                self.is_in_string = self.is_escaped;
                if self.depth == 0 && !self.is_in_string {
                    return (at, true);
                }
            } else {
                match block[at] {
                    b'"' => self.is_in_string = true,
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
