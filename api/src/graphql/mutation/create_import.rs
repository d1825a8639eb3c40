//! `createImport`

use async_graphql::{Context, Object};
use service::create_import::{ImportDraft, create_import};

use crate::error::ApiError;
use crate::graphql::input::CreateImportInput;
use crate::graphql::types::result::ImportPayload;
use crate::graphql::{actor, import_limits, store, trace_context};

#[derive(Debug, Default)]
pub(crate) struct CreateImport;

#[Object]
impl CreateImport {
    /// Announces an import; its payload goes to `upload.url`. The same announcement again is the same import.
    async fn create_import(
        &self,
        context: &Context<'_>,
        input: CreateImportInput,
    ) -> Result<ImportPayload, ApiError> {
        let draft = ImportDraft { trace_context: trace_context(context), ..input.into() };
        Ok(create_import(store(context), import_limits(context), actor(context), draft).await?.into())
    }
}
