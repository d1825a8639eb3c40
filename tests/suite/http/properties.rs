//! Tests that `properties` are read alike however they are sent: inside an item, as a variable of their own,
//! or in the document.

use serde_json::{Value, json};

use super::post;
use crate::harness::{Client, TestServer, on_both};

on_both!(properties_are_read_alike_however_they_are_sent);

/// The ways to send an event: the variable that the document declares, the input of its mutation, and the
/// variables.
const WAYS: [[&str; 3]; 4] = [
    ["$event: EventInput!", "{ event: $event }", r#"{"event":EVENT}"#],
    ["$input: CreateEventInput!", "$input", r#"{"input":{"event":EVENT}}"#],
    ["$free: JSONObject", "{ event: LITERAL }", r#"{"free":JSON}"#],
    ["$properties: JSONObject", "{ event: LITERAL }", r#"{"properties":JSON}"#],
];

/// Creates an event with this JSON as its `properties`. Returns the result, or the response if it has errors.
async fn create(client: &Client, kind: &str, [declared, input, variables]: [&str; 3], json: &str) -> Value {
    let name = declared.split(':').next().unwrap();
    let event = format!(
        "{{\"eventTypeId\":\"{kind}\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"properties\":{json}}}"
    );
    let literal =
        format!("{{ eventTypeId: \"{kind}\", timestamp: \"2026-01-01T00:00:00Z\", properties: {name} }}");
    let document = format!(
        "mutation({declared}) {{ createEvent(input: {}) {{ result {{ outcome problem {{ code }} \
         event {{ properties }} }} }} }}",
        input.replace("LITERAL", &literal)
    );
    let variables = variables.replace("EVENT", &event).replace("JSON", json);
    let body = format!("{{\"query\":{},\"variables\":{variables}}}", json!(document));
    let mut response = post(client, "application/json", body).await.1;
    if response.get("errors").is_some() { response } else { response["data"]["createEvent"]["result"].take() }
}

async fn properties_are_read_alike_however_they_are_sent(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let nested = r#"{"b":1.0,"a":"é\n\"{[\\","properties":{"properties":{"z":[-1,{"properties":null}]}}}"#;
    let mut same: Value = serde_json::from_str(nested).unwrap();
    same["b"] = json!(1);
    let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let refused = [
        (r#"{"a":{"properties":{"b":1,"b":2}}}"#.to_owned(), "INVALID_JSON"),
        ("[1]".to_owned(), "INVALID_JSON"),
        ("\"{}\"".to_owned(), "INVALID_JSON"),
        ("7".to_owned(), "INVALID_JSON"),
        (r#"{"a":"\u0000"}"#.to_owned(), "NUL_CHARACTER"),
        (deep(9), "TOO_DEEP"),
    ];
    for way in WAYS {
        for (json, expected) in [(nested, &same), ("{ }", &json!({})), ("null", &json!({}))] {
            let result = create(&client, &kind, way, json).await;
            assert_eq!(result["outcome"], "CREATED", "{way:?} {json}: {result}");
            assert_eq!(result["event"]["properties"], *expected, "{way:?} {json}");
        }
        for (json, code) in &refused {
            let result = create(&client, &kind, way, json).await;
            assert_eq!(result["problem"]["code"], *code, "{way:?} {json}: {result}");
        }
        let response = create(&client, &kind, way, &deep(40)).await;
        assert_eq!(
            response["errors"][0]["extensions"]["limit"]["name"], "variables depth",
            "{way:?}: {response}"
        );
    }
    // Inside an item, a number beyond all 64-bit floats is a problem of that item.
    for way in &WAYS[..2] {
        let result = create(&client, &kind, *way, r#"{"a":1e400}"#).await;
        assert_eq!(result["problem"]["code"], "INVALID_JSON", "{way:?}: {result}");
    }
}
