//! Reads event types: by id, and as pages of a list.

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
use super::model::{self, ColumnSet, read_type_row};
use super::page::{Page, Window, limited_statement};
use super::row_reader::Row;
use crate::error::Error;
use domain::row::TypeRow;

/// The key of a type in the list: its name and its id. Names are compared by their bytes.
pub type Key = (String, Uuid);

/// Returns the living event types with these ids or aliases, in pairs of id and type. A type is returned once
/// with its own id, even if only an alias was asked for, and once with each alias that was asked for.
///
/// Plan: one lookup in `id_alias_by_id (user_id, alias_id)` for each id, and one in the primary key of
/// `event_type`.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn find_by_ids_or_aliases(
    store: &Store,
    user_id: Uuid,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, Arc<TypeRow>)>, Error> {
    let aliases = id_alias::Entity::find()
        .filter(id_alias::Column::UserId.eq(user_id))
        .filter(id_alias::Column::Entity.eq(2))
        .filter(id_alias::Column::AliasId.is_in(ids.iter().copied()))
        .all(&store.reader)
        .await?;
    let canonical = ids.iter().copied().chain(aliases.iter().map(|alias| alias.id));
    let rows =
        query_rows(store, select_living(user_id).filter(event_type::Column::Id.is_in(canonical))).await?;
    let mut types = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.meta.id;
        for alias in aliases.iter().filter(|alias| alias.id == id) {
            types.push((alias.alias_id, Arc::clone(&row)));
        }
        types.push((id, row));
    }
    Ok(types)
}

/// Returns the living event types with these ids, by id. It does not look aliases up, so `ids` must be ids
/// that stored rows hold.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn find_by_row_ids(
    store: &Store,
    user_id: Uuid,
    ids: HashSet<Uuid>,
) -> Result<HashMap<Uuid, Arc<TypeRow>>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = query_rows(store, select_living(user_id).filter(event_type::Column::Id.is_in(ids))).await?;
    Ok(rows.into_iter().map(|row| (row.meta.id, row)).collect())
}

/// Returns a page of the living event types of a user, in the order of their names.
///
/// ```sql
/// SELECT * FROM (SELECT "id", "version", … FROM event_type WHERE user_id = $1 AND name IS NOT NULL
///   AND (name, id) > ($2, $3) ORDER BY name, id LIMIT 64) page LIMIT (SELECT $4)
/// ```
///
/// Plan: it walks the unique index `event_type_name (user_id, name)`. A user has few types.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn load_page(
    store: &Store,
    user_id: Uuid,
    window: &Window<Key>,
) -> Result<Page<Arc<TypeRow>>, Error> {
    let mut query = select_living(user_id);
    if let Some(after) = &window.after {
        query = query.filter(key_columns_expr().gt(key_expr(after)));
    }
    if let Some(before) = &window.before {
        query = query.filter(key_columns_expr().lt(key_expr(before)));
    }
    let order = if window.from_end { Order::Desc } else { Order::Asc };
    let query =
        query.order_by(event_type::Column::Name, order.clone()).order_by(event_type::Column::Id, order);
    let rows = store
        .reader
        .query_all_raw(limited_statement(select_response_columns(query), window.query_limit(), store))
        .await?;
    Ok(window.page_of_rows(rows.iter().map(read_row).collect::<Result<_, _>>()?))
}

/// Counts the living types of a user.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn count_living(store: &Store, user_id: Uuid) -> Result<u64, Error> {
    Ok(select_living(user_id).count(&store.reader).await?)
}

/// Makes a query return only the columns of an event type that a response can show.
pub(super) fn select_response_columns(query: Select<event_type::Entity>) -> Select<event_type::Entity> {
    static COLUMNS: LazyLock<String> =
        LazyLock::new(|| model::sql_column_list(&model::TYPE[..model::TYPE_RESPONSE]));
    query.select_only().expr(Expr::cust(COLUMNS.as_str()))
}

async fn query_rows(store: &Store, query: Select<event_type::Entity>) -> Result<Vec<Arc<TypeRow>>, Error> {
    store.reader.query_all(select_response_columns(query).as_query()).await?.iter().map(read_row).collect()
}

fn read_row(row: &QueryResult) -> Result<Arc<TypeRow>, Error> {
    Ok(Arc::new(read_type_row(Row::from_query_result(row)?, 0, ColumnSet::Response)?))
}

/// Builds a query for the living types of a user. A tombstone has no name.
fn select_living(user_id: Uuid) -> Select<event_type::Entity> {
    event_type::Entity::find()
        .filter(event_type::Column::UserId.eq(user_id))
        .filter(event_type::Column::Name.is_not_null())
}

/// The SQL expression for the columns of a [`Key`] as one row value.
fn key_columns_expr() -> SimpleExpr {
    Expr::tuple([Expr::col(event_type::Column::Name), Expr::col(event_type::Column::Id)])
}

fn key_expr((name, id): &Key) -> SimpleExpr {
    Expr::tuple([Expr::value(name.as_str()), Expr::value(*id)])
}
