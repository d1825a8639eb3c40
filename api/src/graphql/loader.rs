//! Loads what many answers of one request need, once.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::Loader;
use domain::row::{EventRow, TypeRow};
use service::Store;
use service::queries::event_type;
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
        Ok(shown(rows))
    }
}

/// The types of these events, as far as they are still there.
pub(crate) async fn types(
    store: &Store,
    user_id: Uuid,
    rows: &[Arc<EventRow>],
) -> Result<HashMap<Uuid, EventType>, ApiError> {
    let of_rows = rows.iter().filter_map(|row| row.content.as_ref()).map(|content| content.event_type_id);
    Ok(shown(event_type::known(store, user_id, of_rows.collect()).await?))
}

fn shown(rows: impl IntoIterator<Item = (Uuid, Arc<TypeRow>)>) -> HashMap<Uuid, EventType> {
    rows.into_iter().filter_map(|(id, row)| Some((id, EventType::of(row).ok()?))).collect()
}
