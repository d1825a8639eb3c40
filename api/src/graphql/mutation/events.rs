//! Mutations of events, one at a time and in batches.

use async_graphql::{Context, Object};
use domain::limits;
use service::apply_mutations::Mutation;

use super::{apply_writes, write_event};
use crate::error::ApiError;
use crate::graphql::input::{
    ApplyMutationsInput, CreateEventInput, CreateEventsInput, DeleteEventInput, RestoreEventInput,
    UpdateEventInput, check_item_count,
};
use crate::graphql::json_writer::JsonList;
use crate::graphql::types::result::{
    ApplyMutationsPayload, EventPayload, EventResult, EventsPayload, WriteOutcome, WriteResult,
};

#[derive(Debug, Default)]
pub(crate) struct EventMutations;

#[Object]
impl EventMutations {
    /// Creates an event. If an event with this id or external id is already stored, it does not change and is
    /// returned with the outcome DUPLICATE, or DELETED if it was deleted.
    async fn create_event(
        &self,
        context: &Context<'_>,
        input: CreateEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }

    /// Creates 1 to 500 events in one transaction, each as `createEvent` does. There is one result for each
    /// event, in the order of the input. A rejected event does not affect the others.
    async fn create_events(
        &self,
        context: &Context<'_>,
        input: CreateEventsInput,
    ) -> Result<EventsPayload, ApiError> {
        let events = check_item_count(
            input.events,
            "batch",
            limits::BATCH_ITEMS_MAX,
            ", or use importEvents or createImport",
        )?;
        let creates = events.into_iter().map(|event| Mutation::CreateEvent(event.into())).collect();
        let results = apply_writes(context, input.client_id, creates).await?;
        let event_result = |result| if let WriteResult::Event(result) = result { Some(result) } else { None };
        Ok(into_events_payload(results.into_iter().filter_map(event_result).collect()))
    }

    /// Applies 1 to 500 mutations from the outbox of a client, in order and in one transaction. There is one
    /// result for each mutation. A rejected one affects only later ones that need its entity. After a lost
    /// response send the same list again. For that, each create of an event must carry an `id` or an
    /// `externalId`, and each edit must carry `expectedVersion` and `editId`.
    async fn apply_mutations(
        &self,
        context: &Context<'_>,
        input: ApplyMutationsInput,
    ) -> Result<ApplyMutationsPayload, ApiError> {
        let mutations = check_item_count(input.mutations, "batch", limits::BATCH_ITEMS_MAX, "")?;
        let mutations = mutations.into_iter().map(Into::into).collect();
        Ok(ApplyMutationsPayload { results: apply_writes(context, Some(input.client_id), mutations).await? })
    }

    /// Changes an event. Fields that are absent from the patch keep their values; null clears a field. A
    /// deleted event stays deleted and has the outcome DELETED. Safe to send again with `expectedVersion` and
    /// `editId`.
    async fn update_event(
        &self,
        context: &Context<'_>,
        input: UpdateEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }

    /// Deletes an event. Its id and external id stay in use: a later create with either of them has the
    /// outcome DELETED. Only `restoreEvent` brings the event back.
    async fn delete_event(
        &self,
        context: &Context<'_>,
        input: DeleteEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }

    /// Restores a deleted event with the content of the input, because the server keeps none of a deleted
    /// event. An event that is not deleted does not change: its outcome is UNCHANGED if it has this content
    /// already, and otherwise CONFLICT.
    async fn restore_event(
        &self,
        context: &Context<'_>,
        input: RestoreEventInput,
    ) -> Result<EventPayload, ApiError> {
        write_event(context, input.into()).await
    }
}

fn into_events_payload(results: Vec<EventResult>) -> EventsPayload {
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
