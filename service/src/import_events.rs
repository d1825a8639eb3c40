//! Creates an import and stores its payload in the same call, as `createImport` and an upload would.

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

/// Events as the client sent them, to be imported in the background.
#[derive(Debug, Clone)]
pub struct EventsDraft {
    /// The id of the import: a UUIDv7, made by the client.
    pub id: String,
    /// The name that the user gave the import.
    pub name: Option<String>,
    /// The events, as NDJSON.
    pub payload: String,
    /// The trace context of the request, to link the spans of the import with it.
    pub trace_context: Option<TraceContext>,
}

/// Creates an import of these events and stores them as its payload, so that a worker can run it. If they
/// were sent before with the same id, the import is returned as it is now.
///
/// # Errors
/// As [`create_import`] and [`receive_payload`]. The same call may be sent again after any of them.
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
