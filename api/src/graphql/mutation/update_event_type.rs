//! `updateEventType`

use async_graphql::{Context, Object};

use super::write_event_type;
use crate::error::ApiError;
use crate::graphql::input::UpdateEventTypeInput;
use crate::graphql::types::result::EventTypePayload;

#[derive(Debug, Default)]
pub(crate) struct UpdateEventType;

#[Object]
impl UpdateEventType {
    /// Changes an event type: absent keeps, null clears.
    async fn update_event_type(
        &self,
        context: &Context<'_>,
        input: UpdateEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }
}
