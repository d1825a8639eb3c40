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

use async_graphql::parser::types::{
    Directive, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, Variables};
use async_graphql_value::{ConstValue, Value};
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
    /// Whether every variable is the whole value of an argument. Inside a literal, such as `{ id: $id }`, the
    /// literal would have to be checked together with the value.
    has_only_whole_variables: bool,
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
        let has_only_whole_variables = has_only_whole_variables(&document);
        let document =
            Arc::new(CachedDocument { document, has_only_whole_variables, is_valid: AtomicBool::new(false) });
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
        document.has_only_whole_variables
            && document.is_valid.load(Ordering::Relaxed)
            && operation.variable_definitions.iter().all(|definition| {
                let (name, expected) = (&definition.node.name.node, &definition.node.var_type.node);
                let has_default = definition.node.default_value.is_some();
                match variables.get(name) {
                    // With a default, the variable may stand where null is not allowed.
                    Some(ConstValue::Null) => expected.nullable && !has_default,
                    Some(value) => self.input_types.accepts(expected, value),
                    None => expected.nullable || has_default,
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

/// Whether no list or object literal in the arguments of a field or directive contains a variable.
fn has_only_whole_variables(document: &ExecutableDocument) -> bool {
    let operations = document.operations.iter().map(|(_, operation)| &operation.node);
    let fragments = document.fragments.values().map(|fragment| &fragment.node);
    let mut sets: Vec<&SelectionSet> = Vec::new();
    for (directives, set) in operations
        .map(|operation| (&operation.directives, &operation.selection_set))
        .chain(fragments.map(|fragment| (&fragment.directives, &fragment.selection_set)))
    {
        if have_variable_in_literal(directives) {
            return false;
        }
        sets.push(&set.node);
    }
    while let Some(set) = sets.pop() {
        for selection in &set.items {
            let (directives, inner) = match &selection.node {
                Selection::Field(field) => {
                    if is_variable_in_literal(&field.node.arguments) {
                        return false;
                    }
                    (&field.node.directives, Some(&field.node.selection_set.node))
                }
                Selection::InlineFragment(fragment) => {
                    (&fragment.node.directives, Some(&fragment.node.selection_set.node))
                }
                Selection::FragmentSpread(spread) => (&spread.node.directives, None),
            };
            if have_variable_in_literal(directives) {
                return false;
            }
            sets.extend(inner);
        }
    }
    true
}

fn have_variable_in_literal(directives: &[Positioned<Directive>]) -> bool {
    directives.iter().any(|directive| is_variable_in_literal(&directive.node.arguments))
}

/// Whether a variable stands within a literal that is one of these arguments.
fn is_variable_in_literal(arguments: &[(Positioned<Name>, Positioned<Value>)]) -> bool {
    arguments.iter().any(|(_, value)| match &value.node {
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
