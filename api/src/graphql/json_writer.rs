//! Lists of rows that write themselves as text. A page of 500 changes has some ten thousand fields, and to
//! make a value of each, put it into a map and write the map costs ten times what the row itself does.
//!
//! What the client selects is made into a `JsonPlan` once; each row is then written by it. Where a plan cannot
//! say how, the list is resolved by the library as any other: the answer is the same.

pub(crate) mod answer;
mod plan;
mod text;

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::resolve_list;
use async_graphql::{ContextSelectionSet, OutputType, Positioned, ServerResult, Value};

pub(crate) use plan::{JsonPlan, known};
pub use plan::{SelectedField, WriteField};
pub use text::JsonText;

/// What can stand in a list of rows.
pub trait WriteJson: OutputType + 'static {
    /// The interface by which a fragment may call it, beside its own name.
    const INTERFACE: Option<&'static str> = None;

    /// How a field is written. None: it has to be resolved.
    fn field_writer(_field: SelectedField<'_>) -> Option<WriteField<Self>> {
        None
    }
}

/// A list whose rows write themselves.
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
        let written = JsonPlan::of(ctx).and_then(|plan: JsonPlan<T>| plan.list(&self.0));
        match written {
            Some(text) => Ok(Value::Binary(text.into_bytes().into())),
            None => resolve_list(ctx, field, &self.0, Some(self.0.len())).await,
        }
    }
}
