//! Counts what a parsed document would contain if all its fragments were spread, and checks the limits.
//!
//! The fragments are not really spread. Each fragment is counted once, after the fragments that it spreads,
//! and its counts are used wherever it is spread. The work is therefore linear in the text, while the numbers
//! may saturate. This module does not know the schema: the validator reports names that do not exist. It must
//! run after the scan, which bounds the recursion into selection sets.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Field, OperationType, Selection, SelectionSet};
use domain::limits::{
    INTROSPECTION_DEPTH_MAX, QUERY_ALIASES_MAX, QUERY_DEPTH_MAX, QUERY_DIRECTIVES_MAX, QUERY_FRAGMENTS_MAX,
    QUERY_ROOT_FIELDS_MAX, QUERY_SELECTIONS_MAX,
};

use super::Refusal;

/// Refuses a parsed document that exceeds a limit of what it contains. Each operation is counted separately,
/// and for each limit the largest count decides, no matter which operation is to be executed.
///
/// # Errors
/// - [`Refusal::Limit`] with the first limit that is exceeded.
/// - [`Refusal::Syntax`] if fragments spread each other in a cycle, or a subscription has several root
///   fields.
pub(super) fn check_document_counts(document: &ExecutableDocument) -> Result<(), Refusal> {
    let fragments = document.fragments.len() as u64;
    check_limit("query fragments", "fragments", fragments, QUERY_FRAGMENTS_MAX as u64)?;
    check_limit("query directives", "directives", count_directives(document), QUERY_DIRECTIVES_MAX as u64)?;

    let fragments = compute_counts_per_fragment(document)?;
    let mut largest = Counts::default();
    for (_, operation) in document.operations.iter() {
        let counts = Counts::count_selection_set(&operation.node.selection_set.node, &fragments);
        // GraphQL, section 5.2.3.1. The library does not check this rule.
        if operation.node.ty == OperationType::Subscription && counts.top_fields > 1 {
            let detail = "a subscription must have exactly one root field".to_owned();
            return Err(Refusal::Syntax { detail });
        }
        largest = largest.max_of_each_count(counts);
    }
    // The validator also walks fragments that no operation spreads. A fragment that is spread has no more
    // selections than the operation that spreads it.
    let unused = fragments.values().map(|counts| counts.selections).max().unwrap_or(0);

    check_limit("query selections", "selections", largest.selections.max(unused), QUERY_SELECTIONS_MAX)?;
    check_limit("query aliases", "aliases", largest.aliases, QUERY_ALIASES_MAX)?;
    check_limit("query root fields", "root fields", largest.top_fields, QUERY_ROOT_FIELDS_MAX)?;
    check_limit("query depth", "levels of fields", largest.depth, QUERY_DEPTH_MAX as u64)?;
    let (levels, max) = ("levels of introspection", INTROSPECTION_DEPTH_MAX as u64);
    check_limit("query depth", levels, largest.introspection_depth, max)
}

fn check_limit(name: &'static str, what: &str, count: u64, max: u64) -> Result<(), Refusal> {
    if count <= max {
        return Ok(());
    }
    let advice = match name {
        "query aliases" | "query root fields" => {
            "send several requests, or send many items in one list of createEvents or applyMutations"
        }
        "query depth" => "request the deeper objects by id in another request",
        "query directives" => "leave fields out of the document instead of skipping them",
        _ => "split the request into several smaller ones",
    };
    let detail = format!("the document has {count} {what}; at most {max} are allowed: {advice}");
    Err(Refusal::Limit { name, max, detail })
}

/// What a selection set contains with all fragments spread. The counts saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    /// Fields, fragment spreads and inline fragments. The validator needs one step for each of them.
    selections: u64,
    aliases: u64,
    /// Fields at the first level of the set. In the set of an operation these are the root fields.
    top_fields: u64,
    /// Levels of fields, including the top level. Below `__schema` and `__type` they are counted separately.
    depth: u64,
    /// Levels of fields of the `__schema` and `__type` among the top fields.
    introspection_depth: u64,
}

impl Counts {
    fn count_selection_set(set: &SelectionSet, fragments: &HashMap<&str, Counts>) -> Self {
        set.items.iter().fold(Self::default(), |counts, item| {
            let selected = match &item.node {
                Selection::Field(field) => Self::count_field(&field.node, fragments),
                Selection::InlineFragment(inline) => {
                    Self::count_selection_set(&inline.node.selection_set.node, fragments)
                        .add_fragment_selection()
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = fragments.get(spread.node.fragment_name.node.as_str());
                    fragment.copied().unwrap_or_default().add_fragment_selection()
                }
            };
            counts.add_sibling_counts(selected)
        })
    }

    fn count_field(field: &Field, fragments: &HashMap<&str, Counts>) -> Self {
        let below = Self::count_selection_set(&field.selection_set.node, fragments);
        let depth = below.depth.max(below.introspection_depth).saturating_add(1);
        let introspects = matches!(field.name.node.as_str(), "__schema" | "__type");
        Self {
            selections: below.selections.saturating_add(1),
            aliases: below.aliases.saturating_add(u64::from(field.alias.is_some())),
            top_fields: 1,
            depth: if introspects { 0 } else { depth },
            introspection_depth: if introspects { depth } else { 0 },
        }
    }

    /// Adds one selection for the fragment spread or inline fragment that contains these selections.
    fn add_fragment_selection(self) -> Self {
        Self { selections: self.selections.saturating_add(1), ..self }
    }

    /// The counts of one set that contains both: the sums, but of the depths the larger one.
    fn add_sibling_counts(self, other: Self) -> Self {
        Self {
            selections: self.selections.saturating_add(other.selections),
            aliases: self.aliases.saturating_add(other.aliases),
            top_fields: self.top_fields.saturating_add(other.top_fields),
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
        }
    }

    /// The larger of both, for each count separately.
    fn max_of_each_count(self, other: Self) -> Self {
        Self {
            selections: self.selections.max(other.selections),
            aliases: self.aliases.max(other.aliases),
            top_fields: self.top_fields.max(other.top_fields),
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
        }
    }
}

/// Returns the counts of every fragment by its name. Each is counted after the fragments that it spreads,
/// which takes at most one round per fragment.
///
/// # Errors
/// [`Refusal::Syntax`] if fragments spread each other in a cycle.
fn compute_counts_per_fragment(document: &ExecutableDocument) -> Result<HashMap<&str, Counts>, Refusal> {
    let mut counts = HashMap::with_capacity(document.fragments.len());
    let mut waiting: Vec<_> = document.fragments.iter().collect();
    let mut spreads: HashMap<&str, Vec<&str>> = HashMap::with_capacity(waiting.len());
    for (name, fragment) in &waiting {
        let selections = all_selections_without_spreading(&fragment.node.selection_set.node);
        let known = |name: &&str| document.fragments.contains_key(*name);
        spreads.insert(
            name.as_str(),
            selections.into_iter().filter_map(name_of_spread_fragment).filter(known).collect(),
        );
    }
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|(name, fragment)| {
            let ready = spreads[name.as_str()].iter().all(|spread| counts.contains_key(spread));
            if ready {
                counts.insert(
                    name.as_str(),
                    Counts::count_selection_set(&fragment.node.selection_set.node, &counts),
                );
            }
            !ready
        });
        if waiting.len() == before {
            return Err(Refusal::Syntax { detail: "fragments spread each other in a cycle".to_owned() });
        }
    }
    Ok(counts)
}

/// All selections in a set, at every level: fields, inline fragments and fragment spreads. What a spread
/// refers to is not included.
fn all_selections_without_spreading(set: &SelectionSet) -> Vec<&Selection> {
    let mut selections = Vec::new();
    let mut sets = vec![set];
    while let Some(set) = sets.pop() {
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => sets.push(&field.node.selection_set.node),
                Selection::InlineFragment(inline) => sets.push(&inline.node.selection_set.node),
                Selection::FragmentSpread(_) => {}
            }
            selections.push(&item.node);
        }
    }
    selections
}

fn name_of_spread_fragment(selection: &Selection) -> Option<&str> {
    match selection {
        Selection::FragmentSpread(spread) => Some(spread.node.fragment_name.node.as_str()),
        Selection::Field(_) | Selection::InlineFragment(_) => None,
    }
}

/// Counts the directives of the text in every place where the grammar allows one. Fragments are not spread.
fn count_directives(document: &ExecutableDocument) -> u64 {
    let below = |set| {
        all_selections_without_spreading(set)
            .into_iter()
            .map(|selection| selection.directives().len() as u64)
            .sum::<u64>()
    };
    let operations = document.operations.iter().map(|(_, operation)| {
        let variables = operation.node.variable_definitions.iter();
        let variables = variables.map(|variable| variable.node.directives.len() as u64).sum::<u64>();
        operation.node.directives.len() as u64 + variables + below(&operation.node.selection_set.node)
    });
    let fragments = document.fragments.values();
    let fragments = fragments
        .map(|fragment| fragment.node.directives.len() as u64 + below(&fragment.node.selection_set.node));
    operations.chain(fragments).sum()
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    /// Returns the limit that refuses the document (such as `query depth 12`), `cycle`, or `passes`.
    fn outcome(text: &str) -> String {
        match check_document_counts(&parse_query(text).expect("a test document parses")) {
            Ok(()) => "passes".to_owned(),
            Err(Refusal::Limit { name, max, .. }) => format!("{name} {max}"),
            Err(Refusal::Syntax { .. }) => "cycle".to_owned(),
        }
    }

    /// Returns `root { a { a … } }` with `depth` levels of fields.
    fn deep(root: &str, depth: usize) -> String {
        format!("{{ {root} {} {} }}", "{ a ".repeat(depth - 1), "}".repeat(depth - 1))
    }

    #[test]
    fn every_limit_admits_its_maximum_and_refuses_one_more() {
        let fragments = |n: usize| (0..n).map(|i| format!("fragment F{i} on Q {{ a }} ")).collect::<String>();
        let selections = |n: usize| format!("{{ a {{ {} }} }}", "b ".repeat(n));
        let aliases = |n: usize| format!("{{ a {{ {} }} }}", "b: c ".repeat(n));
        let roots = |n: usize| format!("{{ ... {{ {} }} ...F }} fragment F on Q {{ z }}", "a ".repeat(n));
        let cases = [
            (fragments(50) + "{ a }", fragments(51) + "{ a }", "query fragments 50"),
            (selections(999), selections(1000), "query selections 1000"),
            (aliases(15), aliases(16), "query aliases 15"),
            (roots(9), roots(10), "query root fields 10"),
            (deep("a", 12), deep("a", 13), "query depth 12"),
            (deep("__schema", 20), deep("__schema", 21), "query depth 20"),
            (deep("t: __type(name: \"A\")", 20), deep("t: __type", 21), "query depth 20"),
        ];
        for (most, more, limit) in cases {
            assert_eq!(outcome(&most), "passes", "{limit}");
            assert_eq!(outcome(&more), limit);
        }
    }

    #[test]
    fn directives_are_counted_in_every_place() {
        let text = "query A($v: Int @a) @a { b @a @a ... @a { c @a } ...F @a } \
                    fragment F on Q @a { d @a { e @a } }";
        assert_eq!(outcome(text), "passes");
        assert_eq!(outcome(&text.replace("{ e @a }", "{ e @a @a }")), "query directives 10");
    }

    #[test]
    fn the_selections_of_a_fragment_count_wherever_it_is_spread() {
        let aliases =
            |n: usize| format!("{{ a {{ {} }} }} fragment F on Q {{ x: a y: b }}", "...F ".repeat(n));
        assert_eq!(outcome(&aliases(7)), "passes");
        assert_eq!(outcome(&aliases(8)), "query aliases 15");
        let text = "{ a { a { a { a { ...F } } } } } fragment F on Q { a { a { a { a { ...G } } } } } \
                    fragment G on Q { a { a { a { a } } } }";
        assert_eq!(outcome(text), "passes");
        assert_eq!(outcome(&text.replace("{ ...G }", "{ a { ...G } }")), "query depth 12");
        let text = format!("{{ ...F }} fragment F on Q {}", deep("__schema", 20));
        assert_eq!(outcome(&text), "passes");
    }

    #[test]
    fn fragments_that_spread_the_next_twice_saturate_and_are_refused_used_or_not() {
        let twice = |n: usize| format!("fragment F{n} on Q {{ {} }} ", format!("...F{} ", n + 1).repeat(30));
        let bomb: String = (0..30).map(twice).collect::<String>() + "fragment F30 on Q { a } ";
        assert_eq!(outcome(&(bomb.clone() + "{ ...F0 }")), "query selections 1000");
        assert_eq!(outcome(&(bomb + "{ a }")), "query selections 1000");
    }

    #[test]
    fn fragments_in_a_cycle_are_refused_used_or_not() {
        let chain = |n: usize| format!("fragment F{n} on Q {{ a {{ ...F{} }} }} ", (n + 1) % 40);
        let cases = [
            "{ ...F } fragment F on Q { ...F }".to_owned(),
            "{ a } fragment F on Q { a { ... { ...F } } }".to_owned(),
            "{ ...F } fragment F on Q { ...G } fragment G on Q { ...H ...F } fragment H on Q { a }"
                .to_owned(),
            "{ ...F0 }".to_owned() + &(0..40).map(chain).collect::<String>(),
        ];
        for text in cases {
            assert_eq!(outcome(&text), "cycle", "{text}");
        }
    }

    #[test]
    fn each_operation_is_counted_separately_and_the_largest_decides() {
        let named = |name: &str, n: usize| format!("query {name} {{ {} }} ", "a ".repeat(n));
        assert_eq!(outcome(&(named("A", 10) + &named("B", 10))), "passes");
        assert_eq!(outcome(&(named("A", 1) + &named("B", 11) + &named("C", 2))), "query root fields 10");
    }

    #[test]
    fn a_subscription_has_one_root_field() {
        let outcome = |text: &str| check_document_counts(&parse_query(text).expect("parses"));
        assert_eq!(outcome("subscription { a }"), Ok(()));
        assert_eq!(outcome("subscription { ...F } fragment F on S { a }"), Ok(()));
        for text in ["subscription { a b }", "subscription { a ...F } fragment F on S { b }"] {
            assert!(matches!(outcome(text), Err(Refusal::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn a_spread_of_an_unknown_fragment_is_left_to_the_validator() {
        assert_eq!(outcome("{ ...Nowhere a }"), "passes");
    }
}
