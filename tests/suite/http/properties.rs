//! Free JSON is the same however it is sent: inside of an item, as a variable of its own, or in the document.

use serde_json::{Value, json};

use super::post;
use crate::harness::{Client, TestServer, on_both};

on_both!(free_json_is_the_same_however_it_is_sent);

/// What a document declares and takes as its input, and the variables that go with it.
const WAYS: [[&str; 3]; 4] = [
    ["$event: EventInput!", "{ event: $event }", r#"{"event":EVENT}"#],
    ["$input: CreateEventInput!", "$input", r#"{"input":{"event":EVENT}}"#],
    ["$free: JSONObject", "{ event: LITERAL }", r#"{"free":JSON}"#],
    ["$properties: JSONObject", "{ event: LITERAL }", r#"{"properties":JSON}"#],
];

/// The answer to a create of an event with this free JSON.
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
    let mut answer = post(client, "application/json", body).await.1;
    if answer.get("errors").is_some() { answer } else { answer["data"]["createEvent"]["result"].take() }
}

async fn free_json_is_the_same_however_it_is_sent(server: &TestServer) {
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
        let answer = create(&client, &kind, way, &deep(40)).await;
        assert_eq!(
            answer["errors"][0]["extensions"]["limit"]["name"], "variables depth",
            "{way:?}: {answer}"
        );
    }
    // Inside of an item a number beyond all floats is that item's problem.
    for way in &WAYS[..2] {
        let result = create(&client, &kind, *way, r#"{"a":1e400}"#).await;
        assert_eq!(result["problem"]["code"], "INVALID_JSON", "{way:?}: {result}");
    }
}
