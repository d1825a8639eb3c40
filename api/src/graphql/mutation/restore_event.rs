//! `restoreEvent`

use async_graphql::{Context, Object};

use super::write_event;
use crate::error::ApiError;
use crate::graphql::input::RestoreEventInput;
use crate::graphql::types::result::EventPayload;

#[derive(Debug, Default)]
pub(crate) struct RestoreEvent;

#[Object]
impl RestoreEvent {
    /// Brings a deleted event back, with the content that comes along.
    async fn restore_event(
        &self,
        context: &Context<'_>,
        input: RestoreEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }
}
