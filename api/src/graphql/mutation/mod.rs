//! The mutations, one file per subject.
//!
//! Each resolver converts its input into drafts and calls one use case of `service`, which does all checks.

mod event_types;
mod events;
mod imports;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Context, MergedObject};
use service::apply_mutations::{Mutation as Write, MutationAnswer, apply_mutations};

use crate::error::ApiError;
use crate::graphql::input::{ClientWrite, client_id, sent_id};
use crate::graphql::response_size::SelectionCounts;
use crate::graphql::scalar::Id;
use crate::graphql::types::result::{
    EventPayload, EventResult, EventTypePayload, EventTypeResult, WriteResult,
};
use crate::graphql::{actor, notifier, size_of_response, store, writer};

/// The mutations. They change data of the authenticated user only.
///
/// After a lost response, a create that carries an `id` is always safe to send again. An update, deletion or
/// restore is safe to send again with `expectedVersion` and `editId`. With `expectedVersion` alone it never
/// undoes what another client did. With `editId` alone it is safe while no other client edits the same
/// entity, because the server keeps only the last edit of the last writer.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(events::EventMutations, event_types::EventTypeMutations, imports::ImportMutations);

/// Returns a check whether the results of a write fit into the response.
///
/// The check runs each time the results are decided, before anything is committed, and once more if bodies
/// were read after the commit. Each run replaces the size that the run before has added.
fn fits(context: &Context<'_>) -> impl Fn(&[MutationAnswer]) -> bool + use<> {
    let (counts, response_size) = (SelectionCounts::of(context), size_of_response(context).clone());
    let added = AtomicUsize::new(0);
    move |answers| {
        let bytes = counts.answers(answers);
        response_size.replace(added.swap(bytes, Ordering::Relaxed), bytes).is_ok()
    }
}

/// Applies one write to an event.
async fn write_event(context: &Context<'_>, write: ClientWrite) -> Result<EventPayload, ApiError> {
    let id = sent_id(write.mutation.sent_id());
    let answer = write_one(context, write).await?.into_event()?;
    Ok(EventPayload { result: EventResult::new(0, id, answer) })
}

/// Applies one write to an event type.
async fn write_event_type(context: &Context<'_>, write: ClientWrite) -> Result<EventTypePayload, ApiError> {
    let id = sent_id(write.mutation.sent_id());
    let answer = write_one(context, write).await?.into_event_type()?;
    Ok(EventTypePayload { result: EventTypeResult::new(0, id, answer) })
}

/// Applies one write, in a transaction that it may share with other writes that wait at the same time.
async fn write_one(context: &Context<'_>, write: ClientWrite) -> Result<MutationAnswer, ApiError> {
    let client = client_id(write.client_id)?;
    let (writer, store, actor) = (writer(context), store(context), actor(context));
    let fits = Arc::new(fits(context));
    Ok(service::apply_mutation(writer, store, actor, client, write.mutation, fits).await?)
}

/// Applies writes in one transaction, with one result for each.
async fn write_all(
    context: &Context<'_>,
    client: Option<Id>,
    writes: Vec<Write>,
) -> Result<Vec<WriteResult>, ApiError> {
    let client = client_id(client)?;
    let ids: Vec<_> = writes.iter().map(|write| sent_id(write.sent_id())).collect();
    let (store, notifier, actor) = (store(context), notifier(context), actor(context));
    let fits = fits(context);
    let answers = apply_mutations(store, notifier, actor, client.as_deref(), writes, &fits).await?;
    let items = ids.into_iter().zip(answers).enumerate();
    Ok(items
        .map(|(index, (id, answer))| match answer {
            MutationAnswer::Event(answer) => WriteResult::Event(EventResult::new(index, id, answer)),
            MutationAnswer::EventType(answer) => {
                WriteResult::EventType(EventTypeResult::new(index, id, answer))
            }
        })
        .collect())
}
