//! Everything that can be written, by subject.

mod event_types;
mod events;
mod imports;

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

/// The root of all writing. Sending a create again is always safe, and so is an edit with `expectedVersion` and
/// `editId`. `expectedVersion` alone never undoes what another client did. `editId` alone is safe while no other
/// client edits the same thing: only the last edit of its last writer is kept.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(events::EventMutations, event_types::EventTypeMutations, imports::ImportMutations);

/// Whether answers have room in the response. It is asked each time they are decided, before anything is committed,
/// and once more if bodies were read after the commit: each time anew.
fn fits(context: &Context<'_>) -> impl Fn(&[MutationAnswer]) -> bool + use<> {
    let (counts, response_size) = (SelectionCounts::of(context), size_of_response(context).clone());
    let counted = AtomicUsize::new(0);
    move |answers| {
        let bytes = counts.answers(answers);
        response_size.replace(counted.swap(bytes, Ordering::Relaxed), bytes).is_ok()
    }
}

/// One write to an event, answered.
async fn write_event(context: &Context<'_>, write: ClientWrite) -> Result<EventPayload, ApiError> {
    let id = sent_id(write.1.sent_id());
    let answer = write_one(context, write).await?.into_event()?;
    Ok(EventPayload { result: EventResult::new(0, id, answer) })
}

/// One write to an event type, answered.
async fn write_event_type(context: &Context<'_>, write: ClientWrite) -> Result<EventTypePayload, ApiError> {
    let id = sent_id(write.1.sent_id());
    let answer = write_one(context, write).await?.into_event_type()?;
    Ok(EventTypePayload { result: EventTypeResult::new(0, id, answer) })
}

/// One write, in a transaction with whatever else waits.
async fn write_one(context: &Context<'_>, write: ClientWrite) -> Result<MutationAnswer, ApiError> {
    let client = client_id(write.0)?;
    let (writer, store, actor) = (writer(context), store(context), actor(context));
    let fits = Box::new(fits(context));
    Ok(service::apply_mutation(writer, store, actor, client, write.1, fits).await?)
}

/// Many writes in one transaction, each answered.
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
    let answered = ids.into_iter().zip(answers).enumerate();
    Ok(answered
        .map(|(index, (id, answer))| match answer {
            MutationAnswer::Event(answer) => WriteResult::Event(EventResult::new(index, id, answer)),
            MutationAnswer::EventType(answer) => {
                WriteResult::EventType(EventTypeResult::new(index, id, answer))
            }
        })
        .collect())
}
