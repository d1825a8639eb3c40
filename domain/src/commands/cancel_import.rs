//! Ends an import: at once, for the chunk under way finds another state and rolls back.

use uuid::Uuid;

use crate::commands::Actor;
use crate::commands::create_import::ImportAnswer;
use crate::error::Error;
use crate::rules::import::State;
use crate::rules::problem::{Code, Problem};
use crate::store::{Store, import_job};

/// Cancels an import; canceled before, it is returned as it is.
///
/// # Errors
/// When the database fails.
pub async fn cancel_import(store: &Store, actor: &Actor, id: Option<Uuid>) -> Result<ImportAnswer, Error> {
    let unknown = || ImportAnswer::refused(Problem::new(Code::NotFound, "no import is known by this id"));
    let Some(id) = id else {
        return Ok(unknown());
    };
    let canceled = import_job::cancel(store, actor.user_id, id).await?;
    let Some(job) = import_job::find(store, actor.user_id, id).await? else {
        return Ok(unknown());
    };
    let possible = canceled || job.state == State::Canceled;
    let impossible = || {
        Problem::new(Code::ImportState, format!("an import that is {} cannot be canceled", job.state.name()))
    };
    let problem = (!possible).then(impossible);
    Ok(ImportAnswer { job: Some(job), problem })
}
