//! The steps that a user takes with an import: cancel, pause, resume, retry, roll back. Each works at once,
//! for a chunk under way finds another state and rolls back.

use uuid::Uuid;

use crate::Actor;
use crate::create_import::ImportAnswer;
use crate::notifier::{Notification, Notifier};
use domain::import::{ImportRow, State, Step};
use domain::problem::{Code, Problem};
use store::error::Error;
use store::{Store, import_job};

/// Takes a step; taken before, the import is returned as it is.
///
/// # Errors
/// When the database fails; an impossible step is a problem that says the state.
pub async fn control_import(
    store: &Store,
    notifier: &dyn Notifier,
    actor: &Actor,
    id: Option<Uuid>,
    step: Step,
) -> Result<ImportAnswer, Error> {
    let unknown = || ImportAnswer::refused(Problem::new(Code::NotFound, "no import is known by this id"));
    let Some(id) = id else {
        return Ok(unknown());
    };
    let taken = import_job::take(store, actor.user_id, id, step).await?;
    let Some(job) = import_job::find(store, actor.user_id, id).await? else {
        return Ok(unknown());
    };
    if taken && matches!(step.leads().1, State::Queued | State::RollingBack) {
        notifier.notify(Notification::Import(id));
    }
    let problem = (!taken && !step.is_taken(job.state)).then(|| impossible(&job, step));
    Ok(ImportAnswer { job: Some(job), problem })
}

fn impossible(job: &ImportRow, step: Step) -> Problem {
    let why = if step == Step::Retry && job.state == State::Failed && !job.has_payload() {
        ": its payload is no longer there"
    } else {
        ""
    };
    let detail = format!("an import that is {} cannot be {}{why}", job.state.name(), step.participle());
    Problem::new(Code::ImportState, detail)
}
