//! The cache of parsed GraphQL documents, which knows whether a request with one of them must be validated.
//!
//! Validation takes an eighth of the CPU time of a create, and copies all variables. Most of its rules look only
//! at the document. So a document is validated with its first request. A later request with the same document is
//! not validated again if its variables certainly have their declared types. Any other request is validated, so
//! that it gets the errors of the validation (decision 0076).

mod input_types;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_graphql::Variables;
use async_graphql::parser::types::{ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet};
use async_graphql_value::Value;
use domain::limits::DOCUMENT_CACHE_ENTRIES_MAX;
use lru::LruCache;

use crate::query_limits::{self, Refusal};
use input_types::InputTypes;

/// The documents of recent requests by their text. All of them are within the query limits.
#[derive(Debug)]
pub(crate) struct Documents {
    cache: Mutex<LruCache<String, Arc<CachedDocument>>>,
    input_types: InputTypes,
}

/// A parsed document.
#[derive(Debug)]
pub(crate) struct CachedDocument {
    pub(super) document: ExecutableDocument,
    /// Whether each variable stands only where an argument or a part of it is expected as a whole. In a literal,
    /// such as `{ id: $id }`, its value would have to be checked together with the literal.
    has_whole_variables: bool,
    /// Whether a request with this document has passed the validation.
    is_valid: AtomicBool,
}

impl Documents {
    /// An empty cache for documents over the schema with this SDL.
    pub(super) fn new(sdl: &str) -> Self {
        let entries = NonZeroUsize::new(DOCUMENT_CACHE_ENTRIES_MAX).expect("the constant is not zero");
        Self { cache: Mutex::new(LruCache::new(entries)), input_types: InputTypes::from_sdl(sdl) }
    }

    /// Returns the parsed document from the cache, or else parses it within the query limits and caches it.
    ///
    /// # Errors
    /// As [`query_limits::parse_document_within_limits`].
    pub(super) fn find_or_parse(&self, text: &str) -> Result<Arc<CachedDocument>, Refusal> {
        let cached = self.cache.lock().ok().and_then(|mut documents| documents.get(text).map(Arc::clone));
        if let Some(document) = cached {
            return Ok(document);
        }
        let document = query_limits::parse_document_within_limits(text)?;
        let has_whole_variables = has_only_whole_variables(&document);
        let document =
            Arc::new(CachedDocument { document, has_whole_variables, is_valid: AtomicBool::new(false) });
        if let Ok(mut documents) = self.cache.lock() {
            documents.put(text.to_owned(), Arc::clone(&document));
        }
        Ok(document)
    }

    /// Whether a request needs no validation: its document has passed it before, and the variables certainly
    /// have the types that `operation` declares.
    pub(super) fn is_certainly_valid(
        &self,
        document: &CachedDocument,
        operation: &OperationDefinition,
        variables: &Variables,
    ) -> bool {
        document.has_whole_variables
            && document.is_valid.load(Ordering::Relaxed)
            && operation.variable_definitions.iter().all(|definition| {
                let (name, expected) = (&definition.node.name.node, &definition.node.var_type.node);
                match variables.get(name) {
                    Some(value) => self.input_types.accepts(expected, value),
                    None => expected.nullable || definition.node.default_value.is_some(),
                }
            })
    }
}

impl CachedDocument {
    /// Records that a request with this document has passed the validation.
    pub(super) fn mark_as_valid(&self) {
        self.is_valid.store(true, Ordering::Relaxed);
    }
}

/// Whether no list or object literal of a document contains a variable.
fn has_only_whole_variables(document: &ExecutableDocument) -> bool {
    let operations = document.operations.iter().map(|(_, operation)| &operation.node.selection_set.node);
    let fragments = document.fragments.values().map(|fragment| &fragment.node.selection_set.node);
    let mut rest: Vec<&SelectionSet> = operations.chain(fragments).collect();
    while let Some(set) = rest.pop() {
        for selection in &set.items {
            let inner = match &selection.node {
                Selection::Field(field) if has_variable_in_literal(&field.node) => return false,
                Selection::Field(field) => &field.node.selection_set.node,
                Selection::InlineFragment(fragment) => &fragment.node.selection_set.node,
                Selection::FragmentSpread(_) => continue,
            };
            rest.push(inner);
        }
    }
    true
}

fn has_variable_in_literal(field: &Field) -> bool {
    field.arguments.iter().any(|(_, value)| match &value.node {
        Value::Variable(_) => false,
        literal => contains_variable(literal),
    })
}

fn contains_variable(value: &Value) -> bool {
    match value {
        Value::Variable(_) => true,
        Value::List(items) => items.iter().any(contains_variable),
        Value::Object(fields) => fields.values().any(contains_variable),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
