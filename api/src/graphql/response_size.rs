//! What an answer weighs in bytes, before it is made. What is stored is known once the rows are read, and
//! what is told of each row, and how often, stands in the document: so a page ends in time, and an answer
//! that would be too large is refused while it is still rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Context, SelectionField};
use domain::limits::ANSWER_BYTES_MAX;
use domain::row::{EventRow, TypeRow};
use service::apply_mutations::MutationAnswer;
use service::queries::feed::Change;

use crate::error::ApiError;

/// A field of one row, beside its text: its name, its brackets, and its place in memory.
const FIELD_BYTES: usize = 64;
/// A value inside of JSON, beside its text.
const JSON_VALUE_BYTES: usize = 64;

/// What the answer to one request weighs so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseSize(Arc<AtomicUsize>);

impl ResponseSize {
    /// Adds to it.
    ///
    /// # Errors
    /// When that is too much for one answer.
    pub(crate) fn add(&self, bytes: usize) -> Result<(), ApiError> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= ANSWER_BYTES_MAX {
            Ok(())
        } else {
            Err(ApiError::answer_too_large())
        }
    }

    /// Takes off what was added before, and adds this.
    ///
    /// # Errors
    /// As [`ResponseSize::add`].
    pub(crate) fn replace(&self, before: usize, bytes: usize) -> Result<(), ApiError> {
        self.0.fetch_sub(before, Ordering::Relaxed);
        self.add(bytes)
    }

    /// The next answer of a subscription begins.
    pub(crate) fn begin(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// How often a field and all that is below it tell of a row what may be long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SelectionCounts {
    fields: usize,
    notes: usize,
    properties: usize,
    names: usize,
    types: usize,
}

impl SelectionCounts {
    /// Of the field that is being resolved.
    pub(crate) fn of(context: &Context<'_>) -> Self {
        let mut counts = Self::default();
        counts.count(context.field(), false);
        counts
    }

    /// Of a list of events that is being resolved.
    pub(crate) fn of_events(context: &Context<'_>) -> Self {
        let mut counts = Self::default();
        counts.count(context.field(), true);
        counts
    }

    /// Recursion is as deep as the document, which the gate has bounded.
    fn count(&mut self, field: SelectionField<'_>, in_event: bool) {
        for inner in field.selection_set() {
            let name = inner.name();
            self.fields += 1;
            self.notes += usize::from(name == "notes");
            self.properties += usize::from(name == "properties");
            self.names += usize::from(matches!(name, "externalId" | "name" | "excerpt" | "detail"));
            self.types += usize::from(in_event && name == "eventType");
            self.count(inner, in_event || name == "event");
        }
    }

    /// Whether the types of events are told as well.
    pub(crate) fn has_types(&self) -> bool {
        self.types > 0
    }

    /// So many rows without what they say.
    pub(crate) fn rows(&self, rows: usize) -> usize {
        rows * self.fields.max(1) * FIELD_BYTES
    }

    /// What an event says. It is held in memory once though nothing of it is told.
    pub(crate) fn event(&self, row: &EventRow) -> usize {
        let Some(content) = &row.content else {
            return 0;
        };
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let properties = &content.body.properties;
        let place = content.body.location.as_ref().map_or(0, |place| length(&place.name));
        length(&content.body.notes) * self.notes.max(1)
            + properties.len().max(json(properties) * self.properties)
            + self.name(length(&row.external_id) + place)
    }

    /// What an event type says.
    pub(crate) fn event_type(&self, row: &TypeRow) -> usize {
        row.content.as_ref().map_or(0, |content| self.name(content.name.len()))
    }

    /// What a change says.
    pub(crate) fn change(&self, change: &Change) -> usize {
        match change {
            Change::Event(row) => self.event(row),
            Change::EventType(row) => self.event_type(row),
        }
    }

    /// Answers to writes.
    pub(crate) fn answers(&self, answers: &[MutationAnswer]) -> usize {
        let said = answers.iter().map(|answer| match answer {
            MutationAnswer::Event(event) => event.answer.row.as_ref().map_or(0, |row| self.event(row)),
            MutationAnswer::EventType(answer) => answer.row.as_ref().map_or(0, |row| self.event_type(row)),
        });
        said.sum::<usize>() + self.rows(answers.len())
    }

    /// So many bytes of what is as short as a name.
    pub(crate) fn name(&self, bytes: usize) -> usize {
        bytes * self.names.max(1)
    }
}

/// A JSON text, taken apart into its values.
fn json(text: &str) -> usize {
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    text.len() + values * JSON_VALUE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_refused_from_the_byte_on_that_is_too_much() {
        let response_size = ResponseSize::default();
        assert!(response_size.add(ANSWER_BYTES_MAX - 1).is_ok() && response_size.add(1).is_ok());
        assert_eq!(response_size.add(1), Err(ApiError::answer_too_large()));
        response_size.begin();
        assert!(response_size.add(1).is_ok());
    }

    #[test]
    fn json_weighs_its_text_and_its_values() {
        assert_eq!(json("{}"), 2 + 64);
        assert_eq!(json(r#"{"a":[[],[]]}"#), 13 + 5 * 64);
    }
}
