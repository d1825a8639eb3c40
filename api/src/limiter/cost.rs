//! Calculates the cost of an operation in points, before it is executed.
//!
//! The cost depends on the document and the variables only, not on what is found in the database. Statistics are the
//! exception: they also cost by the number of events that the user has. Other reads cost
//! by the entries that they request, writes by their items. The lists of the schema are known by name. This
//! module relies on the query limits, which bound the size of the document.

use async_graphql::Variables;
use async_graphql::parser::types::{
    ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql_value::{ConstValue, Value};
use domain::limits::{CHANGES_FIRST_DEFAULT, CHANGES_FIRST_MAX, PAGE_FIRST_DEFAULT};

/// How many requested entries of lists cost one point.
const ENTRIES_PER_POINT: u64 = 100;
/// Additional points of a field that may read all events of a user, such as a search or a digest.
const FULL_READ_POINTS: u64 = 50;
/// Additional points of a field that may count all events of a user.
const FULL_COUNT_POINTS: u64 = 10;
/// How many items of `importEvents` cost one point. They are cheaper than other items because they are stored
/// in the background.
const IMPORTED_PER_POINT: u64 = 10;

/// Returns the cost in points of the most expensive of these operations, at least 1. A request that is
/// executed always names a single operation, so the maximum matters only for requests that are refused later.
pub(crate) fn highest_operation_cost<'r>(
    document: &'r ExecutableDocument,
    operations: impl Iterator<Item = &'r OperationDefinition>,
    variables: &'r Variables,
) -> u32 {
    let costs =
        operations.map(|operation| CostedOperation { document, operation, variables }.operation_cost());
    u32::try_from(costs.max().unwrap_or(1).max(1)).unwrap_or(u32::MAX)
}

/// How often one of these operations asks for statistics, at most. Each question costs more points for a user with
/// many events, which only the database knows.
pub(crate) fn count_statistics<'r>(
    document: &'r ExecutableDocument,
    operations: impl Iterator<Item = &'r OperationDefinition>,
    variables: &'r Variables,
) -> u64 {
    let counts = operations.map(|operation| {
        let costed = CostedOperation { document, operation, variables };
        let roots = costed.selected_fields(&operation.selection_set.node);
        roots.iter().filter(|field| field.name.node == "eventStats").count() as u64
    });
    counts.max().unwrap_or_default()
}

/// One operation whose cost is calculated, with its document and its variables.
struct CostedOperation<'r> {
    document: &'r ExecutableDocument,
    operation: &'r OperationDefinition,
    variables: &'r Variables,
}

/// The value of an argument: a literal of the document, or the value of a variable.
#[derive(Clone, Copy)]
enum ArgumentValue<'r> {
    Literal(&'r Value),
    Variable(&'r ConstValue),
}

impl<'r> CostedOperation<'r> {
    fn operation_cost(&self) -> u64 {
        let roots = self.selected_fields(&self.operation.selection_set.node);
        match self.operation.ty {
            // A subscription reads one page at a time, and only as fast as its client.
            OperationType::Subscription => 1,
            OperationType::Query => roots.into_iter().map(|field| 1 + self.points_for_reads(field)).sum(),
            OperationType::Mutation => roots
                .into_iter()
                .map(|field| self.points_for_writes(field) + self.points_for_reads(field))
                .sum(),
        }
    }

    /// The points for the items of a root field of a mutation: 1 for each item, less for those of
    /// `importEvents`, and at least 1.
    fn points_for_writes(&self, field: &'r Field) -> u64 {
        let input = self
            .argument_value(field, "input")
            .map(|input| self.object_member_values(input))
            .unwrap_or_default();
        let items: u64 = input.into_iter().map(list_length).sum();
        let points =
            if field.name.node == "importEvents" { items.div_ceil(IMPORTED_PER_POINT) } else { items };
        points.max(1)
    }

    /// The points for the entries that a root field and the lists below it request, and for a read of all
    /// events.
    fn points_for_reads(&self, field: &'r Field) -> u64 {
        let entries = match field.name.node.as_str() {
            "changes" => Some(self.requested_page_size(field, CHANGES_FIRST_DEFAULT)),
            "events" | "eventTypes" | "importJobs" => {
                Some(self.requested_page_size(field, PAGE_FIRST_DEFAULT))
            }
            "nodes" => Some(self.argument_value(field, "ids").map_or(0, list_length)),
            _ => None,
        };
        let nested = self.count_requested_nested_entries(field, entries.unwrap_or(1));
        (entries.unwrap_or(0) + nested).div_ceil(ENTRIES_PER_POINT) + self.points_for_full_reads(field)
    }

    /// The additional points of a field that may have to look at all events of the user, however little it
    /// returns.
    fn points_for_full_reads(&self, field: &'r Field) -> u64 {
        let total_counts = || {
            let selected = self.selected_fields(&field.selection_set.node);
            selected.iter().filter(|inner| inner.name.node == "totalCount").count() as u64
        };
        match field.name.node.as_str() {
            "syncDigest" => FULL_READ_POINTS,
            "syncStatus" => FULL_COUNT_POINTS,
            "events" if self.has_search_filter(field) => (1 + total_counts()) * FULL_READ_POINTS,
            "events" => total_counts() * FULL_COUNT_POINTS,
            _ => 0,
        }
    }

    fn has_search_filter(&self, field: &'r Field) -> bool {
        let member = |filter: ArgumentValue<'r>| match filter {
            ArgumentValue::Literal(Value::Object(members)) => {
                members.get("search").and_then(|value| self.resolve_variable(value))
            }
            ArgumentValue::Variable(ConstValue::Object(members)) => {
                members.get("search").map(ArgumentValue::Variable)
            }
            _ => None,
        };
        let search = self.argument_value(field, "filter").and_then(member);
        !matches!(
            search,
            None | Some(ArgumentValue::Literal(Value::Null) | ArgumentValue::Variable(ConstValue::Null))
        )
    }

    /// How many entries the lists inside of this field request, if there are `parents` entries that each have
    /// them. The rejections of imports are the only such lists.
    fn count_requested_nested_entries(&self, field: &'r Field, parents: u64) -> u64 {
        let fields = self.selected_fields(&field.selection_set.node).into_iter();
        let entries = fields.map(|inner| match inner.name.node.as_str() {
            "rejections" => parents * self.requested_page_size(inner, PAGE_FIRST_DEFAULT),
            _ => self.count_requested_nested_entries(inner, parents),
        });
        entries.sum()
    }

    /// The page size that a list field requests, or `default`. It is clamped to the largest page, because a
    /// larger request is refused and must not cost more.
    fn requested_page_size(&self, field: &'r Field, default: i32) -> u64 {
        let requested = ["first", "last"]
            .into_iter()
            .filter_map(|name| to_integer(self.argument_value(field, name)?))
            .max();
        requested.unwrap_or(default.into()).clamp(0, CHANGES_FIRST_MAX.into()).unsigned_abs()
    }

    /// The fields at the first level of a selection set, with those of its fragments. Fields that `@skip`
    /// leaves out count too, because a client can leave them out itself.
    fn selected_fields(&self, set: &'r SelectionSet) -> Vec<&'r Field> {
        let mut fields = Vec::new();
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => fields.push(&field.node),
                Selection::InlineFragment(inline) => {
                    fields.extend(self.selected_fields(&inline.node.selection_set.node))
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                    let set = fragment.map(|fragment| &fragment.node.selection_set.node);
                    fields.extend(set.map(|set| self.selected_fields(set)).unwrap_or_default());
                }
            }
        }
        fields
    }

    fn argument_value(&self, field: &'r Field, name: &str) -> Option<ArgumentValue<'r>> {
        self.resolve_variable(&field.get_argument(name)?.node)
    }

    /// Replaces a variable by its value or its default, and returns any other value unchanged. `None` for a
    /// variable that has neither.
    fn resolve_variable(&self, value: &'r Value) -> Option<ArgumentValue<'r>> {
        let Value::Variable(name) = value else {
            return Some(ArgumentValue::Literal(value));
        };
        let default = || {
            let mut defined = self.operation.variable_definitions.iter().map(|definition| &definition.node);
            defined.find(|definition| definition.name.node == *name)?.default_value()
        };
        self.variables.get(name).or_else(default).map(ArgumentValue::Variable)
    }

    /// The values of the members of an input object. Empty for any other value.
    fn object_member_values(&self, object: ArgumentValue<'r>) -> Vec<ArgumentValue<'r>> {
        match object {
            ArgumentValue::Literal(Value::Object(members)) => {
                members.values().filter_map(|value| self.resolve_variable(value)).collect()
            }
            ArgumentValue::Variable(ConstValue::Object(members)) => {
                members.values().map(ArgumentValue::Variable).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The number of items of a list, and 0 for any other value.
fn list_length(value: ArgumentValue<'_>) -> u64 {
    match value {
        ArgumentValue::Literal(Value::List(items)) => items.len() as u64,
        ArgumentValue::Variable(ConstValue::List(items)) => items.len() as u64,
        _ => 0,
    }
}

fn to_integer(value: ArgumentValue<'_>) -> Option<i64> {
    match value {
        ArgumentValue::Literal(Value::Number(number))
        | ArgumentValue::Variable(ConstValue::Number(number)) => number.as_i64(),
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
        highest_operation_cost(&document, operations, &variables)
    }

    #[test]
    fn a_read_costs_one_point_and_one_more_for_each_started_hundred_of_entries() {
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
    fn a_write_costs_one_point_per_item_and_an_imported_item_a_tenth() {
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
    fn arguments_count_as_literals_as_variables_and_as_defaults() {
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
    fn fragments_are_spread_and_skipped_fields_count() {
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
    fn the_most_expensive_of_several_operations_counts() {
        let both = "query A { viewer { userId } } query B { changes { cursor } }";
        assert_eq!(of(both, json!({})), 6);
        let document = parse_query("{ viewer { userId } }").expect("parses");
        assert_eq!(highest_operation_cost(&document, std::iter::empty(), &Variables::default()), 1);
    }
}
