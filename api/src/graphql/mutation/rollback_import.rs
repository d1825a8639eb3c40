//! `rollbackImport`

use async_graphql::{Context, Object};
use domain::import::Step;

use super::control_import;
use crate::error::ApiError;
use crate::graphql::input::ImportControlInput;
use crate::graphql::types::result::ImportPayload;

#[derive(Debug, Default)]
pub(crate) struct RollbackImport;

#[Object]
impl RollbackImport {
    /// Takes the events of an import back, those that nobody has changed since; other devices follow. The types that it made stay.
    async fn rollback_import(
        &self,
        context: &Context<'_>,
        input: ImportControlInput,
    ) -> Result<ImportPayload, ApiError> {
        control_import(context, &input, Step::RollBack).await
    }
}
