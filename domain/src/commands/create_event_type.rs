//! Stores an event type, found again by its id or its name.

use crate::commands::Actor;
use crate::error::Error;
use crate::rules::apply::{self, Answer, Terms};
use crate::rules::draft::{self, EventTypeDraft};
use crate::rules::problem::Problem;
use crate::rules::row::TypeRow;
use crate::store::Store;
use crate::store::load::Wants;
use crate::write::write;

/// Stores one event type.
///
/// # Errors
/// When the database fails; what is wrong with the type itself is in the answer.
pub async fn create_event_type(
    store: &Store,
    actor: &Actor,
    client_id: Option<&str>,
    event_type: EventTypeDraft,
) -> Result<Answer<TypeRow>, Error> {
    let new = match draft::parse_type(event_type, store.clock.new_id()) {
        Ok(new) => new,
        Err(errors) => return Ok(Answer::rejected(Problem::of_fields(errors))),
    };
    let mut wants = Wants::default();
    wants.event_type(&new);
    let now_ms = store.clock.now_ms();
    write(store, actor.user_id, &wants, |world| {
        let terms = Terms { now_ms, client_id, import_job_id: None };
        apply::create_event_type(world, &terms, &new)
    })
    .await
}
