//! Cancels, pauses, resumes, retries or rolls back an import for its user.
//!
//! Each step takes effect at once. A worker that is storing a chunk finds another state than it expects, and
//! its transaction is rolled back.

use uuid::Uuid;

use crate::Actor;
use crate::create_import::ImportAnswer;
use crate::notifier::{Notification, Notifier};
use domain::import::{ImportRow, State, Step};
use domain::problem::{Code, Problem};
use store::error::Error;
use store::{Store, import_job};

/// Cancels, pauses, resumes, retries or rolls back an import for its user, and returns the import after it.
/// If the step was taken before, nothing changes. Workers are notified if there is work for them.
///
/// A step that the state of the import does not allow, and an unknown id, are problems in the answer and no
/// errors.
///
/// # Errors
/// [`Error::Locked`] if another transaction holds the row of the import for too long, [`Error::Busy`] if too
/// many requests wait for it or no connection is free in time, [`Error::Database`] if the database fails.
pub async fn control_import(
    store: &Store,
    notifier: &dyn Notifier,
    actor: &Actor,
    id: Option<Uuid>,
    step: Step,
) -> Result<ImportAnswer, Error> {
    let unknown = || ImportAnswer::refusal(Problem::new(Code::NotFound, "no import is known by this id"));
    let Some(id) = id else {
        return Ok(unknown());
    };
    let taken = import_job::apply_user_step(store, actor.user_id, id, step).await?;
    let Some(job) = import_job::find(store, actor.user_id, id).await? else {
        return Ok(unknown());
    };
    if taken && matches!(step.allowed_states_and_next_state().1, State::Queued | State::RollingBack) {
        notifier.notify(Notification::Import(id));
    }
    let problem = (!taken && !step.is_noop_in_state(job.state)).then(|| step_not_allowed_problem(&job, step));
    Ok(ImportAnswer { job: Some(job), problem })
}

fn step_not_allowed_problem(job: &ImportRow, step: Step) -> Problem {
    let reason = if step == Step::Retry && job.state == State::Failed && !job.is_whole_payload_stored() {
        ": its payload is no longer stored"
    } else {
        ""
    };
    let detail =
        format!("an import that is {} cannot be {}{reason}", job.state.name(), step.past_participle());
    Problem::new(Code::ImportState, detail)
}
