//! `createEventType`

use async_graphql::{Context, Object};

use super::write_event_type;
use crate::error::ApiError;
use crate::graphql::input::CreateEventTypeInput;
use crate::graphql::types::result::EventTypePayload;

#[derive(Debug, Default)]
pub(crate) struct CreateEventType;

#[Object]
impl CreateEventType {
    /// Stores an event type, found again by its id or its name.
    async fn create_event_type(
        &self,
        context: &Context<'_>,
        input: CreateEventTypeInput,
    ) -> Result<EventTypePayload, ApiError> {
        write_event_type(context, input.into()).await
    }
}
