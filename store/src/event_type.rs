//! Reading event types.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use ::entity::{event_type, id_alias};
use sea_orm::sea_query::{Expr, ExprTrait, SimpleExpr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, Order, PaginatorTrait, QueryFilter, QueryOrder, QueryResult,
    QuerySelect, QueryTrait, Select,
};
use uuid::Uuid;

use super::Store;
use super::model::{self, ColumnSet, type_row};
use super::page::{Page, Window, first};
use super::row_reader::Row;
use crate::error::Error;
use domain::row::TypeRow;

/// The place of a type in the list: by the bytes of its name, then id.
pub type Key = (String, Uuid);

/// The living types with these ids or aliases, each under the id that was asked for.
///
/// # Errors
/// When the database fails.
pub async fn find(store: &Store, user_id: Uuid, ids: &[Uuid]) -> Result<Vec<(Uuid, Arc<TypeRow>)>, Error> {
    let aliases = id_alias::Entity::find()
        .filter(id_alias::Column::UserId.eq(user_id))
        .filter(id_alias::Column::Entity.eq(2))
        .filter(id_alias::Column::AliasId.is_in(ids.iter().copied()))
        .all(&store.reader)
        .await?;
    let canonical = ids.iter().copied().chain(aliases.iter().map(|alias| alias.id));
    let rows = rows(store, living(user_id).filter(event_type::Column::Id.is_in(canonical))).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.meta.id;
        for alias in aliases.iter().filter(|alias| alias.id == id) {
            found.push((alias.alias_id, Arc::clone(&row)));
        }
        found.push((id, row));
    }
    Ok(found)
}

/// The living types with these ids, none of them an alias, by id.
///
/// # Errors
/// When the database fails.
pub async fn known(
    store: &Store,
    user_id: Uuid,
    ids: HashSet<Uuid>,
) -> Result<HashMap<Uuid, Arc<TypeRow>>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = rows(store, living(user_id).filter(event_type::Column::Id.is_in(ids))).await?;
    Ok(rows.into_iter().map(|row| (row.meta.id, row)).collect())
}

/// A page of the living types.
///
/// # Errors
/// When the database fails.
pub async fn page(store: &Store, user_id: Uuid, window: &Window<Key>) -> Result<Page<Arc<TypeRow>>, Error> {
    let mut query = living(user_id);
    if let Some(after) = &window.after {
        query = query.filter(place().gt(key(after)));
    }
    if let Some(before) = &window.before {
        query = query.filter(place().lt(key(before)));
    }
    let order = if window.from_end { Order::Desc } else { Order::Asc };
    let query =
        query.order_by(event_type::Column::Name, order.clone()).order_by(event_type::Column::Id, order);
    let rows = store.reader.query_all_raw(first(columns(query), window.limit(), store)).await?;
    Ok(window.page(rows.iter().map(read).collect::<Result<_, _>>()?))
}

/// How many living types there are.
///
/// # Errors
/// When the database fails.
pub async fn count(store: &Store, user_id: Uuid) -> Result<u64, Error> {
    Ok(living(user_id).count(&store.reader).await?)
}

/// With what is told of a type.
pub(super) fn columns(query: Select<event_type::Entity>) -> Select<event_type::Entity> {
    static COLUMNS: LazyLock<String> = LazyLock::new(|| model::list(&model::TYPE[..model::TYPE_RESPONSE]));
    query.select_only().expr(Expr::cust(COLUMNS.as_str()))
}

async fn rows(store: &Store, query: Select<event_type::Entity>) -> Result<Vec<Arc<TypeRow>>, Error> {
    store.reader.query_all(columns(query).as_query()).await?.iter().map(read).collect()
}

fn read(row: &QueryResult) -> Result<Arc<TypeRow>, Error> {
    Ok(Arc::new(type_row(Row::of(row)?, 0, ColumnSet::Response)?))
}

fn living(user_id: Uuid) -> Select<event_type::Entity> {
    event_type::Entity::find()
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(event_type::Column::Name.is_not_null())
}

fn place() -> SimpleExpr {
    Expr::tuple([Expr::col(event_type::Column::Name), Expr::col(event_type::Column::Id)])
}

fn key((name, id): &Key) -> SimpleExpr {
    Expr::tuple([Expr::value(name.as_str()), Expr::value(*id)])
}
