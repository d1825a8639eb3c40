//! Applies one write of one user, in a transaction that it may share with whoever writes at the same time.

use crate::commands::Actor;
use crate::commands::apply_mutations::{EventAnswer, Item, Mutation, MutationAnswer};
use crate::error::Error;
use crate::rules::apply::{Answer, Terms, World};
use crate::rules::row::TypeRow;
use crate::store::Store;
use crate::store::load::Wants;
use crate::write::group::GroupWriter;

/// Says whether an answer is small enough to be told; if not, nothing is written.
pub type FitsOne = Box<dyn Fn(&[MutationAnswer]) -> bool + Send + Sync>;

/// Applies one write to an event.
///
/// # Errors
/// When too many writes wait, when the database fails, or the answer does not fit; what is wrong with the
/// item is in its answer.
pub async fn apply_to_event(
    writer: &GroupWriter<MutationAnswer>,
    store: &Store,
    actor: &Actor,
    client_id: Option<String>,
    mutation: Mutation,
    fits: FitsOne,
) -> Result<EventAnswer, Error> {
    match apply(writer, store, actor, client_id, mutation, fits).await? {
        MutationAnswer::Event(answer) => Ok(answer),
        MutationAnswer::EventType(_) => Err(Error::Bug("a write to an event has an answer of an event")),
    }
}

/// Applies one write to an event type.
///
/// # Errors
/// As [`apply_to_event`].
pub async fn apply_to_event_type(
    writer: &GroupWriter<MutationAnswer>,
    store: &Store,
    actor: &Actor,
    client_id: Option<String>,
    mutation: Mutation,
    fits: FitsOne,
) -> Result<Answer<TypeRow>, Error> {
    match apply(writer, store, actor, client_id, mutation, fits).await? {
        MutationAnswer::EventType(answer) => Ok(answer),
        MutationAnswer::Event(_) => {
            Err(Error::Bug("a write to an event type has an answer of an event type"))
        }
    }
}

async fn apply(
    writer: &GroupWriter<MutationAnswer>,
    store: &Store,
    actor: &Actor,
    client_id: Option<String>,
    mutation: Mutation,
    fits: FitsOne,
) -> Result<MutationAnswer, Error> {
    let mut wants = Wants::default();
    let item = Item::read(mutation, store, &mut wants);
    let (now_ms, needs_nothing) = (store.clock.now_ms(), item.is_wrong());
    let decide = move |world: &mut World| {
        let terms = Terms { now_ms, client_id: client_id.as_deref(), import_job_id: None };
        let answer = [item.decide(world, &terms)];
        let fits = fits(&answer);
        let [answer] = answer;
        if fits { Ok(answer) } else { Err(Error::AnswerTooLarge) }
    };
    if needs_nothing {
        return decide(&mut World::default());
    }
    writer.write(actor.user_id, wants, Box::new(decide)).await
}
