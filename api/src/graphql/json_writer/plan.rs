//! What of a row is written, in which order and under which names.

use std::collections::HashMap;

use async_graphql::parser::types::{Field, FragmentDefinition, Selection, SelectionSet};
use async_graphql::{ContextSelectionSet, Name, Positioned};

use super::{JsonText, WriteJson};

/// Writes a field of a row; false when the row does not know it and it has to be resolved.
pub type WriteField<T> = Box<dyn Fn(&T, &mut JsonText) -> bool + Send + Sync>;

/// A step of a field that each row knows.
pub(crate) fn known<T>(write: impl Fn(&T, &mut JsonText) + Send + Sync + 'static) -> Option<WriteField<T>> {
    Some(Box::new(move |row, text| {
        write(row, text);
        true
    }))
}

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// A field that a client selects.
#[derive(Debug, Clone, Copy)]
pub struct SelectedField<'q> {
    field: &'q Field,
    fragments: &'q Fragments,
}

impl<'q> SelectedField<'q> {
    pub(crate) fn name(self) -> &'q str {
        self.field.name.node.as_str()
    }

    /// How the object is written that stands there.
    pub(crate) fn plan<T: WriteJson>(self) -> Option<JsonPlan<T>> {
        JsonPlan::read(&self.field.selection_set.node, self.fragments)
    }
}

/// The fields of a row, with what goes before each.
pub(crate) struct JsonPlan<T>(Vec<(String, WriteField<T>)>);

impl<T: WriteJson> JsonPlan<T> {
    /// Of the rows of a list. None: there is a field that has to be resolved, or one of several selections of
    /// the same object, which the library merges.
    pub(crate) fn of(context: &ContextSelectionSet<'_>) -> Option<Self> {
        let (operation, fragments) = (&context.query_env.operation, &context.query_env.fragments);
        if !is_selected_once(&operation.node.selection_set.node, fragments) {
            return None;
        }
        Self::read(&context.item.node, fragments)
    }

    fn read(set: &SelectionSet, fragments: &Fragments) -> Option<Self> {
        let mut fields = Vec::new();
        let of_type = |name: &str| T::INTERFACE == Some(name) || T::type_name() == name;
        flatten(set, fragments, &of_type, &mut fields)?;
        let mut steps: Vec<(String, WriteField<T>)> = Vec::with_capacity(fields.len());
        let mut keys: Vec<&str> = Vec::with_capacity(fields.len());
        for field in fields {
            let key = field.response_key().node.as_str();
            // Of the same name is the same field: the document is valid.
            if keys.contains(&key) {
                continue;
            }
            keys.push(key);
            let before = if steps.is_empty() { '{' } else { ',' };
            let step = match field.name.node.as_str() {
                "__typename" => known(|_, text| text.json(&*T::type_name())),
                _ => T::field_writer(SelectedField { field, fragments }),
            };
            steps.push((format!("{before}\"{key}\":"), step?));
        }
        if steps.is_empty() { None } else { Some(Self(steps)) }
    }

    /// All rows. None: one does not know a field.
    pub(crate) fn list(&self, rows: &[T]) -> Option<JsonText> {
        const BYTES_OF_FIELD: usize = 32;
        let mut text = JsonText::with_capacity(2 + rows.len() * self.0.len() * BYTES_OF_FIELD);
        let mut before = "[";
        for row in rows {
            text.raw(before);
            if !self.write(row, &mut text) {
                return None;
            }
            before = ",";
        }
        text.raw(if rows.is_empty() { "[]" } else { "]" });
        Some(text)
    }

    /// One row; false when it does not know a field.
    pub(crate) fn write(&self, row: &T, text: &mut JsonText) -> bool {
        let is_whole = self.0.iter().all(|(before, step)| {
            text.raw(before);
            step(row, text)
        });
        text.raw("}");
        is_whole
    }

    /// One row that may be missing.
    pub(crate) fn write_option(&self, row: Option<&T>, text: &mut JsonText) -> bool {
        match row {
            Some(row) => self.write(row, text),
            None => {
                text.raw("null");
                true
            }
        }
    }
}

/// The fields of a set with its fragments spread. None: a fragment is of another type.
fn flatten<'q>(
    set: &'q SelectionSet,
    fragments: &'q Fragments,
    of_type: &impl Fn(&str) -> bool,
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
        if condition.is_some_and(|condition| !of_type(condition.node.on.node.as_str())) {
            return None;
        }
        flatten(&inner.node, fragments, of_type, fields)?;
    }
    Some(())
}

/// Whether each object of an operation has one selection, which no other is merged with. As deep as the
/// document, which the gate has bounded.
fn is_selected_once(set: &SelectionSet, fragments: &Fragments) -> bool {
    let mut fields = Vec::new();
    if flatten(set, fragments, &|_| true, &mut fields).is_none() {
        return false;
    }
    fields.retain(|field| !field.selection_set.node.items.is_empty());
    let mut keys: Vec<&str> = fields.iter().map(|field| field.response_key().node.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).all(|pair| pair[0] != pair[1])
        && fields.iter().all(|field| is_selected_once(&field.selection_set.node, fragments))
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

    /// The fields of a type that no step writes, by the schema.
    fn unwritten<T: WriteJson>() -> Vec<String> {
        let schema = parse_schema(sdl()).expect("the schema is one");
        let of_type = schema.definitions.into_iter().find_map(|definition| match definition {
            TypeSystemDefinition::Type(ty) if ty.node.name.node == *T::type_name() => Some(ty.node.kind),
            _ => None,
        });
        let Some(TypeKind::Object(object)) = of_type else { panic!("{} is an object", T::type_name()) };
        let names = object.fields.into_iter().map(|field| field.node.name.node.to_string());
        let is_written = |name: &str| {
            ["{ rows { FIELD } }", "{ rows { FIELD { __typename } } }"].iter().any(|query| {
                let query = parse_query(query.replace("FIELD", name)).expect("a query");
                let (_, operation) = query.operations.iter().next().expect("one operation");
                let Selection::Field(rows) = &operation.node.selection_set.node.items[0].node else {
                    panic!("a field")
                };
                JsonPlan::<T>::read(&rows.node.selection_set.node, &query.fragments).is_some()
            })
        };
        names.filter(|name| !is_written(name)).collect()
    }

    #[test]
    fn all_that_the_schema_has_is_written() {
        assert_eq!(unwritten::<Event>(), [""; 0]);
        assert_eq!(unwritten::<EventType>(), [""; 0]);
        assert_eq!(unwritten::<Location>(), [""; 0]);
        assert_eq!(unwritten::<Change>(), [""; 0]);
        assert_eq!(unwritten::<Edge<Event>>(), [""; 0]);
        assert_eq!(unwritten::<EventResult>(), [""; 0]);
    }

    #[test]
    fn what_the_library_would_merge_is_left_to_it() {
        let is_selected_once = |text: &str| {
            let query = parse_query(text).expect("a query");
            let (_, operation) = query.operations.iter().next().expect("one operation");
            is_selected_once(&operation.node.selection_set.node, &query.fragments)
        };
        assert!(is_selected_once("{ a { b c } d: a { b } e e }"));
        assert!(!is_selected_once("{ a { b } a { c } }"));
        assert!(!is_selected_once("{ x { a { b } ... on X { a { c } } } }"));
        assert!(!is_selected_once("{ a { b } ...F } fragment F on Q { ...G } fragment G on Q { a { c } }"));
    }
}
