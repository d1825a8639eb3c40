//! Tests values that the grammar of JSON allows and that no parser can represent: half surrogate pairs, and
//! numbers beyond all floats. Each is a problem of its item and not of the whole request.

use serde_json::{Value, json};

use super::post;
use crate::harness::{Client, TestServer, event, new_id, on_both};

on_both!(
    half_a_surrogate_pair_in_any_field_rejects_only_its_item,
    a_number_beyond_floats_rejects_only_its_item,
    literals_are_read_as_variables_are,
    an_import_of_events_does_not_depend_on_white_space,
    records_with_such_values_are_rejected_alone,
    outside_of_items_the_request_is_refused,
);

const CREATE: &str = "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created results { outcome \
    sentId problem { code detail errors { pointer code } } } } }";

/// Sends events that are given as JSON text. Returns the status and the response.
async fn create(client: &Client, events: &str) -> (u16, Value) {
    let body = format!("{{\"query\":{},\"variables\":{{\"e\":{events}}}}}", json!(CREATE));
    post(client, "application/json", body).await
}

async fn half_a_surrogate_pair_in_any_field_rejects_only_its_item(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut events: Vec<String> = (0..500).map(|_| event(&kind).to_string()).collect();
    let expected = [
        ("notes", "/notes", "INVALID_VALUE"),
        ("externalId", "/externalId", "INVALID_VALUE"),
        ("sourceType", "/sourceType", "INVALID_VALUE"),
        ("timeZone", "/timeZone", "INVALID_VALUE"),
        ("id", "/id", "INVALID_UUID"),
        ("eventTypeId", "/eventTypeId", "INVALID_UUID"),
        ("timestamp", "/timestamp", "INVALID_DATETIME"),
        ("endDate", "/endDate", "INVALID_DATETIME"),
    ];
    for (index, (field, _, _)) in expected.iter().enumerate() {
        let mut one = event(&kind);
        one[field] = json!("X");
        events[index] = one.to_string().replace("\"X\"", "\"cut \\ud83d\"");
    }
    let properties = event(&kind).to_string().replacen('{', "{\"properties\":{\"a\":[\"\\udc00\"]},", 1);
    let named = "{\"location\":{\"latitude\":1,\"longitude\":2,\"name\":\"\\ud800x\"},";
    events[8] = properties;
    events[9] = event(&kind).to_string().replacen('{', named, 1);
    let (status, response) = create(&client, &format!("[{}]", events.join(","))).await;
    let payload = &response["data"]["createEvents"];
    assert_eq!((status, &payload["created"]), (200, &json!(490)), "{}", response["errors"]);
    let problem = |index: usize| {
        let problem = &payload["results"][index]["problem"];
        (problem["errors"][0]["pointer"].clone(), problem["code"].clone(), problem["detail"].to_string())
    };
    for (index, (_, pointer, code)) in expected.iter().enumerate() {
        let (actual_pointer, actual_code, detail) = problem(index);
        assert_eq!((actual_pointer, actual_code), (json!(pointer), json!(code)));
        assert!(*code != "INVALID_VALUE" || detail.contains("surrogate"), "{pointer}: {detail}");
    }
    for (index, pointer, code) in [(8, "/properties", "INVALID_JSON"), (9, "/location/name", "INVALID_VALUE")]
    {
        let (actual_pointer, actual_code, detail) = problem(index);
        assert_eq!((actual_pointer, actual_code), (json!(pointer), json!(code)), "{detail}");
        assert!(detail.contains("surrogate"), "{detail}");
    }
    // A complete pair is a valid character.
    let pair = event(&kind).to_string().replacen('{', "{\"properties\":{\"a\":\"\\ud83d\\ude00\"},", 1);
    assert_eq!(create(&client, &format!("[{pair}]")).await.1["data"]["createEvents"]["created"], 1);
}

async fn a_number_beyond_floats_rejects_only_its_item(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let with = |field: &str| event(&kind).to_string().replacen('{', &format!("{{{field},"), 1);
    let events = [
        with("\"location\":{\"latitude\":1e400,\"longitude\":2}"),
        with("\"properties\":{\"n\":-1e400}"),
        with("\"properties\":{\"n\":1.7976931348623157e308}"),
        event(&kind).to_string(),
    ];
    let (status, response) = create(&client, &format!("[{}]", events.join(","))).await;
    let payload = &response["data"]["createEvents"];
    assert_eq!((status, &payload["created"]), (200, &json!(2)), "{response}");
    let problem = |index: usize| {
        let problem = &payload["results"][index]["problem"];
        (problem["errors"][0]["pointer"].clone(), problem["code"].clone())
    };
    assert_eq!(problem(0), (json!("/location/latitude"), json!("OUT_OF_RANGE")));
    assert_eq!(problem(1), (json!("/properties"), json!("INVALID_JSON")));
    assert!(
        payload["results"][1]["problem"]["detail"].as_str().unwrap().contains("too large for a 64-bit float")
    );
    // Strings in the same request are stored as they were sent, even if they look like the replaced number.
    // So are the numbers of other requests.
    let odd = |n: &str| {
        with(&format!(
            "\"externalId\":\"{n}\",\"properties\":{{\"n\":{n},\"t\":\"1.7976931348623155e+00308\"}}"
        ))
    };
    let beyond = with("\"location\":{\"latitude\":1e400,\"longitude\":2}");
    for (events, expected) in [(vec![beyond, odd("5")], 1), (vec![odd("1.7976931348623155e308")], 1)] {
        let (_, response) = create(&client, &format!("[{}]", events.join(","))).await;
        assert_eq!(response["data"]["createEvents"]["created"], expected, "{response}");
    }
    let read = client.ask("{ events { nodes { externalId properties } } }", json!({})).await;
    let stored = |n: &str| {
        let nodes = read["events"]["nodes"].as_array().unwrap();
        nodes.iter().find(|event| event["externalId"] == n).unwrap()["properties"].clone()
    };
    assert_eq!(stored("5"), json!({ "n": 5, "t": "1.7976931348623155e+00308" }));
    assert_eq!(stored("1.7976931348623155e308")["n"], json!(1.797_693_134_862_315_5e308));
}

async fn literals_are_read_as_variables_are(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let one =
        |more: &str| format!("{{ eventTypeId: \"{kind}\", timestamp: \"2026-01-01T00:00:00Z\", {more} }}");
    let events = [
        one("notes: \"cut \\\\ud83d\""),
        one("notes: \"whole \\\\ud83d\\\\ude00\""),
        one("location: { latitude: 1e400, longitude: 2 }"),
        one("properties: { n: 1e400 }"),
        one("properties: { n: \"\\\\ud83d\" }"),
        one("notes: \"plain\""),
        // This escape belongs to the JSON of the body and not to the document.
        one("notes: \"cut \\ud83d\""),
    ];
    let document = format!(
        "mutation {{ createEvents(input: {{ events: [{}] }}) {{ results {{ outcome problem {{ code }} event {{ notes }} }} }} }}",
        events.join(", ")
    );
    let body = format!("{{\"query\":\"{}\"}}", document.replace('"', "\\\"").replace("\\\\\\\"", "\\\""));
    let (status, response) = post(&client, "application/json", body).await;
    let results = &response["data"]["createEvents"]["results"];
    assert_eq!(status, 200, "{response}");
    let codes: Vec<_> =
        (0..7).map(|index| results[index]["problem"]["code"].as_str().unwrap_or("")).collect();
    let expected = ["INVALID_VALUE", "", "OUT_OF_RANGE", "INVALID_JSON", "INVALID_JSON", "", "INVALID_VALUE"];
    assert_eq!(codes, expected, "{response}");
    assert_eq!(results[1]["event"]["notes"], "whole \u{1f600}");
}

async fn an_import_of_events_does_not_depend_on_white_space(server: &TestServer) {
    let client = server.client("ann");
    let query = "mutation($id: ID!, $e: [EventInput!]!) { importEvents(input: { id: $id, events: $e }) \
        { importJob { id } problem { code } } }";
    let kind = client.event_type("run").await;
    let nested = json!({ "a": { "eventTypeId": kind, "timestamp": "2026-01-01T00:00:00Z", "b": [1, { "c": "x\ny  z" }] } });
    let mut one = event(&kind);
    one["properties"] = nested.clone();
    let id = new_id();
    for indented in [true, false, true] {
        let events = json!([one]);
        let events =
            if indented { serde_json::to_string_pretty(&events).unwrap() } else { events.to_string() };
        let body = format!(
            "{{\"query\":{},\"variables\":{{\"id\":\"{id}\",\"e\":{}}}}}",
            json!(query),
            if indented { events.replace("  ", "\t \r\n") } else { events }
        );
        // White space inside a string stays as it is.
        let body = body.replace("x\\ny\t \r\nz", "x\\ny  z");
        let (status, response) = post(&client, "application/json", body).await;
        assert_eq!((status, &response["data"]["importEvents"]["problem"]), (200, &Value::Null), "{response}");
    }
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["counts"]["records"], &job["counts"]["inserted"]), (&json!(1), &json!(1)), "{job}");
    let read = client.ask("{ events { nodes { properties } } }", json!({})).await;
    assert_eq!(read["events"]["nodes"], json!([{ "properties": nested }]));
}

async fn records_with_such_values_are_rejected_alone(server: &TestServer) {
    let client = server.client("ann");
    let record =
        |more: &str| format!("{{\"eventType\":\"run\",\"timestamp\":\"2026-01-01T00:00:00Z\"{more}}}");
    let records = [
        record(",\"notes\":\"cut \\ud83d\""),
        record(",\"location\":{\"latitude\":1e400,\"longitude\":2}"),
        record(",\"properties\":{\"n\":1e400}"),
        record(",\"properties\":{\"n\":\"\\udc00\"}"),
        record(",\"\\ud83d\":1"),
        record(",\"notes\":\"whole \\ud83d\\ude00\""),
    ];
    let expected = [
        ("INVALID_VALUE", "/notes"),
        ("OUT_OF_RANGE", "/location/latitude"),
        ("INVALID_JSON", "/properties"),
        ("INVALID_JSON", "/properties"),
        ("INVALID_VALUE", "/\u{fffd}\u{fdd0}"),
    ];
    for (format, payload) in [("NDJSON", records.join("\n")), ("JSON", format!("[{}]", records.join(" , ")))]
    {
        let id = new_id();
        let input = json!({ "id": id, "format": format, "sizeBytes": payload.len() });
        let query = "mutation($i: CreateImportInput!) { createImport(input: $i) { problem { code } } }";
        client.ask(query, json!({ "i": input })).await;
        client.put(&id, None, payload.into_bytes()).await;
        let job = client.wait_for_end(&id).await;
        let rejections: Vec<_> = job["rejections"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| (node["code"].as_str().unwrap(), node["pointer"].as_str().unwrap()))
            .collect();
        assert_eq!(rejections, expected, "{format}");
        assert_eq!(job["counts"]["rejected"], 5, "{format}");
    }
    let read = client.ask("{ events { nodes { notes } } }", json!({})).await;
    assert_eq!(read["events"]["nodes"], json!([{ "notes": "whole \u{1f600}" }]));
}

async fn outside_of_items_the_request_is_refused(server: &TestServer) {
    let client = server.client("ann");
    let ask = async |variables: &str| {
        let query = "query($f: EventFilter) { events(filter: $f) { nodes { id } } }";
        let body = format!("{{\"query\":{},\"variables\":{variables}}}", json!(query));
        let (_, response) = post(&client, "application/json", body).await;
        response["errors"][0]["extensions"]["code"].clone()
    };
    for filter in ["{\"search\":\"cut \\ud83d\"}", "{\"from\":\"\\ud83d\"}"] {
        assert_eq!(ask(&format!("{{\"f\":{filter}}}")).await, "BAD_USER_INPUT", "{filter}");
    }
    assert_eq!(ask("{\"f\":{\"search\":NaN}}").await, "BAD_USER_INPUT");
    assert_eq!(ask("{\"f\":{\"search\":\"cut \\ud83\"}}").await, "BAD_USER_INPUT");
}
