//! Relay connections: one shape for every list.

use std::borrow::Cow;

use async_graphql::{Object, SimpleObject, TypeName};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::limits::{PAGE_FIRST_DEFAULT, PAGE_FIRST_MAX};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service::Error;
use service::queries::page::{Page, Window};

use crate::error::ApiError;
use crate::graphql::json_writer::{JsonList, SelectedField, WriteField, WriteJson, known};

/// What a list is made of.
pub trait Listed: WriteJson + Clone {
    /// Name of the type.
    const NAME: &'static str;
    /// Its place in the list.
    type Key: Serialize;
    /// Its place in the list.
    fn key(&self) -> Self::Key;
}

/// Counts the whole list, when asked.
type Total = Box<dyn Fn() -> BoxFuture<'static, Result<u64, Error>> + Send + Sync>;

/// A part of a list.
pub struct Connection<T> {
    nodes: JsonList<T>,
    has_next: bool,
    has_previous: bool,
    total: Total,
}

/// One of a list, and its place.
#[derive(Clone)]
pub struct Edge<T>(T);

/// Where a page stands in its list.
#[derive(Debug, Clone, SimpleObject)]
pub struct PageInfo {
    /// More follow.
    has_next_page: bool,
    /// More go before.
    has_previous_page: bool,
    /// Place of the first.
    start_cursor: Option<String>,
    /// Place of the last.
    end_cursor: Option<String>,
}

impl<T> Connection<T> {
    /// A page of rows, each made into what is shown.
    pub(crate) fn new<Row>(
        page: Page<Row>,
        show: impl Fn(Row) -> Option<T>,
        total: impl Fn() -> BoxFuture<'static, Result<u64, Error>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            nodes: JsonList(page.rows.into_iter().filter_map(show).collect()),
            has_next: page.has_next,
            has_previous: page.has_previous,
            total: Box::new(total),
        }
    }
}

impl<T: Listed> TypeName for Connection<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", T::NAME).into()
    }
}

impl<T: Listed> TypeName for Edge<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", T::NAME).into()
    }
}

/// A part of a list.
#[Object(name_type)]
impl<T: Listed> Connection<T> {
    /// Each with its place.
    async fn edges(&self) -> JsonList<Edge<T>> {
        JsonList(self.nodes.0.iter().cloned().map(Edge).collect())
    }

    /// The same without their places.
    async fn nodes(&self) -> &JsonList<T> {
        &self.nodes
    }

    /// Where the page stands.
    async fn page_info(&self) -> PageInfo {
        PageInfo {
            has_next_page: self.has_next,
            has_previous_page: self.has_previous,
            start_cursor: self.nodes.0.first().map(|row| cursor(&row.key())),
            end_cursor: self.nodes.0.last().map(|row| cursor(&row.key())),
        }
    }

    /// Counted only when asked for.
    async fn total_count(&self) -> Result<i32, ApiError> {
        Ok(i32::try_from((self.total)().await?).unwrap_or(i32::MAX))
    }
}

/// One of a list, and its place.
#[Object(name_type)]
impl<T: Listed> Edge<T> {
    /// Its place, for `after` and `before`.
    async fn cursor(&self) -> String {
        cursor(&self.0.key())
    }

    /// What stands there.
    async fn node(&self) -> &T {
        &self.0
    }
}

impl<T: Listed> WriteJson for Edge<T> {
    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.name() {
            "cursor" => known(|edge: &Self, text| text.json(&cursor(&edge.0.key()))),
            "node" => {
                let plan = field.plan::<T>()?;
                Some(Box::new(move |edge, text| plan.write(&edge.0, text)))
            }
            _ => None,
        }
    }
}

fn cursor(key: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

fn place<Key: DeserializeOwned>(text: Option<String>) -> Result<Option<Key>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let read = || serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    read().map(Some).ok_or_else(|| ApiError::BadUserInput("not a cursor of this list".to_owned()))
}

/// The arguments of a list as a window over it.
///
/// # Errors
/// `first` and `last` together or out of range, and cursors that are none of ours: never a clamp.
pub(crate) fn window<Key: DeserializeOwned>(
    first: Option<i32>,
    after: Option<String>,
    last: Option<i32>,
    before: Option<String>,
) -> Result<Window<Key>, ApiError> {
    if first.is_some() && last.is_some() {
        return Err(ApiError::BadUserInput("give first or last, not both".to_owned()));
    }
    let size = page_size(first.or(last).unwrap_or(PAGE_FIRST_DEFAULT), PAGE_FIRST_MAX)?;
    Ok(Window { after: place(after)?, before: place(before)?, size, from_end: last.is_some() })
}

/// The size of a page within its bounds.
///
/// # Errors
/// Below 1 it is bad input, above `max` over the limit.
pub(crate) fn page_size(size: i32, max: i32) -> Result<u64, ApiError> {
    if size < 1 {
        return Err(ApiError::BadUserInput("a page has at least 1 entry".to_owned()));
    }
    if size > max {
        let detail = format!("at most {max} at once: page on by cursor");
        return Err(ApiError::Limit { name: "first", max: u64::try_from(max).unwrap_or_default(), detail });
    }
    Ok(u64::try_from(size).unwrap_or_default())
}
