//! Finds events, event types and imports by id.

use std::collections::{HashMap, HashSet};

use async_graphql::Context;
use service::queries::{event, event_type, import_job};
use uuid::Uuid;

use crate::error::ApiError;
use crate::graphql::response_size::{ResponseSize, SelectionCounts};
use crate::graphql::scalar::Id;
use crate::graphql::types::event::{Event, EventType, Node};
use crate::graphql::types::import::ImportJob;
use crate::graphql::{context_actor, context_response_size, context_store};

/// How many ids are looked up as events in one read. The size of the events that were found is checked before
/// the next read.
const IDS_PER_READ: usize = 100;

/// Reads the living event of the user with this id or alias. `None` if there is none.
pub(super) async fn find_event(context: &Context<'_>, id: &Id) -> Result<Option<Event>, ApiError> {
    let ids: Vec<Uuid> = id.to_uuid().into_iter().collect();
    let rows =
        event::find_by_ids_or_aliases(context_store(context), context_actor(context).user_id, &ids).await?;
    let row = rows.into_iter().find(|(id, _)| ids.contains(id));
    Ok(row.and_then(|(_, row)| Event::from_living_row(row).ok()))
}

/// Reads the living event type of the user with this id or alias. `None` if there is none.
pub(super) async fn find_event_type(context: &Context<'_>, id: &Id) -> Result<Option<EventType>, ApiError> {
    let ids: Vec<Uuid> = id.to_uuid().into_iter().collect();
    Ok(find_event_types(context, &ids).await?.into_values().next())
}

/// Reads the import of the user with this id. `None` if there is none.
pub(super) async fn find_import(context: &Context<'_>, id: &Id) -> Result<Option<ImportJob>, ApiError> {
    let Some(id) = id.to_uuid() else {
        return Ok(None);
    };
    Ok(import_job::find(context_store(context), context_actor(context).user_id, id).await?.map(ImportJob))
}

/// Reads the events, event types and imports with these ids, in the order of `ids`, with `None` for each
/// unknown id.
///
/// An id that occurs more than once is read once, but adds to the response size for each occurrence.
///
/// # Errors
/// [`ApiError::Limit`] if the response would be too large; otherwise as the reads.
pub(super) async fn find_nodes(context: &Context<'_>, ids: &[Id]) -> Result<Vec<Option<Node>>, ApiError> {
    let (counts, response_size) =
        (SelectionCounts::count_selected_fields(context), context_response_size(context));
    response_size.add_bytes_and_check_limit(counts.row_overhead_bytes(ids.len()))?;
    let mut occurrences: HashMap<Uuid, usize> = HashMap::new();
    for id in ids.iter().filter_map(Id::to_uuid) {
        *occurrences.entry(id).or_default() += 1;
    }
    let distinct: Vec<Uuid> = occurrences.keys().copied().collect();
    let mut events = HashMap::new();
    for batch in distinct.chunks(IDS_PER_READ) {
        events
            .extend(find_events_and_count_bytes(context, batch, &occurrences, counts, response_size).await?);
    }
    let remaining: Vec<Uuid> = distinct.into_iter().filter(|id| !events.contains_key(id)).collect();
    let types = find_event_types(context, &remaining).await?;
    let remaining: Vec<Uuid> = remaining.into_iter().filter(|id| !types.contains_key(id)).collect();
    let imports = if remaining.is_empty() {
        HashMap::new()
    } else {
        import_job::find_by_ids(context_store(context), context_actor(context).user_id, &remaining).await?
    };
    let node = |id: Uuid| {
        let event = events.get(&id).cloned().map(Box::new).map(Node::Event);
        let event_type = || types.get(&id).cloned().map(Node::EventType);
        let import = || imports.get(&id).cloned().map(ImportJob).map(Box::new).map(Node::ImportJob);
        event.or_else(event_type).or_else(import)
    };
    Ok(ids.iter().map(|id| id.to_uuid().and_then(node)).collect())
}

async fn find_events_and_count_bytes(
    context: &Context<'_>,
    ids: &[Uuid],
    occurrences: &HashMap<Uuid, usize>,
    counts: SelectionCounts,
    response_size: &ResponseSize,
) -> Result<Vec<(Uuid, Event)>, ApiError> {
    let rows =
        event::find_by_ids_or_aliases(context_store(context), context_actor(context).user_id, ids).await?;
    // A lookup by an alias returns the row under its own id as well, which may not be among the ids.
    let count = |id: &Uuid| occurrences.get(id).copied().unwrap_or_default();
    response_size.add_bytes_and_check_limit(
        rows.iter().map(|(id, row)| counts.estimate_event_bytes(row) * count(id)).sum(),
    )?;
    let requested = rows.into_iter().filter(|(id, _)| count(id) > 0);
    Ok(requested.filter_map(|(id, row)| Some((id, Event::from_living_row(row).ok()?))).collect())
}

async fn find_event_types(context: &Context<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, EventType>, ApiError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let requested: HashSet<&Uuid> = ids.iter().collect();
    let rows =
        event_type::find_by_ids_or_aliases(context_store(context), context_actor(context).user_id, ids)
            .await?;
    let rows = rows.into_iter().filter(|(id, _)| requested.contains(id));
    Ok(rows.filter_map(|(id, row)| Some((id, EventType::from_living_row(row).ok()?))).collect())
}
