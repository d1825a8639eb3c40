//! Runs the examples of `docs/guides/statistics.md` as they stand there.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::ask;
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(the_examples_of_the_guide_are_right);

/// The events of one type that the examples are about: begin, end, whether they are all-day, and properties.
fn events_of(kind: &str) -> Vec<(&'static str, Option<&'static str>, bool, Value)> {
    let steps = |number: u32, source: &str| json!({ "value": number, "unit": "steps", "sourceName": source });
    let none = || json!({});
    match kind {
        "steps" => vec![
            ("2026-03-28T08:00:00+01:00", None, false, steps(5_000, "watch")),
            ("2026-03-28T08:00:00+01:00", None, false, steps(5_100, "phone")),
            ("2026-03-28T23:30:00+01:00", None, false, steps(4_000, "watch")),
            ("2026-03-29T08:00:00+02:00", None, false, steps(4_000, "phone")),
        ],
        "sleep" => vec![
            ("2026-01-10T23:00:00-05:00", Some("2026-01-11T07:00:00-05:00"), false, none()),
            ("2026-01-12T00:30:00-05:00", Some("2026-01-12T07:30:00-05:00"), false, none()),
            ("2026-01-12T23:00:00-05:00", Some("2026-01-13T07:00:00-05:00"), false, none()),
        ],
        "coffee" => vec![
            ("2026-01-05T08:15:00+05:45", None, false, none()),
            ("2026-01-12T08:59:59+05:45", None, false, none()),
            ("2026-01-09T15:00:00+05:45", None, false, none()),
            ("2026-01-19T00:00:00Z", None, true, none()),
        ],
        "weight" => vec![
            ("2026-01-05T07:00:00Z", None, false, json!({ "value": 72, "unit": "kg" })),
            ("2026-01-25T07:00:00Z", None, false, json!({ "value": 71, "unit": "kg" })),
            ("2026-01-26T07:00:00Z", None, false, json!({ "value": 158, "unit": "lb" })),
            ("2026-03-31T22:30:00Z", None, false, json!({ "value": 70, "unit": "kg" })),
        ],
        _ => vec![
            ("2025-06-01T07:00:00+12:00", Some("2025-06-01T07:30:00+12:00"), false, distance(5.0)),
            ("2025-12-31T23:30:00Z", Some("2026-01-01T00:00:00Z"), false, distance(7.5)),
            ("2026-02-01T07:00:00+13:00", Some("2026-02-01T07:30:00+13:00"), false, distance(10.0)),
        ],
    }
}

fn distance(km: f64) -> Value {
    json!({ "distance": km, "distanceUnit": "km", "value": 3 })
}

/// The JSON blocks of the page, in pairs of a question and its answer.
fn examples() -> Vec<(Value, Value)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/statistics.md");
    let page = fs::read_to_string(path).unwrap();
    let blocks = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let blocks: Vec<Value> = blocks.map(|block| serde_json::from_str(block).unwrap()).collect();
    blocks.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// Whether `actual` has everything that `shown` has.
fn has(actual: &Value, shown: &Value) -> bool {
    match (actual, shown) {
        (Value::Object(actual), Value::Object(shown)) => {
            shown.iter().all(|(name, shown)| actual.get(name).is_some_and(|actual| has(actual, shown)))
        }
        (Value::Array(actual), Value::Array(shown)) => {
            actual.len() == shown.len() && actual.iter().zip(shown).all(|(actual, shown)| has(actual, shown))
        }
        (Value::Number(actual), Value::Number(shown)) => actual.as_f64() == shown.as_f64(),
        (actual, shown) => actual == shown,
    }
}

async fn store_events(client: &Client, kind: &str) -> String {
    let id = client.event_type(kind).await;
    let events = events_of(kind).into_iter().map(|(timestamp, end, is_all_day, properties)| {
        json!({
            "id": new_id(), "eventTypeId": id, "timestamp": timestamp, "endDate": end, "isAllDay": is_all_day,
            "properties": properties,
        })
    });
    client.create(&events.collect::<Vec<_>>()).await;
    id
}

async fn the_examples_of_the_guide_are_right(server: &TestServer) {
    let client = server.client("ann");
    let mut ids = Vec::new();
    for kind in ["steps", "sleep", "coffee", "weight", "run"] {
        ids.push((kind, store_events(&client, kind).await));
    }
    let examples = examples();
    assert_eq!(examples.len(), 5);
    for (mut question, shown) in examples {
        let name = question["filter"]["eventTypeIds"][0].as_str().unwrap();
        let (_, id) = ids.iter().find(|(kind, _)| *kind == name).unwrap();
        question["filter"]["eventTypeIds"] = json!([id]);
        let answer = ask(&client, question.clone()).await;
        assert!(has(&answer["buckets"], &shown), "{question:#}\nanswer: {:#}", answer["buckets"]);
    }
}
