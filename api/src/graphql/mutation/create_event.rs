//! `createEvent`

use async_graphql::{Context, Object};

use super::write_event;
use crate::error::ApiError;
use crate::graphql::input::CreateEventInput;
use crate::graphql::types::result::EventPayload;

#[derive(Debug, Default)]
pub(crate) struct CreateEvent;

#[Object]
impl CreateEvent {
    /// Stores an event, once however often it is sent.
    async fn create_event(
        &self,
        context: &Context<'_>,
        input: CreateEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }
}
