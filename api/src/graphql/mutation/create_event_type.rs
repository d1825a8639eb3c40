//! `createEventType`

use async_graphql::{Context, Object};
use domain::commands;
use domain::rules::draft::EventTypeDraft;

use crate::error::ApiError;
use crate::graphql::input::{CreateEventTypeInput, client_id, sent_id};
use crate::graphql::types::result::{EventTypePayload, EventTypeResult};
use crate::graphql::{actor, store};

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
        let client_id = client_id(input.client_id)?;
        let draft = EventTypeDraft::from(input.event_type);
        let sent_id = sent_id(&draft.id);
        let answer =
            commands::create_event_type(store(context), actor(context), client_id.as_deref(), draft).await?;
        Ok(EventTypePayload { result: EventTypeResult::new(0, sent_id, answer) })
    }
}
