//! Compares with the library: a request that is not validated must be one that would pass the validation.

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute};
use async_graphql::{Name, Request, Response, Value};
use serde_json::json;

use super::*;
use crate::graphql::{Schema, build_schema_for_validation_tests};

/// Ends each request that has passed the validation.
struct StopAfterValidation;

impl ExtensionFactory for StopAfterValidation {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait::async_trait]
impl Extension for StopAfterValidation {
    async fn execute(&self, _: &ExtensionContext<'_>, _: Option<&str>, _: NextExecute<'_>) -> Response {
        Response::new(Value::Null)
    }
}

/// Documents with valid variables, and whether the second request with them needs no validation.
fn examples() -> Vec<(&'static str, serde_json::Value, bool)> {
    let event = json!({
        "id": "019b7000-0000-7000-8000-000000000001", "eventTypeId": "x", "timestamp": "2026-01-01T00:00:00Z",
        "isAllDay": false, "notes": null, "location": { "latitude": 48.1, "longitude": 11 }, "properties": { "a": [1, null] },
    });
    let update = json!({ "id": "x", "patch": { "notes": null }, "expectedVersion": 2 });
    let input =
        json!({ "clientId": "phone", "mutations": [{ "createEvent": event }, { "updateEvent": update }] });
    vec![
        (
            "mutation C($input: CreateEventInput!) { createEvent(input: $input) { result { outcome } } }",
            json!({ "input": { "event": event, "clientId": "phone" } }),
            true,
        ),
        (
            "mutation($input: CreateEventsInput!) { createEvents(input: $input) { created } }",
            json!({ "input": { "events": [event, event] } }),
            true,
        ),
        (
            "mutation($input: ApplyMutationsInput!) { applyMutations(input: $input) { results { index } } }",
            json!({ "input": input }),
            true,
        ),
        (
            "query($first: Int = 5, $filter: EventFilter, $types: [ID!]!) { events(first: $first, filter: $filter) \
             { totalCount } nodes(ids: $types) { id } }",
            json!({ "first": 3, "filter": { "eventTypeIds": ["a"], "sourceTypes": null }, "types": ["b"] }),
            true,
        ),
        // With a default, a nullable variable may stand where null is not allowed.
        (
            "query($first: Int = 5, $id: ID = \"x\", $with: Boolean = true) { changes(first: $first) { cursor } \
             node(id: $id) @include(if: $with) { id } }",
            json!({ "first": 3, "id": "a", "with": false }),
            true,
        ),
        (
            "mutation($a: CreateEventInput!, $b: CreateEventInput = { event: { id: \"x\" } }) { \
             a: createEvent(input: $a) { result { outcome } } b: createEvent(input: $b) { result { outcome } } }",
            json!({ "a": { "event": event }, "b": { "event": event } }),
            true,
        ),
        // The variables stand within literals.
        (
            "query($from: DateTime, $type: ID!) { events(filter: { from: $from, eventTypeIds: [$type] }) \
             { totalCount } }",
            json!({ "from": "2026-01-01T00:00:00Z", "type": "a" }),
            false,
        ),
    ]
}

async fn passes_validation(schema: &Schema, text: &str, variables: &Variables) -> bool {
    schema.execute(Request::new(text).variables(variables.clone())).await.errors.is_empty()
}

/// A source of numbers that are the same in each run (xorshift64; Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).expect("it is small")
    }
}

/// Changes one value in the tree: replaces or removes it, or adds a field beside it.
fn mutate(value: &mut Value, random: &mut Random) {
    if random.below(4) > 0 {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let at = random.below(fields.len());
                if random.below(6) == 0 {
                    fields.swap_remove_index(at);
                } else {
                    mutate(&mut fields[at], random);
                }
                return;
            }
            Value::List(items) if !items.is_empty() => {
                let at = random.below(items.len());
                return mutate(&mut items[at], random);
            }
            _ => {}
        }
    }
    let values = [
        json!(null),
        json!(true),
        json!(7),
        json!(1.5),
        json!(-3_000_000_000_i64),
        json!("x"),
        json!([]),
        json!({}),
        json!([null]),
        json!(["x", 7]),
        json!({ "createEvent": null }),
        json!({ "id": "x" }),
    ];
    if let Value::Object(fields) = value
        && random.below(3) == 0
    {
        let names = ["id", "unknown", "clientId", "deleteEvent", "notes"];
        let new = values[random.below(values.len())].clone();
        fields
            .insert(Name::new(names[random.below(names.len())]), Value::from_json(new).expect("it is JSON"));
    } else {
        *value = Value::from_json(values[random.below(values.len())].clone()).expect("it is JSON");
    }
}

#[tokio::test]
async fn a_request_that_is_not_validated_would_pass_the_validation() {
    let schema = build_schema_for_validation_tests(StopAfterValidation);
    let documents = Documents::new(&schema.sdl());
    let mut random = Random(1);
    let (mut certain, mut uncertain) = (0, 0);
    for (text, variables, is_certain) in examples() {
        let valid = Value::from_json(variables).expect("it is JSON");
        let cached = documents.find_or_parse(text).expect("it is within the limits");
        let operation = || cached.document.operations.iter().next().expect("an operation").1;
        let is_certainly_valid = |value: &Value| {
            let variables = Variables::from_value(value.clone());
            documents.is_certainly_valid(&cached, &operation().node, &variables)
        };
        assert!(!is_certainly_valid(&valid), "no request with it was validated yet: {text}");
        assert!(passes_validation(&schema, text, &Variables::from_value(valid.clone())).await, "{text}");
        cached.mark_as_valid();
        assert_eq!(is_certainly_valid(&valid), is_certain, "{text}");
        for _ in 0..4_000 {
            let mut value = valid.clone();
            for _ in 0..=random.below(2) {
                mutate(&mut value, &mut random);
            }
            let variables = Variables::from_value(value.clone());
            if is_certainly_valid(&value) {
                certain += 1;
                assert!(passes_validation(&schema, text, &variables).await, "{text} with {value}");
            } else {
                uncertain += 1;
            }
        }
    }
    assert!(certain > 2_000 && uncertain > 2_000, "{certain} and {uncertain} of both kinds");
}

#[test]
fn a_variable_within_a_literal_is_found_wherever_it_stands() {
    let has_whole = |text: &str| {
        has_only_whole_variables(&query_limits::parse_document_within_limits(text).expect("it is a document"))
    };
    assert!(has_whole(
        "query($a: ID!) { node(id: $a) { id } events(filter: { search: \"x\" }) { totalCount } }"
    ));
    assert!(!has_whole("query($a: ID!) { nodes(ids: [$a]) { id } }"));
    assert!(!has_whole(
        "query($a: String) { ...f } fragment f on Query { events(filter: { search: $a }) { totalCount } }"
    ));
    assert!(!has_whole("query($a: Boolean) { events @include(if: [$a]) { totalCount } }"));
    assert!(!has_whole("query($a: Boolean) { ... @skip(if: [$a]) { events { totalCount } } }"));
    assert!(!has_whole(
        "query($a: String) { ... on Query { events(filter: { search: $a }) { totalCount } } }"
    ));
}
