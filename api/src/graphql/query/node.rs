//! Finds what has an id, of whichever kind.

use std::collections::{HashMap, HashSet};

use async_graphql::Context;
use service::queries::{event, event_type, import_job};
use uuid::Uuid;

use crate::error::ApiError;
use crate::graphql::response_size::{ResponseSize, SelectionCounts};
use crate::graphql::scalar::Id;
use crate::graphql::types::event::{Event, EventType, Node};
use crate::graphql::types::import::ImportJob;
use crate::graphql::{actor, size_of_response, store};

/// Ids that are looked up at once: rows are weighed before the next are read.
const FIND_AT_ONCE: usize = 100;

/// The event with that id or alias.
pub(super) async fn event(context: &Context<'_>, id: &Id) -> Result<Option<Event>, ApiError> {
    let ids: Vec<Uuid> = id.uuid().into_iter().collect();
    let found = event::find(store(context), actor(context).user_id, &ids).await?;
    let asked = found.into_iter().find(|(id, _)| ids.contains(id));
    Ok(asked.and_then(|(_, row)| Event::of(row).ok()))
}

/// The event type with that id or alias.
pub(super) async fn event_type(context: &Context<'_>, id: &Id) -> Result<Option<EventType>, ApiError> {
    let ids: Vec<Uuid> = id.uuid().into_iter().collect();
    Ok(event_types(context, &ids).await?.into_values().next())
}

/// The import with that id.
pub(super) async fn import(context: &Context<'_>, id: &Id) -> Result<Option<ImportJob>, ApiError> {
    let Some(id) = id.uuid() else {
        return Ok(None);
    };
    Ok(import_job::find(store(context), actor(context).user_id, id).await?.map(ImportJob))
}

/// One for each id, in their order; what is doubled is read once, and weighs as often as it is told.
pub(super) async fn nodes(context: &Context<'_>, ids: &[Id]) -> Result<Vec<Option<Node>>, ApiError> {
    let (counts, response_size) = (SelectionCounts::of(context), size_of_response(context));
    response_size.add(counts.rows(ids.len()))?;
    let mut times: HashMap<Uuid, usize> = HashMap::new();
    for id in ids.iter().filter_map(Id::uuid) {
        *times.entry(id).or_default() += 1;
    }
    let asked: Vec<Uuid> = times.keys().copied().collect();
    let mut events = HashMap::new();
    for some in asked.chunks(FIND_AT_ONCE) {
        events.extend(find_events(context, some, &times, counts, response_size).await?);
    }
    let left: Vec<Uuid> = asked.into_iter().filter(|id| !events.contains_key(id)).collect();
    let types = event_types(context, &left).await?;
    let left: Vec<Uuid> = left.into_iter().filter(|id| !types.contains_key(id)).collect();
    let imports = if left.is_empty() {
        HashMap::new()
    } else {
        import_job::find_all(store(context), actor(context).user_id, &left).await?
    };
    let known = |id: Uuid| {
        let event = events.get(&id).cloned().map(Box::new).map(Node::Event);
        let event_type = || types.get(&id).cloned().map(Node::EventType);
        let import = || imports.get(&id).cloned().map(ImportJob).map(Box::new).map(Node::ImportJob);
        event.or_else(event_type).or_else(import)
    };
    Ok(ids.iter().map(|id| id.uuid().and_then(known)).collect())
}

async fn find_events(
    context: &Context<'_>,
    ids: &[Uuid],
    times: &HashMap<Uuid, usize>,
    counts: SelectionCounts,
    response_size: &ResponseSize,
) -> Result<Vec<(Uuid, Event)>, ApiError> {
    let rows = event::find(store(context), actor(context).user_id, ids).await?;
    // An alias that was asked for brings its row under its own id as well.
    let told = |id: &Uuid| times.get(id).copied().unwrap_or_default();
    response_size.add(rows.iter().map(|(id, row)| counts.event(row) * told(id)).sum())?;
    let asked = rows.into_iter().filter(|(id, _)| told(id) > 0);
    Ok(asked.filter_map(|(id, row)| Some((id, Event::of(row).ok()?))).collect())
}

async fn event_types(context: &Context<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, EventType>, ApiError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let asked: HashSet<&Uuid> = ids.iter().collect();
    let rows = event_type::find(store(context), actor(context).user_id, ids).await?;
    let rows = rows.into_iter().filter(|(id, _)| asked.contains(id));
    Ok(rows.filter_map(|(id, row)| Some((id, EventType::of(row).ok()?))).collect())
}
