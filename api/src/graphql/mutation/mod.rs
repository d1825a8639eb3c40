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
use crate::graphql::input::{ClientWrite, check_client_id, sent_id_text};
use crate::graphql::response_size::SelectionCounts;
use crate::graphql::scalar::Id;
use crate::graphql::types::result::{
    EventPayload, EventResult, EventTypePayload, EventTypeResult, WriteResult,
};
use crate::graphql::{
    context_actor, context_group_writer, context_notifier, context_response_size, context_store,
};

/// The mutations. They change data of the authenticated user only.
///
/// After a lost response, a create that carries an `id` is always safe to send again: nothing is stored
/// twice. An update, deletion or restore is safe to send again with `expectedVersion` and `editId`. With
/// `expectedVersion` alone it never undoes what another client did. With `editId` alone it is safe while no
/// other client edits the same entity, because the server keeps only the last edit of the last writer.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(events::EventMutations, event_types::EventTypeMutations, imports::ImportMutations);

/// Returns a closure that adds the estimated size of the results of a write to the response size, and returns
/// whether the response is still within its limit.
///
/// It runs each time the results are decided, before anything is committed. For a single write it runs once
/// more if the content of an event was read after the commit. Each run replaces the size that the run before
/// has added.
fn make_response_size_check(context: &Context<'_>) -> impl Fn(&[MutationAnswer]) -> bool + use<> {
    let (counts, response_size) =
        (SelectionCounts::count_selected_fields(context), context_response_size(context).clone());
    let added = AtomicUsize::new(0);
    move |answers| {
        let bytes = counts.estimate_answers_bytes(answers);
        response_size.replace_bytes_and_check_limit(added.swap(bytes, Ordering::Relaxed), bytes).is_ok()
    }
}

/// Applies one write to an event, as [`apply_write`] does, and converts the answer to the response.
async fn write_event(context: &Context<'_>, write: ClientWrite) -> Result<EventPayload, ApiError> {
    let id = sent_id_text(write.mutation.sent_id());
    let answer = apply_write(context, write).await?.into_event_answer()?;
    Ok(EventPayload { result: EventResult::new(0, id, answer) })
}

/// Applies one write to an event type, as [`apply_write`] does, and converts the answer to the response.
async fn write_event_type(context: &Context<'_>, write: ClientWrite) -> Result<EventTypePayload, ApiError> {
    let id = sent_id_text(write.mutation.sent_id());
    let answer = apply_write(context, write).await?.into_event_type_answer()?;
    Ok(EventTypePayload { result: EventTypeResult::new(0, id, answer) })
}

/// Applies one write and returns after its commit. The transaction may be shared with other writes, also of
/// other users, that wait at the same time.
async fn apply_write(context: &Context<'_>, write: ClientWrite) -> Result<MutationAnswer, ApiError> {
    let client = check_client_id(write.client_id)?;
    let (writer, store, actor) =
        (context_group_writer(context), context_store(context), context_actor(context));
    let fits = Arc::new(make_response_size_check(context));
    Ok(service::apply_mutation(writer, store, actor, client, write.mutation, fits).await?)
}

/// Applies writes in order and in one transaction of their own. Returns one result for each, in that order.
async fn apply_writes(
    context: &Context<'_>,
    client: Option<Id>,
    writes: Vec<Write>,
) -> Result<Vec<WriteResult>, ApiError> {
    let client = check_client_id(client)?;
    let ids: Vec<_> = writes.iter().map(|write| sent_id_text(write.sent_id())).collect();
    let (store, notifier, actor) =
        (context_store(context), context_notifier(context), context_actor(context));
    let fits = make_response_size_check(context);
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
