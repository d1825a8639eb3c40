//! Imports: announced, or sent in one call, and controlled.

use async_graphql::{Context, Object};
use domain::draft::EventDraft;
use domain::import::Step;
use domain::limits;
use formats::json::write_record;
use service::create_import::{ImportDraft, create_import};
use service::{EventsDraft, Payloads, import_events};

use crate::error::ApiError;
use crate::graphql::input::{CreateImportInput, ImportControlInput, ImportEventsInput, items};
use crate::graphql::types::result::ImportPayload;
use crate::graphql::{actor, import_limits, notifier, store, trace_context};

#[derive(Debug, Default)]
pub(crate) struct ImportMutations;

#[Object]
impl ImportMutations {
    /// Announces an import; its payload goes to `upload.url`. The same announcement again is the same import.
    async fn create_import(
        &self,
        context: &Context<'_>,
        input: CreateImportInput,
    ) -> Result<ImportPayload, ApiError> {
        let draft = ImportDraft { trace_context: trace_context(context), ..input.into() };
        Ok(create_import(store(context), import_limits(context), actor(context), draft).await?.into())
    }

    /// `createImport` and its payload in one call, done in the background.
    async fn import_events(
        &self,
        context: &Context<'_>,
        input: ImportEventsInput,
    ) -> Result<ImportPayload, ApiError> {
        let events = items(input.events, "importEvents", limits::IMPORT_EVENTS_MAX, ", or use createImport")?;
        let draft = EventsDraft {
            id: input.id.text().unwrap_or_default(),
            name: input.name,
            payload: events.into_iter().map(EventDraft::from).map(|event| write_record(&event)).collect(),
            trace_context: trace_context(context),
        };
        let payloads = context.data_unchecked::<Payloads>();
        let (store, notifier, limits) = (store(context), notifier(context), import_limits(context));
        let imported = import_events(store, payloads, notifier, limits, actor(context), draft);
        Ok(imported.await?.into())
    }

    /// Halts an import at once; it goes on from there with `resumeImport`.
    async fn pause_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Pause).await
    }

    /// Lets a paused import go on where it was.
    async fn resume_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Resume).await
    }

    /// Ends an import at once; what is in stays in.
    async fn cancel_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Cancel).await
    }

    /// Lets a failed import go on where it was, while its payload is kept; a completed dry run is done for real.
    async fn retry_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Retry).await
    }

    /// Takes the events of an import back, those that nobody has changed since; other devices follow. The types that it made stay.
    async fn rollback_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::RollBack).await
    }
}

/// One step with an import, answered.
async fn control_import(
    context: &Context<'_>,
    input: &ImportControlInput,
    step: Step,
) -> Result<ImportPayload, ApiError> {
    let (store, notifier, actor) = (store(context), notifier(context), actor(context));
    Ok(service::control_import(store, notifier, actor, input.id.uuid(), step).await?.into())
}
