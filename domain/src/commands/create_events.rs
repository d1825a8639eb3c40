//! Stores events that a client made: each once, however often and in however many calls it is sent.

use crate::commands::Actor;
use crate::error::Error;
use crate::rules::apply::{self, Answer, Terms};
use crate::rules::draft::{self, EventDraft, MissingId};
use crate::rules::problem::Problem;
use crate::rules::row::EventRow;
use crate::store::Store;
use crate::store::load::Wants;
use crate::write::write;

/// Stores one event.
///
/// # Errors
/// When the database fails; what is wrong with the event itself is in the answer.
pub async fn create_event(
    store: &Store,
    actor: &Actor,
    client_id: Option<&str>,
    event: EventDraft,
) -> Result<Answer<EventRow>, Error> {
    let mut answers = create_events(store, actor, client_id, vec![event]).await?;
    answers.pop().ok_or(Error::Bug("each item has an answer"))
}

/// Stores events: one answer each, in their order.
///
/// # Errors
/// When the database fails; what is wrong with an event is in its answer.
pub async fn create_events(
    store: &Store,
    actor: &Actor,
    client_id: Option<&str>,
    events: Vec<EventDraft>,
) -> Result<Vec<Answer<EventRow>>, Error> {
    let mut wants = Wants::default();
    let parsed: Vec<_> = events
        .into_iter()
        .map(|event| {
            let new = draft::parse_event(event, MissingId::Made(store.clock.new_id()), store.clock.new_id())
                .map_err(Problem::of_fields)?;
            wants.event(&new);
            Ok(new)
        })
        .collect();
    if parsed.iter().all(Result::is_err) {
        return Ok(parsed.into_iter().filter_map(Result::err).map(Answer::rejected).collect());
    }
    let now_ms = store.clock.now_ms();
    write(store, actor.user_id, &wants, |world| {
        let terms = Terms { now_ms, client_id, import_job_id: None };
        parsed
            .into_iter()
            .map(|item: Result<_, Problem>| match item {
                Ok(new) => apply::create_event(world, &terms, &new),
                Err(problem) => Answer::rejected(problem),
            })
            .collect()
    })
    .await
}
