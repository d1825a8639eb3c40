//! Reads events: by id, as pages of a list, and for the rollback of an import.
//!
//! The queries are built by SeaORM, because every filter adds a condition. The doc of each function says
//! which index serves it; `tests/suite/database/query_plans.rs` counts the rows that pages read.

use std::sync::{Arc, LazyLock};

use ::entity::{event, id_alias};
use sea_orm::sea_query::{Expr, ExprTrait, Func, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, Order, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Select,
};
use uuid::Uuid;

use super::model::{self, ColumnSet, event_row};
use super::page::{Page, PageBuilder, Weigh, Window, limited};
use super::row_reader::Row;
use super::{Store, dialect, event_type};
use crate::error::Error;
use domain::case_folding;
use domain::event_id::compose;
use domain::fault_injection;
use domain::row::EventRow;

/// The key of an event in the list: its timestamp in epoch milliseconds, and its id. The list is in
/// descending order.
pub type Key = (i64, Uuid);

/// The conditions that an event must meet, all of them.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The event has one of these types.
    pub event_type_ids: Option<Vec<Uuid>>,
    /// The event starts at this instant or later, in epoch milliseconds.
    pub from: Option<i64>,
    /// The event starts before this instant, in epoch milliseconds.
    pub to: Option<i64>,
    /// The time in the event's id is this instant or later, in epoch milliseconds.
    pub id_from: Option<i64>,
    /// The time in the event's id is before this instant, in epoch milliseconds.
    pub id_to: Option<i64>,
    /// The event comes from one of these sources.
    pub source_types: Option<Vec<String>>,
    /// The event was created by this import.
    pub import_job_id: Option<Uuid>,
    /// The notes contain this text, in upper or lower case.
    pub search: Option<String>,
}

/// Returns the living events with these ids or aliases, each with the id that was asked for. An event is
/// returned once for its own id and once for each of its aliases.
///
/// Plan: one lookup in `id_alias_by_id (user_id, alias_id)` for each id, and one in the primary key of
/// `event`.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn find(store: &Store, user_id: Uuid, ids: &[Uuid]) -> Result<Vec<(Uuid, Arc<EventRow>)>, Error> {
    let aliases = id_alias::Entity::find()
        .filter(id_alias::Column::UserId.eq(user_id))
        .filter(id_alias::Column::Entity.eq(1))
        .filter(id_alias::Column::AliasId.is_in(ids.iter().copied()))
        .all(&store.reader)
        .await?;
    let canonical = ids.iter().copied().chain(aliases.iter().map(|alias| alias.id));
    let query = living(user_id).filter(event::Column::Id.is_in(canonical));
    let rows = store.reader.query_all(columns(query).as_query()).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let row = Arc::new(event_row(Row::of(&row)?, 0, ColumnSet::Response)?);
        let id = row.meta.id;
        for alias in aliases.iter().filter(|alias| alias.id == id) {
            events.push((alias.alias_id, Arc::clone(&row)));
        }
        events.push((id, row));
    }
    Ok(events)
}

/// Returns a page of the living events. It ends at its number of rows or at its number of bytes, whichever
/// comes first. Without a filter the statement is
///
/// ```sql
/// SELECT * FROM (SELECT "id", "version", … FROM event WHERE timestamp IS NOT NULL AND user_id = $1
///   AND (timestamp, id) < ($2, $3) ORDER BY timestamp DESC, id DESC LIMIT 64) page LIMIT (SELECT $4)
/// ```
///
/// Plan: it walks the index `event_newest (user_id, timestamp DESC, id DESC)` from the key of the window, and
/// stops at the limit. With one type it walks `event_by_type (user_id, event_type_id, timestamp DESC, id
/// DESC)`. A search reads all events of the user in the worst case, so it is a heavy read.
///
/// # Errors
/// [`Error::Busy`] if no connection is free in time, or too many heavy reads of the user wait;
/// [`Error::Locked`] if heavy reads of the user take too long; [`Error::Database`] if the database fails.
pub async fn page(
    store: &Store,
    user_id: Uuid,
    filter: &Filter,
    window: &Window<Key>,
    weigh: Weigh<'_, Arc<EventRow>>,
) -> Result<Page<Arc<EventRow>>, Error> {
    let mut query = filtered(store, user_id, filter).await?;
    if let Some(after) = window.after {
        query = query.filter(key_columns().lt(key(after)));
    }
    if let Some(before) = window.before {
        query = query.filter(key_columns().gt(key(before)));
    }
    let order = if window.from_end { Order::Asc } else { Order::Desc };
    let query = query.order_by(event::Column::Timestamp, order.clone()).order_by(event::Column::Id, order);
    let mut builder = PageBuilder::new(window.size, weigh);
    let on_row = |row: Row<'_>| Ok(builder.take(Arc::new(event_row(row, 0, ColumnSet::Response)?)));
    let statement = limited(columns(query), window.limit(), store);
    if filter.search.is_some() {
        store.heavy(user_id).await?.reader.0.read(statement, on_row).await?;
    } else {
        store.lists.read(statement, on_row).await?;
    }
    Ok(window.page_from(builder))
}

/// Counts the living events that meet a filter. It reads all of them, so it is a heavy read.
///
/// # Errors
/// [`Error::Busy`] or [`Error::Locked`] if other heavy reads of the user take too long; [`Error::Database`]
/// if the database fails.
pub async fn count(store: &Store, user_id: Uuid, filter: &Filter) -> Result<u64, Error> {
    let query = filtered(store, user_id, filter).await?;
    Ok(query.count(&store.heavy(user_id).await?.reader).await?)
}

/// Selects the columns that a response can show of an event.
pub(super) fn columns(query: Select<event::Entity>) -> Select<event::Entity> {
    static COLUMNS: LazyLock<String> = LazyLock::new(|| model::list(&model::EVENT[..model::EVENT_RESPONSE]));
    query.select_only().expr(Expr::cust(COLUMNS.as_str()))
}

/// Selects the living events of a user. A tombstone has no timestamp.
fn living(user_id: Uuid) -> Select<event::Entity> {
    let living = event::Entity::find().filter(event::Column::Timestamp.is_not_null());
    if fault_injection::is_injected("plant-no-user") {
        living
    } else {
        living.filter(event::Column::UserId.eq(user_id))
    }
}

/// The columns of a [`Key`] as one row value.
fn key_columns() -> SimpleExpr {
    Expr::tuple([Expr::col(event::Column::Timestamp), Expr::col(event::Column::Id)])
}

fn key((timestamp, id): Key) -> SimpleExpr {
    Expr::tuple([Expr::value(timestamp), Expr::value(id)])
}

async fn filtered(store: &Store, user_id: Uuid, filter: &Filter) -> Result<Select<event::Entity>, Error> {
    let mut all = Condition::all();
    if let Some(ids) = &filter.event_type_ids {
        let types = event_type::find(store, user_id, ids).await?;
        all = all.add(event::Column::EventTypeId.is_in(types.into_iter().map(|(_, row)| row.meta.id)));
    }
    // Both bounds are compared as keys of the list. Of two bounds of one column PostgreSQL would make a
    // narrow range, read all rows in it in any order, and sort them.
    if let Some(from) = filter.from {
        all = all.add(key_columns().gte(key((from, Uuid::nil()))));
    }
    if let Some(to) = filter.to {
        all = all.add(key_columns().lt(key((to, Uuid::nil()))));
    }
    if let Some(from) = filter.id_from {
        all = all.add(event::Column::Id.gte(compose_floor(from)));
    }
    if let Some(to) = filter.id_to {
        all = all.add(event::Column::Id.lt(compose_floor(to)));
    }
    if let Some(sources) = &filter.source_types {
        all = all.add(event::Column::SourceType.is_in(sources));
    }
    if let Some(import) = filter.import_job_id {
        all = all.add(event::Column::ImportJobId.eq(import));
    }
    if let Some(search) = &filter.search {
        let position = dialect::position(store.reader.backend());
        let at =
            Func::cust(position).arg(Expr::col(event::Column::NotesSearch)).arg(case_folding::fold(search));
        all = all.add(Expr::expr(at).gt(0));
    }
    Ok(living(user_id).filter(all))
}

/// The smallest UUIDv7 with this time in epoch milliseconds.
fn compose_floor(ms: i64) -> Uuid {
    compose(ms, [0; 10])
}

/// Returns the ids of events that an import created and that have not changed since, in the order of ids.
/// `after` is the last id of the previous call, and `most` is the most ids to return.
///
/// Plan: it walks the primary key `(user_id, id)` from `after`, and stops at the limit. No index begins with
/// the import, so it passes over the events of the user that are of other imports.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn unchanged_of_import(
    store: &Store,
    user_id: Uuid,
    import_id: Uuid,
    after: Option<Uuid>,
    most: usize,
) -> Result<Vec<Uuid>, Error> {
    let mut query = event::Entity::find()
        .select_only()
        .column(event::Column::Id)
        .filter(event::Column::UserId.eq(user_id))
        .filter(event::Column::ImportJobId.eq(import_id))
        .filter(Expr::col(event::Column::ImportVersion).eq(Expr::col(event::Column::Version)));
    if let Some(after) = after {
        query = query.filter(event::Column::Id.gt(after));
    }
    Ok(query.order_by_asc(event::Column::Id).limit(most as u64).into_tuple().all(store.reader()).await?)
}
