//! Applies one write of one user, in a transaction that it may share with whoever writes at the same time.

use crate::Actor;
use crate::apply_mutations::{Item, Mutation, MutationAnswer, complete};
use crate::write::group::GroupWriter;
use domain::apply::{UnitOfWork, WriteContext};
use store::Store;
use store::error::Error;
use store::load::ReadSet;

/// As [`Fits`](super::apply_mutations::Fits), for as long as the write waits.
pub type FitsOne = Box<dyn Fn(&[MutationAnswer]) -> bool + Send + Sync>;

/// Applies one write. The answer is of an event where the write is to one, and else of an event type.
///
/// # Errors
/// When too many writes wait, when the database fails, or the answer does not fit; what is wrong with the
/// item is in its answer.
pub async fn apply_mutation(
    writer: &GroupWriter<MutationAnswer>,
    store: &Store,
    actor: &Actor,
    client_id: Option<String>,
    mutation: Mutation,
    fits: FitsOne,
) -> Result<MutationAnswer, Error> {
    let mut read_set = ReadSet::default();
    let item = Item::read(mutation, store, &mut read_set);
    let (now_ms, is_wrong) = (store.clock.now_ms(), item.is_wrong());
    let decide = move |unit: &mut UnitOfWork| {
        let context = WriteContext { now_ms, client_id: client_id.as_deref(), import_job_id: None };
        let answer = item.decide(unit, &context);
        if fits(std::slice::from_ref(&answer)) { Ok(answer) } else { Err(Error::AnswerTooLarge) }
    };
    if is_wrong {
        return decide(&mut UnitOfWork::default());
    }
    let mut answer = writer.write(actor.user_id, read_set, Box::new(decide)).await?;
    complete(store, actor.user_id, std::slice::from_mut(&mut answer)).await?;
    Ok(answer)
}
