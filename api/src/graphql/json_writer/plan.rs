//! Compiles the selection of a client into the steps that write a row: its fields, their order and their
//! keys.

use std::collections::HashMap;

use async_graphql::parser::types::{Field, FragmentDefinition, Selection, SelectionSet};
use async_graphql::{ContextSelectionSet, Name, Positioned};

use super::{JsonText, WriteJson};

/// Appends the value of one field of a row to the text, without its key. Returns `false` if the row lacks the
/// value: then the text is useless, and async-graphql has to resolve the list.
pub type WriteField<T> = Box<dyn Fn(&T, &mut JsonText) -> bool + Send + Sync>;

/// Makes the writer of a field whose value no row lacks: it calls `write` and returns `true`. The result is
/// always `Some`.
pub(crate) fn infallible_field_writer<T>(
    write: impl Fn(&T, &mut JsonText) + Send + Sync + 'static,
) -> Option<WriteField<T>> {
    Some(Box::new(move |row, text| {
        write(row, text);
        true
    }))
}

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// A field in the selection of the client.
#[derive(Debug, Clone, Copy)]
pub struct SelectedField<'q> {
    field: &'q Field,
    fragments: &'q Fragments,
}

impl<'q> SelectedField<'q> {
    /// The name of the field in the schema, not its alias.
    pub(crate) fn schema_field_name(self) -> &'q str {
        self.field.name.node.as_str()
    }

    /// Compiles the plan of the object that is the value of this field. `None` if async-graphql has to
    /// resolve one of the fields that are selected of the object.
    pub(crate) fn compile_object_plan<T: WriteJson>(self) -> Option<JsonPlan<T>> {
        JsonPlan::compile_selection(&self.field.selection_set.node, self.fragments)
    }
}

/// How to write a row as JSON: for each selected field the JSON text before its value (separator and key),
/// and the writer of the value.
pub(crate) struct JsonPlan<T>(Vec<(String, WriteField<T>)>);

impl<T: WriteJson> JsonPlan<T> {
    /// Compiles the plan for the rows of the list that is being resolved.
    ///
    /// Returns `None` if async-graphql has to resolve a field, or if the operation selects any object more
    /// than once, because only async-graphql merges such selections.
    pub(crate) fn compile_list_plan(context: &ContextSelectionSet<'_>) -> Option<Self> {
        let (operation, fragments) = (&context.query_env.operation, &context.query_env.fragments);
        if !selects_each_object_once(&operation.node.selection_set.node, fragments) {
            return None;
        }
        Self::compile_selection(&context.item.node, fragments)
    }

    fn compile_selection(set: &SelectionSet, fragments: &Fragments) -> Option<Self> {
        let mut fields = Vec::new();
        let applies = |name: &str| T::INTERFACE == Some(name) || T::type_name() == name;
        expand_fragments(set, fragments, &applies, &mut fields)?;
        let mut steps: Vec<(String, WriteField<T>)> = Vec::with_capacity(fields.len());
        let mut keys: Vec<&str> = Vec::with_capacity(fields.len());
        for field in fields {
            let key = field.response_key().node.as_str();
            // The document is valid, so fields with the same response key are the same field
            // (GraphQL specification, "Field Selection Merging").
            if keys.contains(&key) {
                continue;
            }
            keys.push(key);
            let separator = if steps.is_empty() { '{' } else { ',' };
            let step = match field.name.node.as_str() {
                "__typename" => infallible_field_writer(|_, text| text.push_serialized(&*T::type_name())),
                _ => T::field_writer(SelectedField { field, fragments }),
            };
            steps.push((format!("{separator}\"{key}\":"), step?));
        }
        if steps.is_empty() { None } else { Some(Self(steps)) }
    }

    /// Writes all rows as a JSON array. Returns `None` if a row lacks the value of a selected field.
    pub(crate) fn write_list(&self, rows: &[T]) -> Option<JsonText> {
        const BYTES_PER_FIELD: usize = 32;
        let mut text = JsonText::with_capacity(2 + rows.len() * self.0.len() * BYTES_PER_FIELD);
        let mut separator = "[";
        for row in rows {
            text.push_raw_json(separator);
            if !self.write_row(row, &mut text) {
                return None;
            }
            separator = ",";
        }
        text.push_raw_json(if rows.is_empty() { "[]" } else { "]" });
        Some(text)
    }

    /// Appends one row to the text as a JSON object. Returns `false` if the row lacks the value of a selected
    /// field. The text is then incomplete and must not be used.
    pub(crate) fn write_row(&self, row: &T, text: &mut JsonText) -> bool {
        let is_complete = self.0.iter().all(|(key, write_field)| {
            text.push_raw_json(key);
            write_field(row, text)
        });
        text.push_raw_json("}");
        is_complete
    }

    /// Appends a row as [`JsonPlan::write_row`] does, or the JSON `null` if there is none, which counts as
    /// complete.
    pub(crate) fn write_row_or_null(&self, row: Option<&T>, text: &mut JsonText) -> bool {
        match row {
            Some(row) => self.write_row(row, text),
            None => {
                text.push_raw_json("null");
                true
            }
        }
    }
}

/// Appends the fields of a selection set and of its fragments to `fields`. Fields with the same response key
/// are not merged. Returns `None` if a fragment is unknown or its type does not apply.
fn expand_fragments<'q>(
    set: &'q SelectionSet,
    fragments: &'q Fragments,
    applies: &impl Fn(&str) -> bool,
    fields: &mut Vec<&'q Field>,
) -> Option<()> {
    for selection in &set.items {
        let (inner, condition) = match &selection.node {
            Selection::Field(field) => {
                fields.push(&field.node);
                continue;
            }
            Selection::FragmentSpread(spread) => {
                let fragment = &fragments.get(&spread.node.fragment_name.node)?.node;
                (&fragment.selection_set, Some(&fragment.type_condition))
            }
            Selection::InlineFragment(inline) => {
                (&inline.node.selection_set, inline.node.type_condition.as_ref())
            }
        };
        if condition.is_some_and(|condition| !applies(condition.node.on.node.as_str())) {
            return None;
        }
        expand_fragments(&inner.node, fragments, applies, fields)?;
    }
    Some(())
}

/// Whether a selection set selects each object only once, at any depth, so that no two selections have to be
/// merged. `false` also if a fragment is unknown.
///
/// The recursion is as deep as the document, whose depth the query limits have bounded.
fn selects_each_object_once(set: &SelectionSet, fragments: &Fragments) -> bool {
    let mut fields = Vec::new();
    if expand_fragments(set, fragments, &|_| true, &mut fields).is_none() {
        return false;
    }
    fields.retain(|field| !field.selection_set.node.items.is_empty());
    let mut keys: Vec<&str> = fields.iter().map(|field| field.response_key().node.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).all(|pair| pair[0] != pair[1])
        && fields.iter().all(|field| selects_each_object_once(&field.selection_set.node, fragments))
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
    use async_graphql::parser::{parse_query, parse_schema};

    use super::*;
    use crate::graphql::sdl;
    use crate::graphql::types::connection::Edge;
    use crate::graphql::types::event::{Event, EventType, Location};
    use crate::graphql::types::result::EventResult;
    use crate::graphql::types::sync::Change;

    /// The fields of a type in the schema for which there is no writer.
    fn fields_without_writer<T: WriteJson>() -> Vec<String> {
        let schema = parse_schema(sdl()).expect("the SDL parses");
        let type_kind = schema.definitions.into_iter().find_map(|definition| match definition {
            TypeSystemDefinition::Type(ty) if ty.node.name.node == *T::type_name() => Some(ty.node.kind),
            _ => None,
        });
        let Some(TypeKind::Object(object)) = type_kind else {
            panic!("{} is not an object type", T::type_name())
        };
        let names = object.fields.into_iter().map(|field| field.node.name.node.to_string());
        let has_writer = |name: &str| {
            ["{ rows { FIELD } }", "{ rows { FIELD { __typename } } }"].iter().any(|query| {
                let query = parse_query(query.replace("FIELD", name)).expect("the query parses");
                let (_, operation) = query.operations.iter().next().expect("the query has an operation");
                let Selection::Field(rows) = &operation.node.selection_set.node.items[0].node else {
                    panic!("the first selection is not a field")
                };
                JsonPlan::<T>::compile_selection(&rows.node.selection_set.node, &query.fragments).is_some()
            })
        };
        names.filter(|name| !has_writer(name)).collect()
    }

    #[test]
    fn every_field_in_the_schema_has_a_writer() {
        assert_eq!(fields_without_writer::<Event>(), [""; 0]);
        assert_eq!(fields_without_writer::<EventType>(), [""; 0]);
        assert_eq!(fields_without_writer::<Location>(), [""; 0]);
        assert_eq!(fields_without_writer::<Change>(), [""; 0]);
        assert_eq!(fields_without_writer::<Edge<Event>>(), [""; 0]);
        assert_eq!(fields_without_writer::<EventResult>(), [""; 0]);
    }

    #[test]
    fn an_object_that_is_selected_twice_is_detected() {
        let is_selected_once = |text: &str| {
            let query = parse_query(text).expect("the query parses");
            let (_, operation) = query.operations.iter().next().expect("the query has an operation");
            selects_each_object_once(&operation.node.selection_set.node, &query.fragments)
        };
        assert!(is_selected_once("{ a { b c } d: a { b } e e }"));
        assert!(!is_selected_once("{ a { b } a { c } }"));
        assert!(!is_selected_once("{ x { a { b } ... on X { a { c } } } }"));
        assert!(!is_selected_once("{ a { b } ...F } fragment F on Q { ...G } fragment G on Q { a { c } }"));
    }
}
