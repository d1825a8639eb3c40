//! `createEvents`

use async_graphql::{Context, Object};
use domain::rules::draft::EventDraft;
use domain::{commands, limits};

use crate::error::ApiError;
use crate::graphql::input::{CreateEventsInput, client_id, items, sent_id};
use crate::graphql::types::result::{EventResult, EventsPayload, WriteOutcome};
use crate::graphql::{actor, store};

#[derive(Debug, Default)]
pub(crate) struct CreateEvents;

#[Object]
impl CreateEvents {
    /// Stores events, each once; one result an event, in their order, and one bad event never harms another.
    async fn create_events(
        &self,
        context: &Context<'_>,
        input: CreateEventsInput,
    ) -> Result<EventsPayload, ApiError> {
        let client_id = client_id(input.client_id)?;
        let events = items(input.events, "batch", limits::BATCH_ITEMS_MAX)?;
        let drafts: Vec<EventDraft> = events.into_iter().map(EventDraft::from).collect();
        let sent_ids: Vec<_> = drafts.iter().map(|draft| sent_id(&draft.id)).collect();
        let answers =
            commands::create_events(store(context), actor(context), client_id.as_deref(), drafts).await?;
        let answered = sent_ids.into_iter().zip(answers).enumerate();
        Ok(payload(answered.map(|(index, (id, answer))| EventResult::new(index, id, answer)).collect()))
    }
}

fn payload(results: Vec<EventResult>) -> EventsPayload {
    let count = |outcome| {
        let matching = results.iter().filter(|result| result.outcome == outcome);
        i32::try_from(matching.count()).unwrap_or(i32::MAX)
    };
    EventsPayload {
        created: count(WriteOutcome::Created),
        duplicates: count(WriteOutcome::Duplicate),
        deleted: count(WriteOutcome::Deleted),
        rejected: count(WriteOutcome::Rejected),
        results,
    }
}
