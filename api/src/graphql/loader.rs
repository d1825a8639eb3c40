//! Loads the event types of events in batches, so that one request reads each type once.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::Loader;
use domain::row::{EventRow, TypeRow};
use service::Store;
use service::queries::event_type;
use uuid::Uuid;

use super::types::event::EventType;
use crate::error::ApiError;

/// Loads living event types of one user by id or alias, as the source of a `DataLoader`.
#[derive(Debug, Clone)]
pub struct TypeLoader {
    /// The store that is read.
    pub store: Store,
    /// The user who owns the types.
    pub user_id: Uuid,
}

impl Loader<Uuid> for TypeLoader {
    type Value = EventType;
    type Error = ApiError;

    async fn load(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, EventType>, ApiError> {
        let rows = event_type::find_by_ids_or_aliases(&self.store, self.user_id, ids).await?;
        Ok(to_living_types(rows))
    }
}

/// Loads the event types of the living events among `rows`, by the id of the type. A type that has been
/// deleted in the meantime is missing from the result.
pub(crate) async fn load_types_of_events(
    store: &Store,
    user_id: Uuid,
    rows: &[Arc<EventRow>],
) -> Result<HashMap<Uuid, EventType>, ApiError> {
    let type_ids = rows.iter().filter_map(|row| row.content.as_ref()).map(|content| content.event_type_id);
    Ok(to_living_types(event_type::find_by_row_ids(store, user_id, type_ids.collect()).await?))
}

fn to_living_types(rows: impl IntoIterator<Item = (Uuid, Arc<TypeRow>)>) -> HashMap<Uuid, EventType> {
    rows.into_iter().filter_map(|(id, row)| Some((id, EventType::from_living_row(row).ok()?))).collect()
}
