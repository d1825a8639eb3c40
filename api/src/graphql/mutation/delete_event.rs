//! `deleteEvent`

use async_graphql::{Context, Object};

use super::write_event;
use crate::error::ApiError;
use crate::graphql::input::DeleteEventInput;
use crate::graphql::types::result::EventPayload;

#[derive(Debug, Default)]
pub(crate) struct DeleteEvent;

#[Object]
impl DeleteEvent {
    /// Deletes an event. Its id and external id stay taken.
    async fn delete_event(
        &self,
        context: &Context<'_>,
        input: DeleteEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }
}
