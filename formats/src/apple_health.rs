//! Reads the `export.xml` of Apple Health. Records are read at any depth, and everything else is skipped,
//! including the DTD and its entities.

mod sample;
mod tags;
#[cfg(test)]
mod tests;

use domain::draft::MissingId;
use domain::limits::XML_DEPTH_MAX;
use domain::problem::FieldProblem;
use uuid::Uuid;

use crate::ReadError;
use crate::bounded::BoundedReader;
use crate::reader::{ParsedRecord, Position, RecordBuffer, RecordReader};
use tags::{Markup, Name, Tags};

/// Name of the root element of an export.
const ROOT: &[u8] = b"HealthData";

/// Whether bytes are exactly one complete and well-formed XML element.
pub(crate) fn is_complete_element(bytes: &[u8]) -> bool {
    sample::is_complete_element(bytes)
}

/// Whether the first bytes of a file hold the root tag of an Apple Health export. A file in UTF-16 counts as
/// well, so that a later check can report its encoding.
pub(crate) fn is_export_head(head: &[u8]) -> bool {
    let narrow: Vec<u8> = head.iter().copied().filter(|byte| *byte != 0).collect();
    memchr::memmem::find(&narrow, b"<HealthData").is_some()
}

/// The child elements of a record that are kept. A workout may hold thousands of others, which are dropped.
const KEPT_CHILDREN: [&[u8]; 2] = [b"MetadataEntry", b"WorkoutStatistics"];

/// Splits an Apple Health export into records: its `Record` and `Workout` elements. A malformed element does
/// not affect the elements after it.
pub(crate) struct ExportReader {
    tags: Tags,
    record: RecordBuffer,
    open_elements: Vec<Name>,
    /// Number of open elements around the current record; `None` outside of a record.
    record_depth: Option<usize>,
    /// Length of the record before an element within it that is not kept; `None` outside of such an element.
    discard_from: Option<usize>,
    has_root: bool,
}

impl ExportReader {
    pub(crate) fn new(bytes: BoundedReader) -> Self {
        let tags = Tags::new(bytes);
        Self {
            tags,
            record: RecordBuffer::default(),
            open_elements: Vec::new(),
            record_depth: None,
            discard_from: None,
            has_root: false,
        }
    }

    /// Reads the next tag, and adds it to the current record if one is open or begins. Returns whether it
    /// completes a record.
    fn process_next_tag(&mut self) -> Result<bool, ReadError> {
        if self.record_depth.is_none() {
            self.record.clear();
            self.discard_from = None;
        }
        let keep_text = self.record_depth.is_some();
        let length_before = self.record.record_length();
        let markup = self.tags.next_tag(&mut self.record, keep_text)?;
        match markup {
            Markup::End if self.has_root => {
                Err(ReadError::new_format_error("the XML is cut: HealthData does not end"))
            }
            Markup::End => Err(ReadError::new_format_error("the XML has no root element")),
            Markup::Open { name, is_whole, is_empty } => {
                if is_whole && self.is_discarded_element(name) {
                    self.discard_from = Some(length_before);
                }
                let is_record = self.handle_element_start(name, is_whole, is_empty)?;
                if is_empty {
                    self.remove_ended_discarded_element();
                }
                Ok(is_record)
            }
            Markup::Close(name) => {
                let is_record = self.handle_element_end(name);
                if !is_record {
                    self.remove_ended_discarded_element();
                }
                Ok(is_record)
            }
        }
    }

    /// Handles the start of an element. A tag without its end counts as an empty element, so that the
    /// elements after it are not affected. Returns whether it completes a record.
    fn handle_element_start(
        &mut self,
        name: Name,
        is_whole: bool,
        is_empty: bool,
    ) -> Result<bool, ReadError> {
        if self.open_elements.is_empty() {
            self.has_root = true;
            if name != Name::new(ROOT) {
                return Err(ReadError::Format(format!("the root of the XML is {name}, not HealthData")));
            }
        }
        if self.open_elements.len() == XML_DEPTH_MAX {
            return Err(ReadError::Format(format!(
                "elements of the XML are nested deeper than {XML_DEPTH_MAX}"
            )));
        }
        let is_record = sample::ELEMENTS.iter().any(|element| name == Name::new(element.as_bytes()));
        if !is_whole && self.record_depth.is_some() {
            self.open_elements.truncate(self.record_depth.take().unwrap_or_default());
            return Ok(true);
        }
        if is_empty || !is_whole {
            return Ok(is_record && self.record_depth.is_none());
        }
        if is_record && self.record_depth.is_none() {
            self.record_depth = Some(self.open_elements.len());
        }
        self.open_elements.push(name);
        Ok(false)
    }

    /// Whether an element begins here, directly within a record, that is not kept.
    fn is_discarded_element(&self, name: Name) -> bool {
        let is_child =
            self.record_depth.is_some_and(|record_depth| self.open_elements.len() == record_depth + 1);
        is_child && self.discard_from.is_none() && KEPT_CHILDREN.iter().all(|kept| name != Name::new(kept))
    }

    /// If a child element that is not kept has ended, removes its bytes from the record.
    fn remove_ended_discarded_element(&mut self) {
        let has_ended =
            self.record_depth.is_none_or(|record_depth| self.open_elements.len() <= record_depth + 1);
        if let Some(length) = self.discard_from.filter(|_| has_ended) {
            self.record.truncate(length);
            self.discard_from = None;
        }
    }

    /// Handles the end of an element, and of all elements that are open in it. An end without a start is
    /// ignored. Returns whether it completes a record.
    fn handle_element_end(&mut self, name: Name) -> bool {
        if let Some(at) = self.open_elements.iter().rposition(|open| *open == name) {
            self.open_elements.truncate(at);
        }
        let is_record =
            self.record_depth.is_some_and(|record_depth| self.open_elements.len() <= record_depth);
        if is_record {
            self.record_depth = None;
        }
        is_record
    }
}

impl RecordReader for ExportReader {
    fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            if self.has_root && self.open_elements.is_empty() {
                return self.tags.check_nothing_follows().map(|()| false);
            }
            if self.process_next_tag()? {
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
        Position { byte: self.tags.next_byte_offset(), lines: 0 }
    }

    /// Changes the pointer `/eventTypeId` of problems to `/eventType`, because a record names its type and
    /// never has its id.
    fn explain_problems(&self, mut problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        for problem in problems.iter_mut().filter(|problem| problem.pointer == "/eventTypeId") {
            "/eventType".clone_into(&mut problem.pointer);
        }
        problems
    }

    fn parse_record(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        let sample = sample::parse_sample(self.record.bytes())?;
        let missing_id = MissingId::FromKeys(user_id, sample.keys);
        Ok(ParsedRecord { draft: sample.draft, missing_id, problems: sample.problems })
    }
}
