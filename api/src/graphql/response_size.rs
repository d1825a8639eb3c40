//! Estimates the size of a response in bytes before the response is built.
//!
//! The sizes of the stored values are known once the rows are read. The document says which of these values
//! the response contains, and how often. So a page ends in time, and a response that would be too large is
//! refused while it still consists of rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Context, SelectionField};
use domain::limits::RESPONSE_BYTES_MAX;
use domain::row::{EventRow, TypeRow};
use service::apply_mutations::MutationAnswer;
use service::queries::feed::Change;

use crate::error::ApiError;

/// The estimated bytes of one field in a response beside its value: its name, its brackets and its place in
/// memory.
const FIELD_BYTES: usize = 64;
/// The estimated bytes of memory of one parsed value within free JSON, beside its text.
const JSON_VALUE_BYTES: usize = 64;

/// The estimated size in bytes of the response to one request so far. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseSize(Arc<AtomicUsize>);

impl ResponseSize {
    /// Adds a number of bytes to the size of the response, and compares it with the limit.
    ///
    /// # Errors
    /// [`ApiError::Limit`] if the response would be larger than [`RESPONSE_BYTES_MAX`]. The bytes stay added.
    pub(crate) fn add_bytes_and_check_limit(&self, bytes: usize) -> Result<(), ApiError> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= RESPONSE_BYTES_MAX {
            Ok(())
        } else {
            Err(ApiError::response_too_large())
        }
    }

    /// Subtracts `before` bytes, which were added earlier, and adds `bytes` instead.
    ///
    /// # Errors
    /// As [`ResponseSize::add_bytes_and_check_limit`].
    pub(crate) fn replace_bytes_and_check_limit(&self, before: usize, bytes: usize) -> Result<(), ApiError> {
        self.0.fetch_sub(before, Ordering::Relaxed);
        self.add_bytes_and_check_limit(bytes)
    }

    /// Sets the size to zero for the next response of a subscription.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// How many fields the selection of a field contains, at any depth, and how many of them have values that can
/// be long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SelectionCounts {
    /// All selected fields.
    fields: usize,
    notes: usize,
    properties: usize,
    /// How often the fields `externalId`, `name`, `excerpt` and `detail` are selected.
    short_texts: usize,
    /// How often the field `eventType` of an event is selected.
    types: usize,
}

impl SelectionCounts {
    /// Counts the fields that are selected within the field that is being resolved. `eventType` counts only
    /// below a field `event`, because elsewhere it is not the type of an event.
    pub(crate) fn count_selected_fields(context: &Context<'_>) -> Self {
        let mut counts = Self::default();
        counts.add_selection_of_field(context.field(), false);
        counts
    }

    /// Counts the fields that are selected within the list of events that is being resolved. `eventType`
    /// always counts.
    pub(crate) fn count_selected_event_fields(context: &Context<'_>) -> Self {
        let mut counts = Self::default();
        counts.add_selection_of_field(context.field(), true);
        counts
    }

    /// Counts the fields that are selected within `field`, at any depth. `in_event` says whether it is or is
    /// in an event. The recursion is as deep as the document, whose depth the query limits have bounded.
    fn add_selection_of_field(&mut self, field: SelectionField<'_>, in_event: bool) {
        for inner in field.selection_set() {
            let name = inner.name();
            self.fields += 1;
            self.notes += usize::from(name == "notes");
            self.properties += usize::from(name == "properties");
            self.short_texts += usize::from(matches!(name, "externalId" | "name" | "excerpt" | "detail"));
            self.types += usize::from(in_event && name == "eventType");
            self.add_selection_of_field(inner, in_event || name == "event");
        }
    }

    /// Whether the client selects the field `eventType` of events.
    pub(crate) fn has_event_types(&self) -> bool {
        self.types > 0
    }

    /// The estimated bytes of `rows` rows without the values of their fields. At least one field counts.
    pub(crate) fn row_overhead_bytes(&self, rows: usize) -> usize {
        rows * self.fields.max(1) * FIELD_BYTES
    }

    /// The estimated bytes of the long values of an event, 0 for a tombstone. Each counts at least once,
    /// because the row is in memory even if the response contains none of them.
    pub(crate) fn estimate_event_bytes(&self, row: &EventRow) -> usize {
        let Some(content) = &row.content else {
            return 0;
        };
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let properties = &content.body.properties;
        let place = content.body.location.as_ref().map_or(0, |place| length(&place.name));
        length(&content.body.notes) * self.notes.max(1)
            + properties.len().max(parsed_json_bytes(properties) * self.properties)
            + self.short_text_bytes(length(&row.external_id) + place)
    }

    /// The estimated bytes of the name of an event type, 0 for a tombstone.
    pub(crate) fn estimate_event_type_bytes(&self, row: &TypeRow) -> usize {
        row.content.as_ref().map_or(0, |content| self.short_text_bytes(content.name.len()))
    }

    /// The estimated bytes of the values of the event or event type of a change.
    pub(crate) fn estimate_change_bytes(&self, change: &Change) -> usize {
        match change {
            Change::Event(row) => self.estimate_event_bytes(row),
            Change::EventType(row) => self.estimate_event_type_bytes(row),
        }
    }

    /// The estimated bytes of the results of writes, with the rows that they return.
    pub(crate) fn estimate_answers_bytes(&self, answers: &[MutationAnswer]) -> usize {
        let content_bytes = answers.iter().map(|answer| match answer {
            MutationAnswer::Event(event) => {
                event.answer.row.as_ref().map_or(0, |row| self.estimate_event_bytes(row))
            }
            MutationAnswer::EventType(answer) => {
                answer.row.as_ref().map_or(0, |row| self.estimate_event_type_bytes(row))
            }
        });
        content_bytes.sum::<usize>() + self.row_overhead_bytes(answers.len())
    }

    /// The bytes of a short text of this length, once for each short text in the selection, and at least
    /// once.
    pub(crate) fn short_text_bytes(&self, bytes: usize) -> usize {
        bytes * self.short_texts.max(1)
    }
}

/// The estimated bytes of memory that a JSON text takes once it is parsed into its values.
fn parsed_json_bytes(text: &str) -> usize {
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    text.len() + values * JSON_VALUE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_refused_at_the_first_byte_over_the_limit() {
        let response_size = ResponseSize::default();
        assert!(
            response_size.add_bytes_and_check_limit(RESPONSE_BYTES_MAX - 1).is_ok()
                && response_size.add_bytes_and_check_limit(1).is_ok()
        );
        assert_eq!(response_size.add_bytes_and_check_limit(1), Err(ApiError::response_too_large()));
        response_size.reset();
        assert!(response_size.add_bytes_and_check_limit(1).is_ok());
    }

    #[test]
    fn the_size_of_json_includes_each_of_its_values() {
        assert_eq!(parsed_json_bytes("{}"), 2 + 64);
        assert_eq!(parsed_json_bytes(r#"{"a":[[],[]]}"#), 13 + 5 * 64);
    }
}
