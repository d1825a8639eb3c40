//! `cancelImport`

use async_graphql::{Context, Object};
use domain::commands;

use crate::error::ApiError;
use crate::graphql::input::ImportControlInput;
use crate::graphql::types::result::ImportPayload;
use crate::graphql::{actor, store};

#[derive(Debug, Default)]
pub(crate) struct CancelImport;

#[Object]
impl CancelImport {
    /// Ends an import at once; what is in stays in.
    async fn cancel_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        let answer = commands::cancel_import(store(context), actor(context), input.id.uuid()).await?;
        Ok(answer.into())
    }
}
