//! Reading events.

use std::sync::{Arc, LazyLock};

use ::entity::{event, id_alias};
use sea_orm::sea_query::{Expr, ExprTrait, Func, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, Order, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Select,
};
use uuid::Uuid;

use super::model::{self, ColumnSet, event_row};
use super::page::{Page, PageBuilder, Weigh, Window, first};
use super::row_reader::Row;
use super::{Store, dialect, event_type};
use crate::error::Error;
use domain::event_id::compose;
use domain::fault_injection;
use domain::folded;
use domain::row::EventRow;

/// The place of an event in the list: newest timestamp first, then id.
pub type Key = (i64, Uuid);

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of one of these types.
    pub event_type_ids: Option<Vec<Uuid>>,
    /// Not before, epoch milliseconds.
    pub from: Option<i64>,
    /// Before, epoch milliseconds.
    pub to: Option<i64>,
    /// Whose id was not made before, epoch milliseconds.
    pub id_from: Option<i64>,
    /// Whose id was made before, epoch milliseconds.
    pub id_to: Option<i64>,
    /// From one of these sources.
    pub source_types: Option<Vec<String>>,
    /// Made by this import.
    pub import_job_id: Option<Uuid>,
    /// Whose notes hold this text, in any case.
    pub search: Option<String>,
}

/// The living events with these ids or aliases, each under the id that was asked for.
///
/// # Errors
/// When the database fails.
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
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let row = Arc::new(event_row(Row::of(&row)?, 0, ColumnSet::Response)?);
        let id = row.meta.id;
        for alias in aliases.iter().filter(|alias| alias.id == id) {
            found.push((alias.alias_id, Arc::clone(&row)));
        }
        found.push((id, row));
    }
    Ok(found)
}

/// A page of the living events, which ends at its bytes if not before.
///
/// # Errors
/// When the database fails.
pub async fn page(
    store: &Store,
    user_id: Uuid,
    filter: &Filter,
    window: &Window<Key>,
    weigh: Weigh<'_, Arc<EventRow>>,
) -> Result<Page<Arc<EventRow>>, Error> {
    let mut query = filtered(store, user_id, filter).await?;
    if let Some(after) = window.after {
        query = query.filter(place().lt(key(after)));
    }
    if let Some(before) = window.before {
        query = query.filter(place().gt(key(before)));
    }
    let order = if window.from_end { Order::Asc } else { Order::Desc };
    let query = query.order_by(event::Column::Timestamp, order.clone()).order_by(event::Column::Id, order);
    let mut builder = PageBuilder::new(window.size, weigh);
    let show = |row: Row<'_>| Ok(builder.take(Arc::new(event_row(row, 0, ColumnSet::Response)?)));
    let statement = first(columns(query), window.limit(), store);
    if filter.search.is_some() {
        store.heavy(user_id).await?.reader.0.read(statement, show).await?;
    } else {
        store.lists.read(statement, show).await?;
    }
    Ok(window.page_of(builder))
}

/// How many living events there are.
///
/// # Errors
/// When the database fails.
pub async fn count(store: &Store, user_id: Uuid, filter: &Filter) -> Result<u64, Error> {
    let query = filtered(store, user_id, filter).await?;
    Ok(query.count(&store.heavy(user_id).await?.reader).await?)
}

/// With what is told of an event.
pub(super) fn columns(query: Select<event::Entity>) -> Select<event::Entity> {
    static COLUMNS: LazyLock<String> = LazyLock::new(|| model::list(&model::EVENT[..model::EVENT_RESPONSE]));
    query.select_only().expr(Expr::cust(COLUMNS.as_str()))
}

fn living(user_id: Uuid) -> Select<event::Entity> {
    let living = event::Entity::find().filter(event::Column::Timestamp.is_not_null());
    if fault_injection::is_injected("plant-no-user") {
        living
    } else {
        living.filter(event::Column::UserId.eq(user_id))
    }
}

fn place() -> SimpleExpr {
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
    // As places of the list: of two bounds of one column PostgreSQL makes a narrow range, takes all that is
    // in it in any order, and sorts.
    if let Some(from) = filter.from {
        all = all.add(place().gte(key((from, Uuid::nil()))));
    }
    if let Some(to) = filter.to {
        all = all.add(place().lt(key((to, Uuid::nil()))));
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
        let found = Func::cust(position).arg(Expr::col(event::Column::NotesSearch)).arg(folded::fold(search));
        all = all.add(Expr::expr(found).gt(0));
    }
    Ok(living(user_id).filter(all))
}

/// The smallest UUIDv7 of these milliseconds.
fn compose_floor(ms: i64) -> Uuid {
    compose(ms, [0; 10])
}

/// Ids of the events that an import made and that nobody has changed since, in the order of ids, behind
/// `after`.
///
/// # Errors
/// When the database fails.
pub async fn untouched_of_import(
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
