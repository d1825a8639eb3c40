//! The counts of a parsed document: what its operations come to once all fragments are spread.
//!
//! Nothing is spread to be counted. Every fragment is summed up once, behind the fragments it
//! spreads, and its sums stand for it wherever it is spread, so the work is linear in the text
//! while the numbers may saturate. Knows nothing of the schema: names that do not exist are the
//! validator's. Runs behind the scan only, which bounds the recursion into selection sets.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Field, OperationType, Selection, SelectionSet};
use domain::limits::{
    INTROSPECTION_DEPTH_MAX, QUERY_ALIASES_MAX, QUERY_DEPTH_MAX, QUERY_DIRECTIVES_MAX, QUERY_FRAGMENTS_MAX,
    QUERY_ROOT_FIELDS_MAX, QUERY_SELECTIONS_MAX,
};

use super::Refusal;

/// Refuses a document that is over a limit. Each operation is counted by itself and the worst
/// one decides, whichever is to be executed.
///
/// # Errors
/// `Limit` for the first limit that is exceeded, `Syntax` when fragments spread each other in a
/// cycle, or a subscription has several root fields.
pub(super) fn count(document: &ExecutableDocument) -> Result<(), Refusal> {
    let fragments = document.fragments.len() as u64;
    within("query fragments", "fragments", fragments, QUERY_FRAGMENTS_MAX as u64)?;
    within("query directives", "directives", directives(document), QUERY_DIRECTIVES_MAX as u64)?;

    let fragments = sum_up_fragments(document)?;
    let mut worst = Sums::default();
    for (_, operation) in document.operations.iter() {
        let sums = Sums::of(&operation.node.selection_set.node, &fragments);
        // GraphQL, section 5.2.3.1, which the library does not ask for.
        if operation.node.ty == OperationType::Subscription && sums.top_fields > 1 {
            let detail = "a subscription has one field at its root".to_owned();
            return Err(Refusal::Syntax { detail });
        }
        worst = worst.max(sums);
    }
    // The validator walks fragments that no operation spreads as well; used ones are no larger
    // than the operation that uses them.
    let unused = fragments.values().map(|sums| sums.selections).max().unwrap_or(0);

    within("query selections", "selections", worst.selections.max(unused), QUERY_SELECTIONS_MAX)?;
    within("query aliases", "aliases", worst.aliases, QUERY_ALIASES_MAX)?;
    within("query root fields", "root fields", worst.top_fields, QUERY_ROOT_FIELDS_MAX)?;
    within("query depth", "levels of fields", worst.depth, QUERY_DEPTH_MAX as u64)?;
    let (levels, max) = ("levels of introspection", INTROSPECTION_DEPTH_MAX as u64);
    within("query depth", levels, worst.introspection_depth, max)
}

fn within(name: &'static str, what: &str, found: u64, max: u64) -> Result<(), Refusal> {
    if found <= max {
        return Ok(());
    }
    let way_out = match name {
        "query aliases" | "query root fields" => {
            "send several requests, and many items in one list, as createEvents and applyMutations take them"
        }
        "query depth" => "ask for what is further down by its id, in a request of its own",
        "query directives" => "leave fields out of the document instead",
        _ => "ask for less in one request, and for the rest in another",
    };
    let detail = format!("the document comes to {found} {what}, at most {max} are allowed: {way_out}");
    Err(Refusal::Limit { name, max, detail })
}

/// What a selection set comes to once its fragments are spread. The sums saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    /// Fields, and the spreads and inline fragments around them: each costs the validator a step.
    selections: u64,
    aliases: u64,
    /// Fields of the set itself; root fields if the set is an operation's.
    top_fields: u64,
    /// Levels of fields below and with the top fields, but for `__schema` and `__type`.
    depth: u64,
    /// The same below `__schema` and `__type` among the top fields.
    introspection_depth: u64,
}

impl Sums {
    fn of(set: &SelectionSet, fragments: &HashMap<&str, Sums>) -> Self {
        set.items.iter().fold(Self::default(), |sums, item| {
            let selected = match &item.node {
                Selection::Field(field) => Self::of_field(&field.node, fragments),
                Selection::InlineFragment(inline) => {
                    Self::of(&inline.node.selection_set.node, fragments).wrapped()
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = fragments.get(spread.node.fragment_name.node.as_str());
                    fragment.copied().unwrap_or_default().wrapped()
                }
            };
            sums.plus(selected)
        })
    }

    fn of_field(field: &Field, fragments: &HashMap<&str, Sums>) -> Self {
        let below = Self::of(&field.selection_set.node, fragments);
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

    /// The same with the spread or inline fragment around it.
    fn wrapped(self) -> Self {
        Self { selections: self.selections.saturating_add(1), ..self }
    }

    /// Both side by side in one set.
    fn plus(self, other: Self) -> Self {
        Self {
            selections: self.selections.saturating_add(other.selections),
            aliases: self.aliases.saturating_add(other.aliases),
            top_fields: self.top_fields.saturating_add(other.top_fields),
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
        }
    }

    /// The worse of both, number by number.
    fn max(self, other: Self) -> Self {
        Self {
            selections: self.selections.max(other.selections),
            aliases: self.aliases.max(other.aliases),
            top_fields: self.top_fields.max(other.top_fields),
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
        }
    }
}

/// Sums up every fragment behind those it spreads: at most one round per fragment.
fn sum_up_fragments(document: &ExecutableDocument) -> Result<HashMap<&str, Sums>, Refusal> {
    let mut sums = HashMap::with_capacity(document.fragments.len());
    let mut waiting: Vec<_> = document.fragments.iter().collect();
    let mut spreads: HashMap<&str, Vec<&str>> = HashMap::with_capacity(waiting.len());
    for (name, fragment) in &waiting {
        let written = written(&fragment.node.selection_set.node);
        let known = |name: &&str| document.fragments.contains_key(*name);
        spreads.insert(name.as_str(), written.into_iter().filter_map(spread_name).filter(known).collect());
    }
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|(name, fragment)| {
            let ready = spreads[name.as_str()].iter().all(|spread| sums.contains_key(spread));
            if ready {
                sums.insert(name.as_str(), Sums::of(&fragment.node.selection_set.node, &sums));
            }
            !ready
        });
        if waiting.len() == before {
            return Err(Refusal::Syntax { detail: "fragments spread each other in a cycle".to_owned() });
        }
    }
    Ok(sums)
}

/// All selections below a set as they are written, none spread.
fn written(set: &SelectionSet) -> Vec<&Selection> {
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

fn spread_name(selection: &Selection) -> Option<&str> {
    match selection {
        Selection::FragmentSpread(spread) => Some(spread.node.fragment_name.node.as_str()),
        Selection::Field(_) | Selection::InlineFragment(_) => None,
    }
}

/// Directives as they are written, wherever one may stand.
fn directives(document: &ExecutableDocument) -> u64 {
    let below =
        |set| written(set).into_iter().map(|selection| selection.directives().len() as u64).sum::<u64>();
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

    /// `query depth 12`, `cycle` or `passes`.
    fn outcome(text: &str) -> String {
        match count(&parse_query(text).expect("a test document parses")) {
            Ok(()) => "passes".to_owned(),
            Err(Refusal::Limit { name, max, .. }) => format!("{name} {max}"),
            Err(Refusal::Syntax { .. }) => "cycle".to_owned(),
        }
    }

    /// `root { a { a … } }` with so many levels of fields.
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
    fn directives_are_counted_wherever_they_stand() {
        let text = "query A($v: Int @a) @a { b @a @a ... @a { c @a } ...F @a } \
                    fragment F on Q @a { d @a { e @a } }";
        assert_eq!(outcome(text), "passes");
        assert_eq!(outcome(&text.replace("{ e @a }", "{ e @a @a }")), "query directives 10");
    }

    #[test]
    fn what_a_fragment_holds_counts_wherever_it_is_spread() {
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
    fn each_operation_is_counted_by_itself_and_the_worst_decides() {
        let named = |name: &str, n: usize| format!("query {name} {{ {} }} ", "a ".repeat(n));
        assert_eq!(outcome(&(named("A", 10) + &named("B", 10))), "passes");
        assert_eq!(outcome(&(named("A", 1) + &named("B", 11) + &named("C", 2))), "query root fields 10");
    }

    #[test]
    fn a_subscription_has_one_root_field() {
        let outcome = |text: &str| count(&parse_query(text).expect("parses"));
        assert_eq!(outcome("subscription { a }"), Ok(()));
        assert_eq!(outcome("subscription { ...F } fragment F on S { a }"), Ok(()));
        for text in ["subscription { a b }", "subscription { a ...F } fragment F on S { b }"] {
            assert!(matches!(outcome(text), Err(Refusal::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn a_spread_of_nothing_known_is_left_to_the_validator() {
        assert_eq!(outcome("{ ...Nowhere a }"), "passes");
    }
}
