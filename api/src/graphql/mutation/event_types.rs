//! Mutations of event types.

use async_graphql::{Context, Object};

use super::write_event_type;
use crate::error::ApiError;
use crate::graphql::input::{CreateEventTypeInput, DeleteEventTypeInput, UpdateEventTypeInput};
use crate::graphql::types::result::EventTypePayload;

#[derive(Debug, Default)]
pub(crate) struct EventTypeMutations;

#[Object]
impl EventTypeMutations {
    /// Creates an event type. If an event type with this id or name is already stored, it does not change and
    /// is returned with the outcome DUPLICATE. The id of a deleted event type has the outcome DELETED.
    async fn create_event_type(
        &self,
        context: &Context<'_>,
        input: CreateEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }

    /// Changes an event type. Fields that are absent from the patch keep their values; null clears a field. A
    /// deleted event type stays deleted and has the outcome DELETED. Safe to send again with
    /// `expectedVersion` and `editId`.
    async fn update_event_type(
        &self,
        context: &Context<'_>,
        input: UpdateEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }

    /// Deletes an event type for good. It is rejected as EVENT_TYPE_IN_USE while living events have this
    /// type. Afterwards the name can be used again, but not the id.
    async fn delete_event_type(
        &self,
        context: &Context<'_>,
        input: DeleteEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }
}
