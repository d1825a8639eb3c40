//! The `export.xml` of Apple Health: its records are cut out of it, wherever they stand, and the rest is
//! passed over, the DTD with its entities too.

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

/// The root of an export.
const ROOT: &[u8] = b"HealthData";

/// Whether bytes are one element of XML, its end included.
pub(crate) fn is_element(bytes: &[u8]) -> bool {
    sample::is_element(bytes)
}

/// Whether an XML file that begins so is an export. Its encoding may be UTF-16, which is told later.
pub(crate) fn is_export(head: &[u8]) -> bool {
    let narrow: Vec<u8> = head.iter().copied().filter(|byte| *byte != 0).collect();
    memchr::memmem::find(&narrow, b"<HealthData").is_some()
}

/// The elements within a record of which something is kept. A workout may hold thousands of others.
const CHILDREN: [&[u8]; 2] = [b"MetadataEntry", b"WorkoutStatistics"];

/// Reads the elements that become events. What is broken in one of them costs that one.
pub(crate) struct Export {
    tags: Tags,
    record: RecordBuffer,
    open: Vec<Name>,
    /// How many elements are open around the record that is being read.
    around: Option<usize>,
    /// How long the record was before an element within it of which nothing is kept.
    passed_over: Option<usize>,
    was_root: bool,
}

impl Export {
    pub(crate) fn new(bytes: BoundedReader) -> Self {
        let tags = Tags::new(bytes);
        Self {
            tags,
            record: RecordBuffer::default(),
            open: Vec::new(),
            around: None,
            passed_over: None,
            was_root: false,
        }
    }

    /// Reads on by one tag; whether with it a record is whole.
    fn step(&mut self) -> Result<bool, ReadError> {
        if self.around.is_none() {
            self.record.clear();
            self.passed_over = None;
        }
        let keep_text = self.around.is_some();
        let before = self.record.len();
        let markup = self.tags.next(&mut self.record, keep_text)?;
        match markup {
            Markup::End if self.was_root => Err(ReadError::format("the XML is cut: HealthData does not end")),
            Markup::End => Err(ReadError::format("the XML has no root element")),
            Markup::Open { name, is_whole, is_empty } => {
                if is_whole && self.is_passed_over(name) {
                    self.passed_over = Some(before);
                }
                let is_record = self.open(name, is_whole, is_empty)?;
                if is_empty {
                    self.forget_passed_over();
                }
                Ok(is_record)
            }
            Markup::Close(name) => {
                let is_record = self.close(name);
                if !is_record {
                    self.forget_passed_over();
                }
                Ok(is_record)
            }
        }
    }

    /// An element begins; one that is broken is taken for empty, so that what follows stands by itself.
    fn open(&mut self, name: Name, is_whole: bool, is_empty: bool) -> Result<bool, ReadError> {
        if self.open.is_empty() {
            self.was_root = true;
            if name != Name::new(ROOT) {
                return Err(ReadError::Format(format!("the root of the XML is {name}, not HealthData")));
            }
        }
        if self.open.len() == XML_DEPTH_MAX {
            return Err(ReadError::Format(format!(
                "elements of the XML are nested deeper than {XML_DEPTH_MAX}"
            )));
        }
        let is_record = sample::ELEMENTS.iter().any(|element| name == Name::new(element.as_bytes()));
        if !is_whole && self.around.is_some() {
            self.open.truncate(self.around.take().unwrap_or_default());
            return Ok(true);
        }
        if is_empty || !is_whole {
            return Ok(is_record && self.around.is_none());
        }
        if is_record && self.around.is_none() {
            self.around = Some(self.open.len());
        }
        self.open.push(name);
        Ok(false)
    }

    /// Whether an element begins here, directly within a record, of which nothing is kept.
    fn is_passed_over(&self, name: Name) -> bool {
        let is_child = self.around.is_some_and(|around| self.open.len() == around + 1);
        is_child && self.passed_over.is_none() && CHILDREN.iter().all(|kept| name != Name::new(kept))
    }

    /// Takes the element out of the record that was passed over, if it has ended.
    fn forget_passed_over(&mut self) {
        let has_ended = self.around.is_none_or(|around| self.open.len() <= around + 1);
        if let Some(length) = self.passed_over.filter(|_| has_ended) {
            self.record.truncate(length);
            self.passed_over = None;
        }
    }

    /// An element ends, and all in it that did not; an end without a beginning is passed over.
    fn close(&mut self, name: Name) -> bool {
        if let Some(at) = self.open.iter().rposition(|open| *open == name) {
            self.open.truncate(at);
        }
        let is_record = self.around.is_some_and(|around| self.open.len() <= around);
        if is_record {
            self.around = None;
        }
        is_record
    }
}

impl RecordReader for Export {
    fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            if self.was_root && self.open.is_empty() {
                return self.tags.end().map(|()| false);
            }
            if self.step()? {
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
        Position { byte: self.tags.offset(), lines: 0 }
    }

    /// A type is a name, and never an id.
    fn explain(&self, mut problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
        for problem in problems.iter_mut().filter(|problem| problem.pointer == "/eventTypeId") {
            "/eventType".clone_into(&mut problem.pointer);
        }
        problems
    }

    fn read(&self, user_id: Uuid) -> Result<ParsedRecord, Vec<FieldProblem>> {
        let sample = sample::parse(self.record.bytes())?;
        let missing_id = MissingId::Keyed(user_id, sample.keys);
        Ok(ParsedRecord { draft: sample.draft, missing_id, problems: sample.problems })
    }
}
