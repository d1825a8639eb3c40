//! `updateEvent`

use async_graphql::{Context, Object};

use super::write_event;
use crate::error::ApiError;
use crate::graphql::input::UpdateEventInput;
use crate::graphql::types::result::EventPayload;

#[derive(Debug, Default)]
pub(crate) struct UpdateEvent;

#[Object]
impl UpdateEvent {
    /// Changes an event: absent keeps, null clears. Safe to send again with `expectedVersion` and `editId`.
    async fn update_event(
        &self,
        context: &Context<'_>,
        input: UpdateEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }
}
