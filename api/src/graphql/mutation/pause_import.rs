//! `pauseImport`

use async_graphql::{Context, Object};
use domain::import::Step;

use super::control_import;
use crate::error::ApiError;
use crate::graphql::input::ImportControlInput;
use crate::graphql::types::result::ImportPayload;

#[derive(Debug, Default)]
pub(crate) struct PauseImport;

#[Object]
impl PauseImport {
    /// Halts an import at once; it goes on from there with `resumeImport`.
    async fn pause_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Pause).await
    }
}
