//! Loads what many answers of one request need, once.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::Loader;
use domain::store::{Store, event_type};
use uuid::Uuid;

use super::types::event::EventType;
use crate::error::ApiError;

/// The event types of one user by id.
#[derive(Debug, Clone)]
pub struct TypeLoader {
    /// Where they are.
    pub store: Store,
    /// Whose they are.
    pub user_id: Uuid,
}

impl Loader<Uuid> for TypeLoader {
    type Value = EventType;
    type Error = ApiError;

    async fn load(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, EventType>, ApiError> {
        let rows = event_type::find(&self.store, self.user_id, ids).await?;
        Ok(rows.into_iter().filter_map(|(id, row)| Some((id, EventType::of(Arc::new(row))?))).collect())
    }
}
