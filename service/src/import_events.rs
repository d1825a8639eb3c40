//! An import with its payload in the same call: `createImport` and the upload, one after the other.

use bytes::Bytes;
use futures::stream;
use sha2::{Digest, Sha256};

use crate::Actor;
use crate::create_import::{ImportAnswer, ImportDraft, create_import};
use crate::notifier::Notifier;
use crate::receive_payload::receive_payload;
use domain::import::{Format, State};
use domain::limits::ImportLimits;
use domain::trace_context::TraceContext;
use store::error::Error;
use store::payload::Payloads;
use store::{Store, import_job};

/// Events as they were sent, to be imported in the background.
#[derive(Debug, Clone)]
pub struct EventsDraft {
    /// UUIDv7 of the import.
    pub id: String,
    /// What the user calls it.
    pub name: Option<String>,
    /// Its records, as NDJSON.
    pub payload: String,
    /// The request that sends them.
    pub trace_context: Option<TraceContext>,
}

/// Imports events; the same events under the same id are the same import.
///
/// # Errors
/// When the database or the object store fails; then the same call may be sent again.
pub async fn import_events(
    store: &Store,
    payloads: &Payloads,
    notifier: &dyn Notifier,
    limits: &ImportLimits,
    actor: &Actor,
    draft: EventsDraft,
) -> Result<ImportAnswer, Error> {
    let EventsDraft { id, name, payload, trace_context } = draft;
    let draft = ImportDraft {
        id,
        format: Format::Ndjson,
        name,
        size_bytes: i64::try_from(payload.len()).unwrap_or(i64::MAX),
        sha256: Some(hex::encode(Sha256::digest(payload.as_bytes()))),
        csv: None,
        dry_run: false,
        trace_context,
    };
    let answer = create_import(store, limits, actor, draft).await?;
    let Some(job) = answer.job.as_ref().filter(|job| job.state == State::AwaitingUpload) else {
        return Ok(answer);
    };
    let body = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(payload))]);
    receive_payload(store, payloads, notifier, actor, job.id, None, body).await?;
    Ok(import_job::find(store, actor.user_id, job.id).await?.map_or(answer, ImportAnswer::from))
}
