//! `applyMutations`

use async_graphql::{Context, Object};
use domain::limits;

use super::write_all;
use crate::error::ApiError;
use crate::graphql::input::{ApplyMutationsInput, items};
use crate::graphql::types::result::ApplyMutationsPayload;

#[derive(Debug, Default)]
pub(crate) struct ApplyMutations;

#[Object]
impl ApplyMutations {
    /// Applies the outbox of a device, in order; one result an item. Sent again whole after a lost answer,
    /// what was applied before is answered so.
    async fn apply_mutations(
        &self,
        context: &Context<'_>,
        input: ApplyMutationsInput,
    ) -> Result<ApplyMutationsPayload, ApiError> {
        let mutations = items(input.mutations, "batch", limits::BATCH_ITEMS_MAX, "")?;
        let mutations = mutations.into_iter().map(Into::into).collect();
        Ok(ApplyMutationsPayload { results: write_all(context, Some(input.client_id), mutations).await? })
    }
}
