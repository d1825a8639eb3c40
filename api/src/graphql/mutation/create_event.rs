//! `createEvent`

use async_graphql::{Context, Object};
use domain::commands;
use domain::rules::draft::EventDraft;

use crate::error::ApiError;
use crate::graphql::input::{CreateEventInput, client_id, sent_id};
use crate::graphql::types::result::{EventPayload, EventResult};
use crate::graphql::{actor, store};

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
        let client_id = client_id(input.client_id)?;
        let draft = EventDraft::from(input.event);
        let sent_id = sent_id(&draft.id);
        let answer =
            commands::create_event(store(context), actor(context), client_id.as_deref(), draft).await?;
        Ok(EventPayload { result: EventResult::new(0, sent_id, answer) })
    }
}
