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

/// Ids of events that are read at once. The size of these rows is checked before the next ones are read.
const IDS_PER_READ: usize = 100;

/// The living event with this id or alias.
pub(super) async fn find_event(context: &Context<'_>, id: &Id) -> Result<Option<Event>, ApiError> {
    let ids: Vec<Uuid> = id.to_uuid().into_iter().collect();
    let rows =
        event::find_by_ids_or_aliases(context_store(context), context_actor(context).user_id, &ids).await?;
    let row = rows.into_iter().find(|(id, _)| ids.contains(id));
    Ok(row.and_then(|(_, row)| Event::from_living_row(row).ok()))
}

/// The living event type with this id or alias.
pub(super) async fn find_event_type(context: &Context<'_>, id: &Id) -> Result<Option<EventType>, ApiError> {
    let ids: Vec<Uuid> = id.to_uuid().into_iter().collect();
    Ok(find_event_types(context, &ids).await?.into_values().next())
}

/// The import with this id.
pub(super) async fn find_import(context: &Context<'_>, id: &Id) -> Result<Option<ImportJob>, ApiError> {
    let Some(id) = id.to_uuid() else {
        return Ok(None);
    };
    Ok(import_job::find(context_store(context), context_actor(context).user_id, id).await?.map(ImportJob))
}

/// The nodes with these ids, in the order of `ids`, with `None` for each unknown id.
///
/// An id that occurs more than once is read once, and its size counts for each occurrence.
pub(super) async fn find_nodes(context: &Context<'_>, ids: &[Id]) -> Result<Vec<Option<Node>>, ApiError> {
    let (counts, response_size) = (SelectionCounts::count_selection(context), context_response_size(context));
    response_size.add_bytes(counts.row_overhead_bytes(ids.len()))?;
    let mut occurrences: HashMap<Uuid, usize> = HashMap::new();
    for id in ids.iter().filter_map(Id::to_uuid) {
        *occurrences.entry(id).or_default() += 1;
    }
    let distinct: Vec<Uuid> = occurrences.keys().copied().collect();
    let mut events = HashMap::new();
    for batch in distinct.chunks(IDS_PER_READ) {
        events.extend(find_events(context, batch, &occurrences, counts, response_size).await?);
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

async fn find_events(
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
    response_size.add_bytes(rows.iter().map(|(id, row)| counts.event_bytes(row) * count(id)).sum())?;
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
