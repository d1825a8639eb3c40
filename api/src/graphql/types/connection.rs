//! Connections as the Relay specification defines them: the pages of all lists, and their cursors.

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
use crate::graphql::json_writer::{JsonList, SelectedField, WriteField, WriteJson, infallible_field_writer};

/// A type whose lists are Relay connections. It must have GraphQL types for its connection and its edges.
pub trait Listed: WriteJson + Clone {
    /// The GraphQL name of the type, from which the names of its connection and edge types are made.
    const NAME: &'static str;
    /// The sort key of the list, from which its cursors are made.
    type Key: Serialize;
    /// The sort key of this entry, from which its cursor is made.
    fn sort_key(&self) -> Self::Key;
}

/// Reads how many entries the whole list has, not only the page. It is called once for each selected
/// `totalCount`.
type Total = Box<dyn Fn() -> BoxFuture<'static, Result<u64, Error>> + Send + Sync>;

/// One page of a list.
pub struct Connection<T> {
    nodes: JsonList<T>,
    has_next: bool,
    has_previous: bool,
    total: Total,
}

/// One entry of a list with its cursor.
#[derive(Clone)]
pub struct Edge<T>(T);

/// Where a page is within its list.
#[derive(Debug, Clone, SimpleObject)]
pub struct PageInfo {
    /// Whether entries follow after this page. With `last` it says only whether `before` was given.
    has_next_page: bool,
    /// Whether entries precede this page. Without `last` it says only whether `after` was given.
    has_previous_page: bool,
    /// The cursor of the first entry, for `before`; null if the page is empty.
    start_cursor: Option<String>,
    /// The cursor of the last entry, for `after`; null if the page is empty.
    end_cursor: Option<String>,
}

impl<T> Connection<T> {
    /// Makes a connection of a page, with each row converted by `convert`. Rows without a result are left
    /// out. `total` counts the whole list when the client selects `totalCount`.
    pub(crate) fn new<Row>(
        page: Page<Row>,
        convert: impl Fn(Row) -> Option<T>,
        total: impl Fn() -> BoxFuture<'static, Result<u64, Error>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            nodes: JsonList(page.rows.into_iter().filter_map(convert).collect()),
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

/// One page of a list.
#[Object(name_type)]
impl<T: Listed> Connection<T> {
    /// The entries of the page with their cursors.
    async fn edges(&self) -> JsonList<Edge<T>> {
        JsonList(self.nodes.0.iter().cloned().map(Edge).collect())
    }

    /// The entries of the page without their cursors.
    async fn nodes(&self) -> &JsonList<T> {
        &self.nodes
    }

    /// Where the page is within the list, and how to go on from it.
    async fn page_info(&self) -> PageInfo {
        PageInfo {
            has_next_page: self.has_next,
            has_previous_page: self.has_previous,
            start_cursor: self.nodes.0.first().map(|row| encode_cursor(&row.sort_key())),
            end_cursor: self.nodes.0.last().map(|row| encode_cursor(&row.sort_key())),
        }
    }

    /// The number of entries on all pages together, with the filter applied. The server counts them only if
    /// this field is selected.
    async fn total_count(&self) -> Result<i32, ApiError> {
        Ok(i32::try_from((self.total)().await?).unwrap_or(i32::MAX))
    }
}

/// One entry of a list with its cursor.
#[Object(name_type)]
impl<T: Listed> Edge<T> {
    /// The cursor of the entry, for `after` and `before` of the same list.
    async fn cursor(&self) -> String {
        encode_cursor(&self.0.sort_key())
    }

    /// The entry itself.
    async fn node(&self) -> &T {
        &self.0
    }
}

impl<T: Listed> WriteJson for Edge<T> {
    fn field_writer(field: SelectedField<'_>) -> Option<WriteField<Self>> {
        match field.schema_field_name() {
            "cursor" => infallible_field_writer(|edge: &Self, text| {
                text.push_serialized(&encode_cursor(&edge.0.sort_key()))
            }),
            "node" => {
                let plan = field.compile_object_plan::<T>()?;
                Some(Box::new(move |edge, text| plan.write_row(&edge.0, text)))
            }
            _ => None,
        }
    }
}

fn encode_cursor(key: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

fn parse_cursor<Key: DeserializeOwned>(text: Option<String>) -> Result<Option<Key>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let key = || serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    key().map(Some).ok_or_else(|| {
        ApiError::BadUserInput(
            "this is not a cursor of this list: use one that the same list has returned".to_owned(),
        )
    })
}

/// Converts the arguments of a list into a window over it, with a default size if neither `first` nor `last`
/// is given. A size out of range is refused and never clamped.
///
/// # Errors
/// [`ApiError::BadUserInput`] if `first` and `last` are both given, if the size is below 1, or if a cursor is
/// not one of this list. [`ApiError::Limit`] if the size is above [`PAGE_FIRST_MAX`].
pub(crate) fn parse_window<Key: DeserializeOwned>(
    first: Option<i32>,
    after: Option<String>,
    last: Option<i32>,
    before: Option<String>,
) -> Result<Window<Key>, ApiError> {
    if first.is_some() && last.is_some() {
        return Err(ApiError::BadUserInput("give either first or last, not both".to_owned()));
    }
    let size = check_page_size(first.or(last).unwrap_or(PAGE_FIRST_DEFAULT), PAGE_FIRST_MAX)?;
    Ok(Window { after: parse_cursor(after)?, before: parse_cursor(before)?, size, from_end: last.is_some() })
}

/// Checks the size of a page, and returns it.
///
/// # Errors
/// [`ApiError::BadUserInput`] if the size is below 1, [`ApiError::Limit`] if it is above `max`.
pub(crate) fn check_page_size(size: i32, max: i32) -> Result<u64, ApiError> {
    if size < 1 {
        return Err(ApiError::BadUserInput("ask for at least 1 entry".to_owned()));
    }
    if size > max {
        let detail =
            format!("at most {max} entries are allowed at once: ask for the rest in further requests");
        return Err(ApiError::Limit { name: "first", max: u64::try_from(max).unwrap_or_default(), detail });
    }
    Ok(u64::try_from(size).unwrap_or_default())
}
