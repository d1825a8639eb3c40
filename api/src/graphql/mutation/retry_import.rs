//! `retryImport`

use async_graphql::{Context, Object};
use domain::import::Step;

use super::control_import;
use crate::error::ApiError;
use crate::graphql::input::ImportControlInput;
use crate::graphql::types::result::ImportPayload;

#[derive(Debug, Default)]
pub(crate) struct RetryImport;

#[Object]
impl RetryImport {
    /// Lets a failed import go on where it was, while its payload is kept; a completed dry run is done for real.
    async fn retry_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Retry).await
    }
}
