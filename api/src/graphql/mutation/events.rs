//! Writes to events, one at a time and in batches.

use async_graphql::{Context, Object};
use domain::limits;
use service::apply_mutations::Mutation;

use super::{write_all, write_event};
use crate::error::ApiError;
use crate::graphql::input::{
    ApplyMutationsInput, CreateEventInput, CreateEventsInput, DeleteEventInput, RestoreEventInput,
    UpdateEventInput, items,
};
use crate::graphql::json_writer::JsonList;
use crate::graphql::types::result::{
    ApplyMutationsPayload, EventPayload, EventResult, EventsPayload, WriteOutcome, WriteResult,
};

#[derive(Debug, Default)]
pub(crate) struct EventMutations;

#[Object]
impl EventMutations {
    /// Stores an event, once however often it is sent.
    async fn create_event(
        &self,
        context: &Context<'_>,
        input: CreateEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }

    /// Stores events, each once; one result an event, in their order, and one bad event never harms another.
    async fn create_events(
        &self,
        context: &Context<'_>,
        input: CreateEventsInput,
    ) -> Result<EventsPayload, ApiError> {
        let events =
            items(input.events, "batch", limits::BATCH_ITEMS_MAX, ", or use importEvents or createImport")?;
        let creates = events.into_iter().map(|event| Mutation::CreateEvent(event.into())).collect();
        let results = write_all(context, input.client_id, creates).await?;
        let of_event = |result| if let WriteResult::Event(result) = result { Some(result) } else { None };
        Ok(payload(results.into_iter().filter_map(of_event).collect()))
    }

    /// Applies the outbox of a device, in order; one result an item. Sent again whole after a lost answer,
    /// what was applied before is answered so.
    async fn apply_mutations(
        &self,
        context: &Context<'_>,
        input: ApplyMutationsInput,
    ) -> Result<ApplyMutationsPayload, ApiError> {
        let mutations = items(input.mutations, "batch", limits::BATCH_ITEMS_MAX, "")?;
        let mutations = mutations.into_iter().map(Into::into).collect();
        Ok(ApplyMutationsPayload { results: write_all(context, Some(input.client_id), mutations).await? })
    }

    /// Changes an event: absent keeps, null clears. Safe to send again with `expectedVersion` and `editId`.
    async fn update_event(
        &self,
        context: &Context<'_>,
        input: UpdateEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }

    /// Deletes an event. Its id and external id stay taken.
    async fn delete_event(
        &self,
        context: &Context<'_>,
        input: DeleteEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }

    /// Brings a deleted event back, with the content that comes along.
    async fn restore_event(
        &self,
        context: &Context<'_>,
        input: RestoreEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
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
        results: JsonList(results),
    }
}
