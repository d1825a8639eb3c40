//! Tests real files of users. Beside each file in `tests/data/field` is a JSON file with the expected result.
//! A new bug report adds such a pair.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::import;
use crate::harness::{TestServer, on_both};

on_both!(every_file_has_its_expected_result);

/// A file and its expected result.
pub(super) struct Expected {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) expected: Value,
}

impl Expected {
    pub(super) fn of(path: &std::path::Path) -> Self {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = serde_json::from_slice(&std::fs::read(expectation(path)).unwrap()).unwrap();
        Self { name, bytes: std::fs::read(path).unwrap(), expected }
    }
}

/// Returns the paths of all files that have an expected result.
pub(super) fn files() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/field");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| expectation(path).exists());
    files.sort();
    assert!(files.len() > 30, "{} files", files.len());
    files
}

/// Returns the path of the file with the expected result.
fn expectation(path: &std::path::Path) -> PathBuf {
    PathBuf::from(format!("{}.json", path.display()))
}

/// Returns the event in the form of the expectations: without empty fields, and with the name of its type.
pub(super) fn plain(mut event: Value) -> Value {
    let fields = event.as_object_mut().unwrap();
    let kind = fields.remove("eventType").unwrap();
    fields.insert("eventType".to_owned(), kind["name"].clone());
    if let Some(place) = fields.get_mut("location").and_then(Value::as_object_mut) {
        place.retain(|_, value| !value.is_null());
    }
    fields.retain(|_, value| !value.is_null());
    event
}

pub(super) fn sorted(mut events: Vec<Value>) -> Vec<Value> {
    events.sort_by_key(Value::to_string);
    events
}

async fn every_file_has_its_expected_result(server: &TestServer) {
    for path in files() {
        let Expected { name, bytes, expected } = Expected::of(&path);
        let client = server.client(&name);
        let format = expected["import"]["format"].as_str().unwrap();
        let csv = expected["import"].get("csv").cloned();
        let job = import(&client, format, csv, &bytes).await;
        let problem = expected.get("problem").unwrap_or(&Value::Null);
        let state = if problem.is_null() { "COMPLETED" } else { "FAILED" };
        assert_eq!((&job["state"], &job["problem"]), (&json!(state), problem), "{name}: {job}");
        let rejections: Vec<Value> = job["rejections"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| json!({ "record": node["record"], "code": node["code"], "pointer": node["pointer"] }))
            .collect();
        assert_eq!(json!(rejections), expected["rejections"], "{name}: {}", job["rejections"]);
        let query = "{ events(first: 1000) { nodes { timestamp endDate timeZone notes sourceType externalId properties \
            eventType { name } location { latitude longitude name } } } }";
        let mut read = client.ask(query, json!({})).await;
        let read: Vec<Value> = serde_json::from_value(read["events"]["nodes"].take()).unwrap();
        let wanted: Vec<Value> = serde_json::from_value(expected["events"].clone()).unwrap();
        assert_eq!(sorted(read.into_iter().map(plain).collect()), sorted(wanted), "{name}");
        // The same file again adds nothing.
        let csv = expected["import"].get("csv").cloned();
        let again = import(&client, format, csv, &bytes).await;
        assert_eq!(again["counts"]["inserted"], 0, "{name}: {again}");
    }
}
