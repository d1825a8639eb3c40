//! `cancelImport`

use async_graphql::{Context, Object};
use domain::import::Step;

use super::control_import;
use crate::error::ApiError;
use crate::graphql::input::ImportControlInput;
use crate::graphql::types::result::ImportPayload;

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
        control_import(context, &input, Step::Cancel).await
    }
}
