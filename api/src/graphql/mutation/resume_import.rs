//! `resumeImport`

use async_graphql::{Context, Object};
use domain::import::Step;

use super::control_import;
use crate::error::ApiError;
use crate::graphql::input::ImportControlInput;
use crate::graphql::types::result::ImportPayload;

#[derive(Debug, Default)]
pub(crate) struct ResumeImport;

#[Object]
impl ResumeImport {
    /// Lets a paused import go on where it was.
    async fn resume_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::Resume).await
    }
}
