//! `createEvents`

use async_graphql::{Context, Object};
use domain::limits;
use service::apply_mutations::Mutation;

use super::write_all;
use crate::error::ApiError;
use crate::graphql::input::{CreateEventsInput, items};
use crate::graphql::json_writer::JsonList;
use crate::graphql::types::result::{EventResult, EventsPayload, WriteOutcome, WriteResult};

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
        let events =
            items(input.events, "batch", limits::BATCH_ITEMS_MAX, ", or use importEvents or createImport")?;
        let creates = events.into_iter().map(|event| Mutation::CreateEvent(event.into())).collect();
        let results = write_all(context, input.client_id, creates).await?;
        let of_event = |result| if let WriteResult::Event(result) = result { Some(result) } else { None };
        Ok(payload(results.into_iter().filter_map(of_event).collect()))
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
