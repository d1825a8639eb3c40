//! Tests which questions are refused, with which pointers and limits.

use serde_json::{Value, json};

use super::{ask, refused};
use crate::harness::{TestServer, new_id, on_both};

on_both!(
    wrong_fields_are_named_by_their_pointers,
    limits_are_refused_with_the_way_out,
    retired_names_of_zones_and_nulls_are_accepted,
    measures_that_are_no_numbers_count_nothing,
);

/// A question with these fields, which are added to a correct one.
fn question(fields: Value) -> Value {
    let mut question = json!({ "timeZone": "UTC" });
    question.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    question
}

async fn wrong_fields_are_named_by_their_pointers(server: &TestServer) {
    let client = server.client("ann");
    let measure = |property: &str| json!({ "property": property });
    let long = "k".repeat(65);
    for (fields, errors) in [
        (json!({ "timeZone": "Mars/Olympus" }), vec![("/timeZone", "UNKNOWN_TIME_ZONE")]),
        (json!({ "timeZone": "" }), vec![("/timeZone", "UNKNOWN_TIME_ZONE")]),
        (json!({ "timeZone": "utc+1" }), vec![("/timeZone", "UNKNOWN_TIME_ZONE")]),
        (json!({ "dayStartMinutes": -1 }), vec![("/dayStartMinutes", "OUT_OF_RANGE")]),
        (json!({ "dayStartMinutes": 1440 }), vec![("/dayStartMinutes", "OUT_OF_RANGE")]),
        (json!({ "groupBy": ["WEEKDAY", "WEEKDAY"] }), vec![("/groupBy/1", "INVALID_VALUE")]),
        (json!({ "groupBy": [] }), vec![("/groupBy", "INVALID_VALUE")]),
        (json!({ "measures": [] }), vec![("/measures", "INVALID_VALUE")]),
        (json!({ "preferSources": [] }), vec![("/preferSources", "INVALID_VALUE")]),
        (
            json!({ "measures": [measure("a"), measure("a")] }),
            vec![("/measures/1/property", "INVALID_VALUE")],
        ),
        (json!({ "measures": [measure("")] }), vec![("/measures/0/property", "INVALID_VALUE")]),
        (json!({ "measures": [measure(&long)] }), vec![("/measures/0/property", "TOO_LONG")]),
        (
            json!({ "measures": [{ "property": "a", "unitProperty": "" }] }),
            vec![("/measures/0/unitProperty", "INVALID_VALUE")],
        ),
        (json!({ "measures": [measure("a\0")] }), vec![("/measures/0/property", "NUL_CHARACTER")]),
        (json!({ "sourceProperty": "" }), vec![("/sourceProperty", "INVALID_VALUE")]),
        (json!({ "preferSources": ["a", "s".repeat(256)] }), vec![("/preferSources/1", "TOO_LONG")]),
        (json!({ "filter": { "eventTypeIds": [] } }), vec![("/filter/eventTypeIds", "INVALID_VALUE")]),
        (json!({ "filter": { "from": "yesterday" } }), vec![("/filter/from", "INVALID_DATETIME")]),
        (json!({ "filter": { "search": "a" } }), vec![("/filter/search", "INVALID_VALUE")]),
        (
            json!({ "timeZone": "x", "dayStartMinutes": 9999, "measures": [measure("")], "filter": { "to": "x" } }),
            vec![
                ("/timeZone", "UNKNOWN_TIME_ZONE"),
                ("/dayStartMinutes", "OUT_OF_RANGE"),
                ("/measures/0/property", "INVALID_VALUE"),
                ("/filter/to", "INVALID_DATETIME"),
            ],
        ),
    ] {
        let extensions = refused(&client, question(fields.clone())).await;
        assert_eq!(extensions["code"], "BAD_USER_INPUT", "{fields}");
        assert_eq!(extensions["errors"], Value::Null, "they are in the problem");
        let found: Vec<(&str, &str)> = extensions["problem"]["errors"]
            .as_array()
            .unwrap_or_else(|| panic!("{fields}: {extensions}"))
            .iter()
            .map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap()))
            .collect();
        assert_eq!(found, errors, "{fields}");
        assert!(
            extensions["problem"]["errors"][0]["detail"].as_str().is_some_and(|detail| !detail.is_empty())
        );
    }
}

async fn limits_are_refused_with_the_way_out(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let event = |timestamp: &str, properties: Value| json!({ "id": new_id(), "eventTypeId": kind, "timestamp": timestamp, "properties": properties });
    client
        .create(&[event("1970-01-02T00:00:00Z", json!({})), event("2026-01-02T00:00:00Z", json!({}))])
        .await;
    let measures: Vec<Value> = (0..4).map(|number| json!({ "property": number.to_string() })).collect();
    let ends = json!({ "from": "1900-01-01T00:00:00Z", "to": "2099-12-31T00:00:00Z" });
    for (fields, name, max) in [
        (json!({ "groupBy": ["WEEKDAY", "HOUR_OF_DAY", "SOURCE_TYPE"] }), "stats groups", 2),
        (json!({ "measures": measures }), "stats measures", 3),
        (json!({ "preferSources": vec!["a"; 21] }), "stats sources", 20),
        (json!({ "granularity": "DAY" }), "stats buckets", 5_000),
        (json!({ "granularity": "HOUR" }), "stats buckets", 5_000),
        (json!({ "granularity": "DAY", "fill": true, "filter": ends }), "stats buckets", 5_000),
        (json!({ "granularity": "HOUR", "fill": true, "filter": ends }), "stats buckets", 5_000),
        (json!({ "filter": { "sourceTypes": vec!["a"; 501] } }), "filter", 500),
    ] {
        let extensions = refused(&client, question(fields.clone())).await;
        assert_eq!(extensions["code"], "LIMIT_EXCEEDED", "{fields}");
        assert_eq!(extensions["limit"], json!({ "name": name, "max": max }), "{fields}");
        assert!(extensions["problem"]["detail"].as_str().unwrap().contains(':'), "it says what to do");
    }
    let months = ask(&client, question(json!({ "granularity": "MONTH" }))).await;
    assert_eq!(months["buckets"].as_array().unwrap().len(), 2);
    let filled = ask(&client, question(json!({ "granularity": "MONTH", "fill": true }))).await;
    assert_eq!(filled["buckets"].as_array().unwrap().len(), 56 * 12 + 1);

    // Each unit is a row of its own.
    for part in 0..21 {
        let events: Vec<Value> = (0..500)
            .map(|number| {
                event("2026-01-02T00:00:00Z", json!({ "value": 1, "unit": format!("{part}-{number}") }))
            })
            .collect();
        client.create(&events).await;
    }
    for property in ["value", "value "] {
        let fields = json!({ "measures": [{ "property": property }] });
        if property == "value" {
            let extensions = refused(&client, question(fields)).await;
            assert_eq!(extensions["limit"], json!({ "name": "stats rows", "max": 10_000 }));
        } else {
            assert_eq!(ask(&client, question(fields)).await["total"]["measures"], json!([]));
        }
    }
    let preferred = json!({
        "measures": [{ "property": "value" }], "preferSources": ["manual"], "sourceProperty": "x",
    });
    assert_eq!(refused(&client, question(preferred)).await["limit"]["name"], "stats rows");
}

async fn retired_names_of_zones_and_nulls_are_accepted(server: &TestServer) {
    let client = server.client("ann");
    for fields in [
        json!({ "timeZone": "Asia/Calcutta" }),
        json!({ "timeZone": "US/Pacific" }),
        json!({
            "filter": null, "granularity": null, "dayStartMinutes": null, "weekStart": null, "groupBy": null,
            "measures": null, "fill": null, "preferSources": null, "sourceProperty": null,
        }),
        json!({ "measures": [{ "property": "value", "unitProperty": null }] }),
    ] {
        assert_eq!(ask(&client, question(fields)).await["total"]["count"], 0);
    }
    let types: Vec<String> = (0..500).map(|_| new_id()).collect();
    let answer = ask(&client, question(json!({ "filter": { "eventTypeIds": types } }))).await;
    assert_eq!(answer["total"]["count"], 0, "types of nobody count nothing");
}

async fn measures_that_are_no_numbers_count_nothing(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let unit = "u".repeat(3_000);
    let events: Vec<Value> = [
        json!({ "__proto__": 2, "constructor": 3, "value": { "value": 1 } }),
        json!({ "__proto__": "2", "value": "1" }),
        json!({ "value": 1, "unit": unit }),
        json!({ "value": [1], "unit": "kg" }),
    ]
    .into_iter()
    .map(|properties| {
        json!({ "id": new_id(), "eventTypeId": kind, "timestamp": "2026-01-02T00:00:00Z", "properties": properties })
    })
    .collect();
    client.create(&events).await;
    let measures = ["__proto__", "constructor", "value"].map(|property| json!({ "property": property }));
    let answer = ask(&client, question(json!({ "measures": measures }))).await;
    let sums: Vec<Value> = answer["total"]["measures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sum| json!([sum["property"], sum["unit"], sum["count"], sum["sum"]]))
        .collect();
    let expected =
        json!([["__proto__", null, 1, 2.0], ["constructor", null, 1, 3.0], ["value", null, 1, 1.0]]);
    assert_eq!(json!(sums), expected);
}
