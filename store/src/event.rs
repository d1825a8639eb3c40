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

use super::model::{self, ColumnSet, read_event_row};
use super::page::{Page, PageBuilder, RowSize, Window, limited_statement};
use super::row_reader::Row;
use super::{Store, dialect, event_type};
use crate::error::Error;
use domain::case_folding;
use domain::event_id::compose_uuid_v7;
use domain::fault_injection;
use domain::row::EventRow;

/// The key of an event in the list: its timestamp in epoch milliseconds, and its id. The list is in
/// descending order.
pub type Key = (i64, Uuid);

/// The conditions that an event must meet, all of them.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The event has one of these event types, given by their ids or aliases.
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
    /// The notes of the event contain this text, whatever its upper and lower case.
    pub search: Option<String>,
}

/// Returns the living events with these ids or aliases, in pairs of id and event. An event is returned once
/// with its own id, even if only an alias was asked for, and once with each alias that was asked for.
///
/// Plan: one lookup in `id_alias_by_id (user_id, alias_id)` for each id, and one in the primary key of
/// `event`.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn find_by_ids_or_aliases(
    store: &Store,
    user_id: Uuid,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, Arc<EventRow>)>, Error> {
    let aliases = id_alias::Entity::find()
        .filter(id_alias::Column::UserId.eq(user_id))
        .filter(id_alias::Column::Entity.eq(1))
        .filter(id_alias::Column::AliasId.is_in(ids.iter().copied()))
        .all(&store.reader)
        .await?;
    let canonical = ids.iter().copied().chain(aliases.iter().map(|alias| alias.id));
    let query = select_living(user_id).filter(event::Column::Id.is_in(canonical));
    let rows = store.reader.query_all(select_response_columns(query).as_query()).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let row = Arc::new(read_event_row(Row::from_query_result(&row)?, 0, ColumnSet::Response)?);
        let id = row.meta.id;
        for alias in aliases.iter().filter(|alias| alias.id == id) {
            events.push((alias.alias_id, Arc::clone(&row)));
        }
        events.push((id, row));
    }
    Ok(events)
}

/// Returns a page of the living events of a user that meet a filter, the newest first. It ends at its number
/// of rows or at its number of bytes, whichever comes first. Without a filter the statement is
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
pub async fn load_page(
    store: &Store,
    user_id: Uuid,
    filter: &Filter,
    window: &Window<Key>,
    row_size: RowSize<'_, Arc<EventRow>>,
) -> Result<Page<Arc<EventRow>>, Error> {
    let mut query = select_filtered(store, user_id, filter).await?;
    if let Some(after) = window.after {
        query = query.filter(key_columns_expr().lt(key_expr(after)));
    }
    if let Some(before) = window.before {
        query = query.filter(key_columns_expr().gt(key_expr(before)));
    }
    let order = if window.from_end { Order::Asc } else { Order::Desc };
    let query = query.order_by(event::Column::Timestamp, order.clone()).order_by(event::Column::Id, order);
    let mut builder = PageBuilder::new(window.size, row_size);
    let on_row = |row: Row<'_>| Ok(builder.take_row(Arc::new(read_event_row(row, 0, ColumnSet::Response)?)));
    let statement = limited_statement(select_response_columns(query), window.query_limit(), store);
    if filter.search.is_some() {
        store.acquire_heavy_reader(user_id).await?.reader.0.read_rows(statement, on_row).await?;
    } else {
        store.lists.read_rows(statement, on_row).await?;
    }
    Ok(window.page_of_builder(builder))
}

/// Counts the living events that meet a filter. It reads all of them, so it is a heavy read.
///
/// # Errors
/// [`Error::Busy`] or [`Error::Locked`] if other heavy reads of the user take too long; [`Error::Database`]
/// if the database fails.
pub async fn count_matching(store: &Store, user_id: Uuid, filter: &Filter) -> Result<u64, Error> {
    let query = select_filtered(store, user_id, filter).await?;
    Ok(query.count(&store.acquire_heavy_reader(user_id).await?.reader).await?)
}

/// Makes a query return only the columns of an event that a response can show.
pub(super) fn select_response_columns(query: Select<event::Entity>) -> Select<event::Entity> {
    static COLUMNS: LazyLock<String> =
        LazyLock::new(|| model::sql_column_list(&model::EVENT[..model::EVENT_RESPONSE]));
    query.select_only().expr(Expr::cust(COLUMNS.as_str()))
}

/// Builds a query for the living events of a user. A tombstone has no timestamp.
fn select_living(user_id: Uuid) -> Select<event::Entity> {
    let living = event::Entity::find().filter(event::Column::Timestamp.is_not_null());
    if fault_injection::is_injected("plant-no-user") {
        living
    } else {
        living.filter(event::Column::UserId.eq(user_id))
    }
}

/// The SQL expression for the columns of a [`Key`] as one row value.
fn key_columns_expr() -> SimpleExpr {
    Expr::tuple([Expr::col(event::Column::Timestamp), Expr::col(event::Column::Id)])
}

fn key_expr((timestamp, id): Key) -> SimpleExpr {
    Expr::tuple([Expr::value(timestamp), Expr::value(id)])
}

/// The SQL expression for the id of the event type that has this id or alias. For an unknown id it is that id,
/// which no event has as its type.
fn type_id_of_alias_expr(user_id: Uuid, id: Uuid) -> SimpleExpr {
    let alias = id_alias::Entity::find()
        .select_only()
        .column(id_alias::Column::Id)
        .filter(id_alias::Column::UserId.eq(user_id))
        .filter(id_alias::Column::Entity.eq(2))
        .filter(id_alias::Column::AliasId.eq(id))
        .into_query();
    Func::coalesce([SimpleExpr::SubQuery(None, Box::new(alias.into())), Expr::value(id)]).into()
}

/// Builds a query for the living events that meet a filter. If the filter has several event types, it reads
/// them from the database first, to find the ids of aliases.
async fn select_filtered(
    store: &Store,
    user_id: Uuid,
    filter: &Filter,
) -> Result<Select<event::Entity>, Error> {
    let mut all = Condition::all();
    match filter.event_type_ids.as_deref() {
        None => {}
        Some([id]) => {
            all = all.add(Expr::col(event::Column::EventTypeId).eq(type_id_of_alias_expr(user_id, *id)));
        }
        Some(ids) => {
            let types = event_type::find_by_ids_or_aliases(store, user_id, ids).await?;
            all = all.add(event::Column::EventTypeId.is_in(types.into_iter().map(|(_, row)| row.meta.id)));
        }
    }
    // Both bounds are compared as keys of the list. Of two bounds of one column PostgreSQL would make a
    // narrow range, read all rows in it in any order, and sort them.
    if let Some(from) = filter.from {
        all = all.add(key_columns_expr().gte(key_expr((from, Uuid::nil()))));
    }
    if let Some(to) = filter.to {
        all = all.add(key_columns_expr().lt(key_expr((to, Uuid::nil()))));
    }
    if let Some(from) = filter.id_from {
        all = all.add(event::Column::Id.gte(smallest_id_at(from)));
    }
    if let Some(to) = filter.id_to {
        all = all.add(event::Column::Id.lt(smallest_id_at(to)));
    }
    if let Some(sources) = &filter.source_types {
        all = all.add(event::Column::SourceType.is_in(sources));
    }
    if let Some(import) = filter.import_job_id {
        all = all.add(event::Column::ImportJobId.eq(import));
    }
    if let Some(search) = &filter.search {
        let position = dialect::sql_position_function(store.reader.backend());
        let at =
            Func::cust(position).arg(Expr::col(event::Column::NotesSearch)).arg(case_folding::fold(search));
        all = all.add(Expr::expr(at).gt(0));
    }
    Ok(select_living(user_id).filter(all))
}

/// The smallest UUIDv7 with this time in epoch milliseconds.
pub(crate) fn smallest_id_at(ms: i64) -> Uuid {
    compose_uuid_v7(ms, [0; 10])
}

/// Returns the ids of events that an import created and that nobody has changed or deleted since, in the
/// order of ids. `after` is the last id of the previous call, and `most` is the most ids to return.
///
/// Plan: it walks the primary key `(user_id, id)` from `after`, and stops at the limit. No index begins with
/// the import, so it passes over the events of the user that are of other imports.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn find_unchanged_ids_of_import(
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
