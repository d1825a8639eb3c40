//! Writes to event types.

use async_graphql::{Context, Object};

use super::write_event_type;
use crate::error::ApiError;
use crate::graphql::input::{CreateEventTypeInput, DeleteEventTypeInput, UpdateEventTypeInput};
use crate::graphql::types::result::EventTypePayload;

#[derive(Debug, Default)]
pub(crate) struct EventTypeMutations;

#[Object]
impl EventTypeMutations {
    /// Stores an event type, found again by its id or its name.
    async fn create_event_type(
        &self,
        context: &Context<'_>,
        input: CreateEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }

    /// Changes an event type: absent keeps, null clears.
    async fn update_event_type(
        &self,
        context: &Context<'_>,
        input: UpdateEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }

    /// Deletes an event type that no living event is of; its name is free afterwards.
    async fn delete_event_type(
        &self,
        context: &Context<'_>,
        input: DeleteEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }
}
