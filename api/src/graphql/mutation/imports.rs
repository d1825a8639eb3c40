//! Mutations of imports: to create one, and to pause, resume, cancel, retry or roll it back.

use async_graphql::{Context, Object};
use domain::draft::EventDraft;
use domain::import::Step;
use domain::limits;
use formats::json::draft_to_ndjson_line;
use service::create_import::{ImportDraft, create_import};
use service::{EventsDraft, Payloads, import_events};

use crate::error::ApiError;
use crate::graphql::input::{CreateImportInput, ImportControlInput, ImportEventsInput, check_item_count};
use crate::graphql::types::result::ImportPayload;
use crate::graphql::{context_actor, context_import_limits, context_notifier, context_store, context_trace};

#[derive(Debug, Default)]
pub(crate) struct ImportMutations;

#[Object]
impl ImportMutations {
    /// Creates an import in the state AWAITING_UPLOAD, and returns at once. Then send its payload with PUT to
    /// `upload.url`. The same input again returns the same import as it is then.
    async fn create_import(
        &self,
        context: &Context<'_>,
        input: CreateImportInput,
    ) -> Result<ImportPayload, ApiError> {
        let draft = ImportDraft { trace_context: context_trace(context), ..input.into() };
        Ok(create_import(
            context_store(context),
            context_import_limits(context),
            context_actor(context),
            draft,
        )
        .await?
        .into())
    }

    /// Creates an import with 1 to 5 000 events as its payload, and returns at once. The events are stored in
    /// the background. The same input again returns the same import as it is then.
    async fn import_events(
        &self,
        context: &Context<'_>,
        input: ImportEventsInput,
    ) -> Result<ImportPayload, ApiError> {
        let events = check_item_count(
            input.events,
            "importEvents",
            limits::IMPORT_EVENTS_MAX,
            ", or use createImport",
        )?;
        let draft = EventsDraft {
            id: input.id.to_text().unwrap_or_default(),
            name: input.name,
            payload: events
                .into_iter()
                .map(EventDraft::from)
                .map(|event| draft_to_ndjson_line(&event))
                .collect(),
            trace_context: context_trace(context),
        };
        let payloads = context.data_unchecked::<Payloads>();
        let (store, notifier, limits) =
            (context_store(context), context_notifier(context), context_import_limits(context));
        let imported = import_events(store, payloads, notifier, limits, context_actor(context), draft);
        Ok(imported.await?.into())
    }

    /// Pauses a queued or running import at once. Events that it has already stored stay. `resumeImport`
    /// continues it from the same place.
    async fn pause_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Pause).await
    }

    /// Continues a paused import from the place where it was paused.
    async fn resume_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Resume).await
    }

    /// Ends for good an import that waits for its payload or a worker, is running or is paused. Events that
    /// it has already stored stay stored, until `rollbackImport` deletes them.
    async fn cancel_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Cancel).await
    }

    /// Continues a failed import from the place where it failed, or runs a completed dry run again from the
    /// start and stores its events. Both are possible only as long as the server keeps the payload.
    async fn retry_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Retry).await
    }

    /// Deletes, in the background, the events that a completed, failed or canceled import has created, except
    /// those that were changed since. Clients see the deletions in the change feed. Event types that the
    /// import created stay.
    async fn rollback_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::RollBack).await
    }
}

/// Pauses, resumes, cancels, retries or rolls back an import, and returns the import as it is afterwards. If
/// `step` is not possible, nothing changes and the response has a problem.
async fn control_import(
    context: &Context<'_>,
    input: &ImportControlInput,
    step: Step,
) -> Result<ImportPayload, ApiError> {
    let (store, notifier, actor) =
        (context_store(context), context_notifier(context), context_actor(context));
    Ok(service::control_import(store, notifier, actor, input.id.to_uuid(), step).await?.into())
}
