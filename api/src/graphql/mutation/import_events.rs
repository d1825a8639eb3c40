//! `importEvents`

use async_graphql::{Context, Object};
use domain::payload::Payloads;
use domain::rules::draft::EventDraft;
use domain::{commands, limits};

use crate::error::ApiError;
use crate::graphql::input::{ImportEventsInput, items};
use crate::graphql::types::result::ImportPayload;
use crate::graphql::{actor, bell, store};

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
        let events = items(input.events, "importEvents", limits::IMPORT_EVENTS_MAX)?;
        let drafts: Vec<EventDraft> = events.into_iter().map(EventDraft::from).collect();
        let id = input.id.text().unwrap_or_default();
        let payloads = context.data_unchecked::<Payloads>();
        let (store, bell) = (store(context), bell(context));
        let imported =
            commands::import_events(store, payloads, bell, actor(context), id, input.name, &drafts);
        Ok(imported.await?.into())
    }
}
