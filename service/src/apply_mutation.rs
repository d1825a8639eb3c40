//! Applies one write of one user through the group writer, so that it may share a transaction with other
//! writes.

use std::sync::Arc;

use crate::Actor;
use crate::apply_mutations::{Item, Mutation, MutationAnswer, load_missing_event_bodies};
use crate::write::group::GroupWriter;
use domain::apply::{UnitOfWork, WriteContext};
use store::Store;
use store::error::Error;
use store::load::ReadSet;

/// Returns whether a response with these answers is within the response size limit. Shared and not borrowed,
/// because the write may outlive the request.
pub type OwnedFitsResponse = Arc<dyn Fn(&[MutationAnswer]) -> bool + Send + Sync>;

/// Applies one write of a user through the group writer, and returns once it is committed. What is wrong with
/// the write is in its answer and is no error.
///
/// # Errors
/// [`Error::ResponseTooLarge`] if the answer does not fit into a response; then at most an alias is written.
/// Otherwise as [`GroupWriter::write_in_group`], and [`Error::Moved`] if the event was deleted before the
/// response could describe it.
pub async fn apply_mutation(
    writer: &GroupWriter<MutationAnswer>,
    store: &Store,
    actor: &Actor,
    client_id: Option<String>,
    mutation: Mutation,
    fits: OwnedFitsResponse,
) -> Result<MutationAnswer, Error> {
    let mut read_set = ReadSet::default();
    let item = Item::parse_and_extend_read_set(mutation, store, &mut read_set);
    let (now_ms, is_invalid) = (store.clock.now_ms(), item.is_invalid());
    let check_size = move |answer: MutationAnswer| {
        if fits(std::slice::from_ref(&answer)) { Ok(answer) } else { Err(Error::ResponseTooLarge) }
    };
    let check_decided = check_size.clone();
    let decide = move |unit: &mut UnitOfWork| {
        let context = WriteContext { now_ms, client_id: client_id.as_deref(), import_job_id: None };
        check_decided(item.decide_item(unit, &context))
    };
    if is_invalid {
        return decide(&mut UnitOfWork::default());
    }
    let mut answer = writer.write_in_group(actor.user_id, read_set, Arc::new(decide)).await?;
    // An event that lacks its body is a duplicate. At most an alias was stored for it.
    let has_grown =
        load_missing_event_bodies(store, actor.user_id, std::slice::from_mut(&mut answer)).await?;
    if has_grown { check_size(answer) } else { Ok(answer) }
}
