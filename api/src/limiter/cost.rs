//! What an operation costs, in points: told by its document and its variables, before it is executed and
//! whatever it finds. Reads are counted by the entries that they ask for, writes by their items. It knows the
//! schema's lists by name; the gate has bounded how much there is to walk.

use async_graphql::Variables;
use async_graphql::parser::types::{
    ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql_value::{ConstValue, Value};
use domain::limits::{CHANGES_FIRST_DEFAULT, CHANGES_FIRST_MAX, PAGE_FIRST_DEFAULT};

/// Entries that are read for a point.
const ENTRIES_A_POINT: u64 = 100;
/// Points of what may read everything that a user has, beside its entries: a search, a digest.
const READ_ALL_POINTS: u64 = 50;
/// Points of what may count everything that a user has.
const COUNT_ALL_POINTS: u64 = 10;
/// Items of `importEvents` for a point: they are stored in the background.
const IMPORTED_A_POINT: u64 = 10;

/// What one of these operations costs at most: which of them is meant is clear in every request that is
/// executed. At least 1.
pub(crate) fn cost<'r>(
    document: &'r ExecutableDocument,
    operations: impl Iterator<Item = &'r OperationDefinition>,
    variables: &'r Variables,
) -> u32 {
    let costs = operations.map(|operation| Asked { document, operation, variables }.cost());
    u32::try_from(costs.max().unwrap_or(1).max(1)).unwrap_or(u32::MAX)
}

/// One operation with its variables.
struct Asked<'r> {
    document: &'r ExecutableDocument,
    operation: &'r OperationDefinition,
    variables: &'r Variables,
}

/// A value as it stands in the document, or as it was sent beside it.
#[derive(Clone, Copy)]
enum Given<'r> {
    Literal(&'r Value),
    Variable(&'r ConstValue),
}

impl<'r> Asked<'r> {
    fn cost(&self) -> u64 {
        let roots = self.fields(&self.operation.selection_set.node);
        match self.operation.ty {
            // One page at a time, at the speed of its reader.
            OperationType::Subscription => 1,
            OperationType::Query => roots.into_iter().map(|field| 1 + self.read(field)).sum(),
            OperationType::Mutation => {
                roots.into_iter().map(|field| self.written(field) + self.read(field)).sum()
            }
        }
    }

    /// For the items of a mutation: 1 each, and 1 where it has no list.
    fn written(&self, field: &'r Field) -> u64 {
        let input = self.argument(field, "input").map(|input| self.members(input)).unwrap_or_default();
        let items: u64 = input.into_iter().map(length).sum();
        let points = if field.name.node == "importEvents" { items.div_ceil(IMPORTED_A_POINT) } else { items };
        points.max(1)
    }

    /// For the entries of a field at the root and of the lists below it.
    fn read(&self, field: &'r Field) -> u64 {
        let own = match field.name.node.as_str() {
            "changes" => Some(self.asked_for(field, CHANGES_FIRST_DEFAULT)),
            "events" | "eventTypes" | "importJobs" => Some(self.asked_for(field, PAGE_FIRST_DEFAULT)),
            "nodes" => Some(self.argument(field, "ids").map_or(0, length)),
            _ => None,
        };
        let below = self.below(field, own.unwrap_or(1));
        (own.unwrap_or(0) + below).div_ceil(ENTRIES_A_POINT) + self.of_all(field)
    }

    /// For what may have to look at all events of the user, whatever it returns.
    fn of_all(&self, field: &'r Field) -> u64 {
        let counts = || {
            let below = self.fields(&field.selection_set.node);
            below.iter().filter(|inner| inner.name.node == "totalCount").count() as u64
        };
        match field.name.node.as_str() {
            "syncDigest" => READ_ALL_POINTS,
            "syncStatus" => COUNT_ALL_POINTS,
            "events" if self.is_search(field) => (1 + counts()) * READ_ALL_POINTS,
            "events" => counts() * COUNT_ALL_POINTS,
            _ => 0,
        }
    }

    fn is_search(&self, field: &'r Field) -> bool {
        let member = |filter: Given<'r>| match filter {
            Given::Literal(Value::Object(members)) => {
                members.get("search").and_then(|value| self.given(value))
            }
            Given::Variable(ConstValue::Object(members)) => members.get("search").map(Given::Variable),
            _ => None,
        };
        let search = self.argument(field, "filter").and_then(member);
        !matches!(search, None | Some(Given::Literal(Value::Null) | Given::Variable(ConstValue::Null)))
    }

    /// Entries of lists within so many entries: rejections of imports are the only ones.
    fn below(&self, field: &'r Field, times: u64) -> u64 {
        let fields = self.fields(&field.selection_set.node).into_iter();
        let entries = fields.map(|inner| match inner.name.node.as_str() {
            "rejections" => times * self.asked_for(inner, PAGE_FIRST_DEFAULT),
            _ => self.below(inner, times),
        });
        entries.sum()
    }

    /// Entries that a page is asked for. More than any page has is refused, and so no reason to pay more.
    fn asked_for(&self, field: &'r Field, default: i32) -> u64 {
        let said = ["first", "last"].into_iter().filter_map(|name| number(self.argument(field, name)?)).max();
        let asked = said.unwrap_or(default.into()).clamp(0, CHANGES_FIRST_MAX.into());
        asked.unsigned_abs()
    }

    /// The fields of a set, fragments spread. What is skipped counts: nobody has to ask for it.
    fn fields(&self, set: &'r SelectionSet) -> Vec<&'r Field> {
        let mut found = Vec::new();
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => found.push(&field.node),
                Selection::InlineFragment(inline) => {
                    found.extend(self.fields(&inline.node.selection_set.node))
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                    let set = fragment.map(|fragment| &fragment.node.selection_set.node);
                    found.extend(set.map(|set| self.fields(set)).unwrap_or_default());
                }
            }
        }
        found
    }

    fn argument(&self, field: &'r Field, name: &str) -> Option<Given<'r>> {
        self.given(&field.get_argument(name)?.node)
    }

    fn given(&self, value: &'r Value) -> Option<Given<'r>> {
        let Value::Variable(name) = value else {
            return Some(Given::Literal(value));
        };
        let default = || {
            let mut defined = self.operation.variable_definitions.iter().map(|definition| &definition.node);
            defined.find(|definition| definition.name.node == *name)?.default_value()
        };
        self.variables.get(name).or_else(default).map(Given::Variable)
    }

    /// The values of an object.
    fn members(&self, object: Given<'r>) -> Vec<Given<'r>> {
        match object {
            Given::Literal(Value::Object(members)) => {
                members.values().filter_map(|value| self.given(value)).collect()
            }
            Given::Variable(ConstValue::Object(members)) => members.values().map(Given::Variable).collect(),
            _ => Vec::new(),
        }
    }
}

/// Items of a list; 0 of anything else.
fn length(value: Given<'_>) -> u64 {
    match value {
        Given::Literal(Value::List(items)) => items.len() as u64,
        Given::Variable(ConstValue::List(items)) => items.len() as u64,
        _ => 0,
    }
}

fn number(value: Given<'_>) -> Option<i64> {
    match value {
        Given::Literal(Value::Number(number)) | Given::Variable(ConstValue::Number(number)) => {
            number.as_i64()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::{Value as Json, json};

    use super::*;

    fn of(query: &str, variables: Json) -> u32 {
        let document = parse_query(query).expect("the case parses");
        let variables = Variables::from_json(variables);
        let operations = document.operations.iter().map(|(_, operation)| &operation.node);
        cost(&document, operations, &variables)
    }

    #[test]
    fn a_read_costs_a_point_and_one_for_each_hundred_entries_begun() {
        let cases = [
            ("{ viewer { userId } }", 1),
            ("{ viewer { userId } syncStatus { pending } __typename }", 13),
            ("{ syncDigest(entity: EVENT) { month } }", 51),
            ("{ events { totalCount } eventTypes { totalCount } }", 14),
            ("{ events(filter: { search: \"run\" }) { nodes { id } } }", 52),
            ("{ events(filter: { search: \"run\" }) { totalCount nodes { id } } }", 102),
            ("{ events(filter: { search: null }) { nodes { id } } }", 2),
            ("{ event(id: 1) { id } node(id: 1) { id } }", 2),
            ("{ changes { cursor } }", 6),
            ("{ changes(first: 5000) { changes { event { id } } } }", 51),
            ("{ changes(first: 1) { changes { event { id } } } }", 2),
            ("{ events { nodes { id } } }", 2),
            ("{ events(first: 100) { nodes { id } } }", 2),
            ("{ events(first: 101) { nodes { id } } }", 3),
            ("{ eventTypes(last: 1000) { nodes { id } } }", 11),
            ("{ importJobs(first: null) { nodes { id } } }", 2),
            ("{ nodes(ids: []) { id } }", 1),
            ("{ nodes(ids: [1, 2, 3]) { id } }", 2),
            ("{ importJob(id: 1) { rejections { totalCount } } }", 2),
            ("{ importJob(id: 1) { rejections(first: 1000) { totalCount } } }", 11),
            (
                "{ importJobs(first: 10) { nodes { ... on ImportJob { rejections(first: 1000) { totalCount } } } } }",
                102,
            ),
            ("{ events(first: 0) { nodes { id } } }", 1),
            ("{ events(first: -7) { nodes { id } } }", 1),
            ("{ events(first: 99999999999) { nodes { id } } }", 51),
            ("{ events(first: \"many\") { nodes { id } } }", 2),
        ];
        for (query, expected) in cases {
            assert_eq!(of(query, json!({})), expected, "{query}");
        }
    }

    #[test]
    fn a_write_costs_a_point_an_item_and_one_behind_it_a_tenth() {
        let cases = [
            ("mutation { createEvent(input: { event: { notes: \"a\" } }) { result { index } } }", 1),
            ("mutation { createEvents(input: { events: [{}, {}, {}] }) { created } }", 3),
            ("mutation { createEvents(input: { events: [] }) { created } }", 1),
            ("mutation { createEvents(input: { events: {} }) { created } }", 1),
            ("mutation { createEvents { created } }", 1),
            (
                "mutation { a: applyMutations(input: { clientId: 1, mutations: [{}, {}] }) { results { index } } \
              b: deleteEvent(input: { id: 1 }) { result { index } } }",
                3,
            ),
            (
                "mutation { importEvents(input: { id: 1, events: [1,2,3,4,5,6,7,8,9,10] }) { problem { code } } }",
                1,
            ),
            (
                "mutation { importEvents(input: { id: 1, events: [1,2,3,4,5,6,7,8,9,10,11] }) { problem { code } } }",
                2,
            ),
            (
                "mutation { cancelImport(input: { id: 1 }) { importJob { rejections(first: 200) { totalCount } } } }",
                3,
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(of(query, json!({})), expected, "{query}");
        }
    }

    #[test]
    fn arguments_count_wherever_they_stand() {
        let events = json!(vec![json!({}); 500]);
        let cases = [
            (
                "mutation($i: I!) { createEvents(input: $i) { created } }",
                json!({ "i": { "events": events } }),
                500,
            ),
            (
                "mutation($e: [E!]!) { createEvents(input: { events: $e }) { created } }",
                json!({ "e": events }),
                500,
            ),
            (
                "mutation($e: E!) { createEvents(input: { events: [$e, $e] }) { created } }",
                json!({ "e": {} }),
                2,
            ),
            (
                "mutation($i: I!) { importEvents(input: $i) { problem { code } } }",
                json!({ "i": { "events": events } }),
                50,
            ),
            ("mutation($i: I!) { createEvents(input: $i) { created } }", json!({}), 1),
            ("query($n: Int) { events(first: $n) { nodes { id } } }", json!({ "n": 1000 }), 11),
            ("query($n: Int = 300) { events(first: $n) { nodes { id } } }", json!({}), 4),
            ("query($n: Int = 300) { events(first: $n) { nodes { id } } }", json!({ "n": null }), 2),
            ("query($n: Int) { events(first: $n) { nodes { id } } }", json!({}), 2),
            ("query($f: F) { events(filter: $f) { nodes { id } } }", json!({ "f": { "search": "ab" } }), 52),
            (
                "query($s: String) { events(filter: { search: $s }) { nodes { id } } }",
                json!({ "s": "ab" }),
                52,
            ),
            ("query($s: String) { events(filter: { search: $s }) { nodes { id } } }", json!({}), 2),
            ("query($i: [ID!]!) { nodes(ids: $i) { id } }", json!({ "i": vec![1; 1000] }), 11),
        ];
        for (query, variables, expected) in cases {
            assert_eq!(of(query, variables), expected, "{query}");
        }
    }

    #[test]
    fn fragments_are_spread_and_what_is_skipped_counts() {
        let spread = "{ ...A ... { viewer { userId } } } fragment A on Query { ...B x: viewer { userId } } \
             fragment B on Query { events(first: 1000) { nodes { id } } }";
        assert_eq!(of(spread, json!({})), 13);
        let deep =
            "{ importJob(id: 1) { ...J } } fragment J on ImportJob { rejections(first: 500) { totalCount } }";
        assert_eq!(of(deep, json!({})), 6);
        assert_eq!(of("{ changes @skip(if: true) { cursor } }", json!({})), 6);
        assert_eq!(of("{ ...Nowhere }", json!({})), 1);
    }

    #[test]
    fn a_subscription_costs_a_point_at_its_start() {
        assert_eq!(of("subscription { changes { cursor } }", json!({})), 1);
        let progress = "subscription { importProgress(id: 1) { rejections(first: 1000) { totalCount } } }";
        assert_eq!(of(progress, json!({})), 1);
    }

    #[test]
    fn of_several_operations_the_one_that_costs_most_counts() {
        let both = "query A { viewer { userId } } query B { changes { cursor } }";
        assert_eq!(of(both, json!({})), 6);
        let document = parse_query("{ viewer { userId } }").expect("parses");
        assert_eq!(cost(&document, std::iter::empty(), &Variables::default()), 1);
    }
}
