//! The `export.xml` of Apple Health: its records are cut out of it, wherever they stand, and the rest is
//! passed over, the DTD with its entities too.

mod tags;

use domain::limits::XML_DEPTH_MAX;
use domain::rules::draft::{EventDraft, MissingId};
use domain::rules::health;
use domain::rules::problem::FieldProblem;
use uuid::Uuid;

use super::Fault;
use super::cutter::{Cutter, Kept, Place};
use super::decoded::Decoded;
use tags::{Markup, Name, Tags};

/// The root of an export.
const ROOT: &[u8] = b"HealthData";

/// Cuts the elements that become events. What is broken in one of them costs that one.
pub(super) struct Export {
    tags: Tags,
    kept: Kept,
    open: Vec<Name>,
    /// How many elements are open around the record that is being cut.
    around: Option<usize>,
    was_root: bool,
}

impl Export {
    pub(super) fn new(decoded: Decoded) -> Self {
        let tags = Tags::new(decoded);
        Self { tags, kept: Kept::default(), open: Vec::new(), around: None, was_root: false }
    }

    /// Reads on by one tag; whether with it a record is whole.
    fn step(&mut self) -> Result<bool, Fault> {
        if self.around.is_none() {
            self.kept.clear();
        }
        let keep_text = self.around.is_some();
        let markup = self.tags.next(&mut self.kept, keep_text)?;
        match markup {
            Markup::End if self.was_root => Err(Fault::format("the XML is cut: HealthData does not end")),
            Markup::End => Err(Fault::format("the XML has no root element")),
            Markup::Open { name, is_whole, is_empty } => self.open(name, is_whole, is_empty),
            Markup::Close(name) => Ok(self.close(name)),
        }
    }

    /// An element begins; one that is broken is taken for empty, so that what follows stands by itself.
    fn open(&mut self, name: Name, is_whole: bool, is_empty: bool) -> Result<bool, Fault> {
        if self.open.is_empty() {
            self.was_root = true;
            if name != Name::new(ROOT) {
                return Err(Fault::format(format!("the root of the XML is {name}, not HealthData")));
            }
        }
        if self.open.len() == XML_DEPTH_MAX {
            return Err(Fault::format(format!("elements of the XML are nested deeper than {XML_DEPTH_MAX}")));
        }
        let is_record = health::ELEMENTS.iter().any(|element| name == Name::new(element.as_bytes()));
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

impl Cutter for Export {
    fn advance(&mut self) -> Result<bool, Fault> {
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
        self.kept.bytes()
    }

    fn is_too_long(&self) -> bool {
        self.kept.is_too_long()
    }

    fn place(&self) -> Place {
        Place { byte: self.tags.offset(), lines: 0 }
    }

    fn draft(&self, user_id: Uuid) -> Result<(EventDraft, MissingId), Vec<FieldProblem>> {
        let sample = health::parse(self.kept.bytes())?;
        Ok((sample.draft, MissingId::Keyed(user_id, sample.key)))
    }
}
