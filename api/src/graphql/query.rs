//! The queries.
//!
//! Every read names the user of the request. The id of another user's object counts as an unknown id.

mod node;

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{Context, Object};
use domain::import::State;
use domain::limits;
use domain::row::EventRow;
use futures::FutureExt;
use service::Store;
use service::queries::{digest, event, event_type, feed, import_job, stats, status};
use uuid::Uuid;

use super::filter::{EventFilter, check_filter_list};
use super::response_size::SelectionCounts;
use super::scalar::{Cursor, DateTime, Id};
use super::types::connection::{Connection, Listed, check_page_size, parse_window};
use super::types::event::{Event, EventType, Node, Viewer};
use super::types::import::{ImportJob, ImportState};
use super::types::rate_limit::RateLimit;
use super::types::stats::{EventStats, EventStatsInput};
use super::types::sync::{self, ChangePage, EntityType, SourceStatus, SyncDigest, SyncState, SyncStatus};
use super::{context_actor, context_charge, context_response_size, context_store, loader};
use crate::error::ApiError;

/// The queries. They return data of the authenticated user only; the id of another user's object counts as
/// unknown.
#[derive(Debug)]
pub struct Query;

impl Listed for Event {
    const NAME: &'static str = "Event";
    type Key = event::Key;

    fn sort_key(&self) -> Self::Key {
        Self::sort_key(self)
    }
}

impl Listed for EventType {
    const NAME: &'static str = "EventType";
    type Key = event_type::Key;

    fn sort_key(&self) -> Self::Key {
        Self::sort_key(self)
    }
}

/// The queries. They return data of the authenticated user only; the id of another user's object counts as
/// unknown.
#[Object]
impl Query {
    /// A page of the change feed, which contains each entity once, as it is now, in the order of the last
    /// changes. Without `after` it is the first page of a bootstrap (a full download), which contains living
    /// entities only. A page can end before `first` entries, after 4 MiB of content: go on with its `cursor`
    /// while `hasMore` is true.
    async fn changes(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The cursor of the page before. Absent: starts a bootstrap.")] after: Option<Cursor>,
        #[graphql(
            default_with = "limits::CHANGES_FIRST_DEFAULT",
            desc = "The size of the page, 1 to 5 000."
        )]
        first: i32,
    ) -> Result<ChangePage, ApiError> {
        let (store, actor) = (context_store(context), context_actor(context));
        let first = check_page_size(first, limits::CHANGES_FIRST_MAX)?;
        let counts = SelectionCounts::count_selected_fields(context);
        let row_size = |change: &feed::Change| counts.estimate_change_bytes(change);
        let bounds = feed::PageBounds { first, with_types: counts.has_event_types(), row_size: &row_size };
        let after = after.as_ref().map(|cursor| cursor.0.as_str());
        let page = feed::load_page(store, actor.user_id, after, bounds).await?;
        context_response_size(context)
            .add_bytes_and_check_limit(page.bytes + counts.row_overhead_bytes(page.changes.len()))?;
        Ok(ChangePage::new(page, actor.user_id, store.clock.now_ms()))
    }

    /// The living event with this id or alias; null if there is none.
    async fn event(&self, context: &Context<'_>, id: Id) -> Result<Option<Event>, ApiError> {
        node::find_event(context, &id).await
    }

    /// Events that are not deleted, by `timestamp` and then by id, both descending. `first` or `last` is 1 to
    /// 1 000; without either it is 50; both together are an error. A page can end early, after 4 MiB of
    /// content: `pageInfo` says whether more events follow.
    async fn events(
        &self,
        context: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
        filter: Option<EventFilter>,
    ) -> Result<Connection<Event>, ApiError> {
        let (store, user_id) = (context_store(context).clone(), context_actor(context).user_id);
        let window = parse_window(first, after, last, before)?;
        let filter = EventFilter::parse_filter(filter)?;
        let counts = SelectionCounts::count_selected_event_fields(context);
        let row_size = |row: &Arc<EventRow>| counts.estimate_event_bytes(row);
        let page = event::load_page(&store, user_id, &filter, &window, &row_size).await?;
        context_response_size(context)
            .add_bytes_and_check_limit(page.bytes + counts.row_overhead_bytes(page.rows.len()))?;
        let types = if counts.has_event_types() {
            loader::load_types_of_events(&store, user_id, &page.rows).await?
        } else {
            HashMap::new()
        };
        Ok(Connection::new(
            page,
            |row| Some(Event::from_living_row(row).ok()?.with_type_from(&types)),
            move || {
                let (store, filter) = (store.clone(), filter.clone());
                async move { event::count_matching(&store, user_id, &filter).await }.boxed()
            },
        ))
    }

    /// Numbers from the living events that match the filter: how many there are, how long they last, and what they
    /// measure, in the buckets of a calendar. Events before 1900 or from 2100 on are left out. Over 5 000 buckets of
    /// the calendar, 10 000 entries of `buckets` and `measures`, or 10 s, it is refused with `LIMIT_EXCEEDED`.
    async fn event_stats(
        &self,
        context: &Context<'_>,
        input: EventStatsInput,
    ) -> Result<EventStats, ApiError> {
        let (store, user_id) = (context_store(context), context_actor(context).user_id);
        let (query, filter) = input.parse_query()?;
        let (query, ends) = (Arc::new(query), (filter.from, filter.to));
        let selected = EventStats::selected_fields(context);
        let found = stats::compute_statistics(store, user_id, Arc::clone(&query), filter, selected).await?;
        let stats = EventStats::new(&query, ends, found.map_err(ApiError::from_exceeded)?, user_id);
        context_response_size(context).add_bytes_and_check_limit(
            SelectionCounts::count_selected_fields(context).row_overhead_bytes(stats.count_rows()),
        )?;
        Ok(stats)
    }

    /// The living event type with this id or alias; null if there is none.
    async fn event_type(&self, context: &Context<'_>, id: Id) -> Result<Option<EventType>, ApiError> {
        node::find_event_type(context, &id).await
    }

    /// Living event types, by name (compared as bytes) and then by id, both ascending. `first` and `last` are
    /// as for `events`.
    async fn event_types(
        &self,
        context: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Connection<EventType>, ApiError> {
        let (store, user_id) = (context_store(context).clone(), context_actor(context).user_id);
        let page = event_type::load_page(&store, user_id, &parse_window(first, after, last, before)?).await?;
        let counts = SelectionCounts::count_selected_fields(context);
        let content_bytes: usize = page.rows.iter().map(|row| counts.estimate_event_type_bytes(row)).sum();
        context_response_size(context)
            .add_bytes_and_check_limit(content_bytes + counts.row_overhead_bytes(page.rows.len()))?;
        Ok(Connection::new(
            page,
            |row| EventType::from_living_row(row).ok(),
            move || {
                let store = store.clone();
                async move { event_type::count_living(&store, user_id).await }.boxed()
            },
        ))
    }

    /// The import with this id; null if there is none.
    async fn import_job(&self, context: &Context<'_>, id: Id) -> Result<Option<ImportJob>, ApiError> {
        node::find_import(context, &id).await
    }

    /// Imports, by `createdAt` and then by id, both descending. `states` selects imports in one of these
    /// states and must not be empty; without it all are listed. `first` and `last` are as for `events`.
    async fn import_jobs(
        &self,
        context: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
        states: Option<Vec<ImportState>>,
    ) -> Result<Connection<ImportJob>, ApiError> {
        let (store, user_id) = (context_store(context).clone(), context_actor(context).user_id);
        let states = check_filter_list("/states", states)?;
        let states: Option<Vec<State>> = states.map(|states| states.into_iter().map(State::from).collect());
        let window = parse_window(first, after, last, before)?;
        let page = import_job::load_page(&store, user_id, states.as_deref(), &window).await?;
        context_response_size(context).add_bytes_and_check_limit(
            SelectionCounts::count_selected_fields(context).row_overhead_bytes(page.rows.len()),
        )?;
        Ok(Connection::new(
            page,
            |row| Some(ImportJob(row)),
            move || {
                let (store, states) = (store.clone(), states.clone());
                async move { import_job::count_of_user(&store, user_id, states.as_deref()).await }.boxed()
            },
        ))
    }

    /// The event, event type or import with this id; null if there is none. Events and event types are also
    /// found by an alias.
    async fn node(&self, context: &Context<'_>, id: Id) -> Result<Option<Node>, ApiError> {
        Ok(node::find_nodes(context, &[id]).await?.into_iter().next().flatten())
    }

    /// The events, event types and imports with these ids, 1 to 1 000, in the order of `ids`, with null for
    /// each unknown id. Events and event types are also found by an alias.
    async fn nodes(&self, context: &Context<'_>, ids: Vec<Id>) -> Result<Vec<Option<Node>>, ApiError> {
        let count = i32::try_from(ids.len()).unwrap_or(i32::MAX);
        check_page_size(count, limits::PAGE_FIRST_MAX)?;
        node::find_nodes(context, &ids).await
    }

    /// How many rate limit points this request cost, and how many the user has left.
    async fn rate_limit(&self, context: &Context<'_>) -> RateLimit {
        RateLimit::from_charge(context_charge(context), context_store(context).clock.now_ms())
    }

    /// Checksums of the living entities of one kind, one per UTC month of the time inside their ids. A client
    /// whose copy differs in a month fetches that month again: events with `idFrom` and `idTo` of
    /// `EventFilter`, event types with `eventTypes`.
    async fn sync_digest(&self, context: &Context<'_>, entity: EntityType) -> Result<SyncDigest, ApiError> {
        let buckets =
            digest::compute_digest(context_store(context), context_actor(context).user_id, entity.into())
                .await?;
        context_response_size(context).add_bytes_and_check_limit(
            SelectionCounts::count_selected_fields(context).row_overhead_bytes(buckets.len()),
        )?;
        Ok(SyncDigest::new(entity, buckets))
    }

    /// Counts and newest instants of the data of the user, and the limits of the server. With `after`, also
    /// how many changes a copy at that cursor lacks.
    async fn sync_status(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The cursor that the client has stored.")] after: Option<Cursor>,
    ) -> Result<SyncStatus, ApiError> {
        load_sync_status(context_store(context), context_actor(context).user_id, after).await
    }

    /// The authenticated user.
    async fn viewer(&self, context: &Context<'_>) -> Viewer {
        let actor = context_actor(context);
        Viewer {
            user_id: actor.user_id.into(),
            issuer: Some(actor.issuer.clone()).filter(|issuer| !issuer.is_empty()),
            subject: actor.subject.clone(),
        }
    }
}

async fn load_sync_status(
    store: &Store,
    user_id: Uuid,
    after: Option<Cursor>,
) -> Result<SyncStatus, ApiError> {
    let (head, resolved) =
        feed::resolve_cursor(store, user_id, after.as_ref().map(|cursor| cursor.0.as_str())).await?;
    let (state, pending) = match (&after, resolved) {
        (None, _) => (None, None),
        (Some(_), Err(_)) => (Some(SyncState::ResetRequired), None),
        (Some(_), Ok(from)) => {
            let pending = feed::count_changes_after_cursor(store, user_id, from, head.feed_head).await?;
            let state = if pending == 0 { SyncState::UpToDate } else { SyncState::Behind };
            (Some(state), Some(i32::try_from(pending).unwrap_or(i32::MAX)))
        }
    };
    let totals = status::load_totals(store, user_id).await?;
    let newest = feed::cursor_at_head(head);
    Ok(SyncStatus {
        state,
        pending,
        head_cursor: Cursor(newest.encode(user_id)),
        last_change_at: totals.last_change_at.map(DateTime::At),
        last_event_at: totals.last_event_at.map(DateTime::At),
        counts: sync::to_entity_counts(&totals),
        sources: status::load_source_totals(store, user_id)
            .await?
            .into_iter()
            .map(SourceStatus::from)
            .collect(),
        imports: sync::to_import_counts(&totals),
        limits: sync::sync_limits(),
        server_time: DateTime::At(store.clock.now_ms()),
    })
}
