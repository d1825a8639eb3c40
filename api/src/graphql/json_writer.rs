//! Writes lists of rows directly as JSON text, without an intermediate value for each field.
//!
//! A page of 500 changes has some ten thousand fields. To make a value of each field, put it into a map and
//! write the map costs ten times as much as the row itself.
//!
//! The selection of the client is compiled into a `JsonPlan` once per list, and the plan writes each row. If
//! a plan cannot write the list, async-graphql resolves it like any other list. The result is the same.

mod plan;
pub(crate) mod response;
mod text;

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::resolve_list;
use async_graphql::{ContextSelectionSet, OutputType, Positioned, ServerResult, Value};

pub(crate) use plan::{JsonPlan, infallible_field_writer};
pub use plan::{SelectedField, WriteField};
pub use text::JsonText;

/// A row type whose lists a `JsonPlan` can write directly as JSON text, if it has writers for the selected
/// fields.
pub trait WriteJson: OutputType + 'static {
    /// The GraphQL interface that the type implements, if any. Fragments on it apply to the type, like those
    /// on the type itself.
    const INTERFACE: Option<&'static str> = None;

    /// Returns the writer of the value of a selected field. `None`, the default for all fields, lets
    /// async-graphql resolve the whole list.
    fn field_writer(_field: SelectedField<'_>) -> Option<WriteField<Self>> {
        None
    }
}

/// A list in a response. It is written directly as JSON text if a `JsonPlan` can do so; otherwise
/// async-graphql resolves it like any other list.
#[derive(Debug, Clone)]
pub struct JsonList<T>(pub(crate) Vec<T>);

impl<T: WriteJson> OutputType for JsonList<T> {
    fn type_name() -> Cow<'static, str> {
        Vec::<T>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<T>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<T>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let json = JsonPlan::compile_list_plan(ctx).and_then(|plan: JsonPlan<T>| plan.write_list(&self.0));
        match json {
            Some(json) => Ok(Value::Binary(json.into_bytes().into())),
            None => resolve_list(ctx, field, &self.0, Some(self.0.len())).await,
        }
    }
}
