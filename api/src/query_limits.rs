//! Refuses hostile GraphQL documents before they are validated or executed.
//!
//! This module enforces the limits of a document as text and as a syntax tree. It knows neither the schema
//! nor the user. The order of the steps matters: the parser recurses on the caller's stack, so `scan` limits
//! the nesting of the bytes first. Then the text is parsed once, and `count` checks the parsed document.

mod count;
mod scan;

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::parser::{Error, parse_query};
use domain::text_repair::{Syntax, replace_flaws_by_markers};

/// Why a GraphQL document was refused before its validation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The document exceeds one of the query limits of `domain::limits`.
    #[error("{detail}")]
    Limit {
        /// The name of the limit in the documentation, such as `query depth`.
        name: &'static str,
        /// The largest value that is allowed.
        max: u64,
        /// The size of the document, the limit, and how to stay within it, for the developer of the client.
        detail: String,
    },
    /// The document is not valid GraphQL syntax, its fragments form a cycle, or a subscription has several
    /// root fields.
    #[error("{detail}")]
    Syntax {
        /// The error, with its position if it is known, and without any text of the document.
        detail: String,
    },
}

/// Checks a GraphQL document against all query limits and returns it parsed, so that it is parsed only once.
/// Lone surrogates and too large numbers in it are replaced by markers, which are refused later.
///
/// The time is linear in the length of the text, even if fragments spread other fragments many times.
///
/// # Errors
/// - [`Refusal::Limit`] with the first limit that is exceeded.
/// - [`Refusal::Syntax`] if the text is not an executable document, if its fragments spread each other in a
///   cycle, or if a subscription has several root fields.
pub fn parse_document_within_limits(text: &str) -> Result<ExecutableDocument, Refusal> {
    scan::check_document_text(text)?;
    let document = parse_query(text).or_else(|error| {
        // A literal may be one that the parser rejects although the grammar allows it, such as half of a
        // surrogate pair. Such a literal is replaced, so that only the item that contains it gets a problem.
        let mended = replace_flaws_by_markers(text, Syntax::GraphQl).map(parse_query);
        mended.and_then(Result::ok).ok_or_else(|| syntax_refusal(&error))
    })?;
    count::check_document_counts(&document)?;
    Ok(document)
}

/// Describes a parser error by its position. The message of the parser itself quotes the whole line, which
/// may be all 64 KiB of the text.
fn syntax_refusal(error: &Error) -> Refusal {
    let what = match error {
        Error::Syntax { .. } => "the document is not valid GraphQL syntax",
        Error::MultipleOperations { .. } => "an operation without a name must be the only operation",
        Error::OperationDuplicated { .. } => "two operations have the same name",
        Error::FragmentDuplicated { .. } => "two fragments have the same name",
        Error::MissingOperation => "the document has no operation",
        _ => "the document cannot be parsed",
    };
    let place = error.positions().next();
    let place = place.map(|pos| format!(" at line {}, column {}", pos.line, pos.column));
    Refusal::Syntax { detail: format!("{what}{}", place.unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The introspection query of graphql-js, which GraphiQL and the code generators send.
    fn introspection() -> String {
        let of_type = (0..9).fold(String::new(), |inner, _| format!(" ofType {{ kind name{inner} }}"));
        format!(
            "query IntrospectionQuery {{ __schema {{ description
               queryType {{ name kind }} mutationType {{ name kind }} subscriptionType {{ name kind }}
               types {{ ...FullType }}
               directives {{ name description isRepeatable locations
                 args(includeDeprecated: true) {{ ...InputValue }} }} }} }}
             fragment FullType on __Type {{ kind name description specifiedByURL isOneOf
               fields(includeDeprecated: true) {{ name description
                 args(includeDeprecated: true) {{ ...InputValue }}
                 type {{ ...TypeRef }} isDeprecated deprecationReason }}
               inputFields(includeDeprecated: true) {{ ...InputValue }}
               interfaces {{ ...TypeRef }}
               enumValues(includeDeprecated: true) {{ name description isDeprecated deprecationReason }}
               possibleTypes {{ ...TypeRef }} }}
             fragment InputValue on __InputValue {{ name description type {{ ...TypeRef }}
               defaultValue isDeprecated deprecationReason }}
             fragment TypeRef on __Type {{ kind name{of_type} }}"
        )
    }

    fn limit(text: &str) -> Option<&'static str> {
        match parse_document_within_limits(text) {
            Err(Refusal::Limit { name, .. }) => Some(name),
            _ => None,
        }
    }

    #[test]
    fn the_standard_introspection_query_is_admitted() {
        assert_eq!(
            parse_document_within_limits(&introspection()).map(|document| document.fragments.len()),
            Ok(3)
        );
    }

    #[test]
    fn an_ordinary_query_is_admitted() {
        let text = "query Page($after: String) {
          events(first: 50, after: $after) { nodes { ...Line } pageInfo { endCursor } } viewer { id } }
          fragment Line on Event { id startedAt type { id name } note: notes @include(if: true) }";
        assert!(parse_document_within_limits(text).is_ok());
    }

    #[test]
    fn hostile_documents_are_refused_by_the_limit_that_is_meant_for_them() {
        let twice = |n: usize| format!("fragment F{n} on Q {{ ...F{} ...F{} }} ", n + 1, n + 1);
        let bomb = "{ ...F0 } ".to_owned() + &(0..30).map(twice).collect::<String>();
        let cases = [
            (format!("{{ a(b: {}{}) }}", "[".repeat(2048), "]".repeat(2048)), "query nesting"),
            (format!("{{ a(b: {}1{}) }}", "{c: ".repeat(99), "}".repeat(99)), "query nesting"),
            (format!("{}a{}", "{ a ".repeat(99), " }".repeat(99)), "query nesting"),
            (format!("query (${}) {{ a }}", "a: [".repeat(99)), "query nesting"),
            (format!("{{ {} }}", "a: b ".repeat(600)), "query aliases"),
            (format!("{{ {} }}", "a: b ".repeat(3000)), "query tokens"),
            (format!("{{ a {} }}", "@skip(if: false) ".repeat(11)), "query directives"),
            (format!("{{ a {} }}", "@a ".repeat(3000)), "query tokens"),
            (format!("{{ a {}", " ".repeat(64 * 1024)), "query text"),
            (bomb.clone() + "fragment F30 on Q { a }", "query selections"),
            (bomb, "query selections"),
        ];
        for (text, name) in cases {
            assert_eq!(limit(&text), Some(name), "{}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn the_deepest_nesting_that_passes_the_scan_does_not_overflow_the_parser() {
        let text = format!("{{ a(b: {}{}) }}", "[".repeat(62), "]".repeat(62));
        assert!(parse_document_within_limits(&text).is_ok());
        let text = format!("{{ a(b: {}{}) }}", "[".repeat(63), "]".repeat(63));
        assert_eq!(limit(&text), Some("query nesting"));
        let text = format!("{}a{}", "{ a ".repeat(64), " }".repeat(64));
        assert_eq!(limit(&text), Some("query depth"));
    }

    #[test]
    fn a_syntax_error_names_its_position_and_quotes_nothing() {
        let cases = [
            ("", "the document is not valid GraphQL syntax at line 1, column 1"),
            ("{ a\n  secret( }", "the document is not valid GraphQL syntax at line 2, column 11"),
            (
                "{ a } query B { b }",
                "an operation without a name must be the only operation at line 1, column 1",
            ),
            ("query A { a } query A { b }", "two operations have the same name at line 1, column 15"),
            (
                "{ a } fragment F on Q { a } fragment F on Q { b }",
                "two fragments have the same name at line 1, column 29",
            ),
            ("fragment F on Q { a }", "the document has no operation"),
            (r#"{ a(b: "\u12") }"#, "the document is not valid GraphQL syntax at line 1, column 8"),
        ];
        for (text, expected) in cases {
            let Err(Refusal::Syntax { detail }) = parse_document_within_limits(text) else {
                panic!("admitted or limited: {text}")
            };
            assert_eq!(detail, expected);
        }
    }

    #[test]
    fn half_a_surrogate_pair_and_a_number_beyond_a_double_are_admitted() {
        assert!(parse_document_within_limits(r#"{ a(b: "\uD800 \ud83d\ude00", c: 1e400) }"#).is_ok());
    }
}
