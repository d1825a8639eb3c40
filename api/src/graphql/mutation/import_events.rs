//! `importEvents`

use async_graphql::{Context, Object};
use domain::draft::EventDraft;
use domain::limits;
use formats::json::write_record;
use service::Payloads;
use service::{EventsDraft, import_events};

use crate::error::ApiError;
use crate::graphql::input::{ImportEventsInput, items};
use crate::graphql::types::result::ImportPayload;
use crate::graphql::{actor, import_limits, notifier, store, trace_context};

#[derive(Debug, Default)]
pub(crate) struct ImportEvents;

#[Object]
impl ImportEvents {
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
}
