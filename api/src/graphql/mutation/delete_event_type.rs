//! `deleteEventType`

use async_graphql::{Context, Object};

use super::write_event_type;
use crate::error::ApiError;
use crate::graphql::input::DeleteEventTypeInput;
use crate::graphql::types::result::EventTypePayload;

#[derive(Debug, Default)]
pub(crate) struct DeleteEventType;

#[Object]
impl DeleteEventType {
    /// Deletes an event type that no living event is of; its name is free afterwards.
    async fn delete_event_type(
        &self,
        context: &Context<'_>,
        input: DeleteEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }
}
