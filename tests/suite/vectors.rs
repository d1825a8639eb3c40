//! Produces the answers in `clients/vectors`, which the client kits of all languages are tested with. The tests
//! compare them with the files; with `WRITE_VECTORS=1` they write the files instead.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Client, DatabaseKind, TestServer, event};

const APPLY: &str = "mutation($input: ApplyMutationsInput!) { applyMutations(input: $input) { results { \
    outcome version differs problem { code retryable retryAfterMs } \
    ... on EventResult { event { id eventTypeId timestamp endDate isAllDay timeZone notes sourceType externalId \
      location { latitude longitude name } properties importJobId } } \
    ... on EventTypeResult { eventType { id name color icon } } } } }";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../clients/vectors").join(name)
}

fn read(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path(name)).unwrap()).unwrap()
}

/// Compares what the server says with the file, or writes the file.
fn check(name: &str, produced: &Value) {
    if std::env::var_os("WRITE_VECTORS").is_some() {
        fs::write(path(name), format!("{}\n", serde_json::to_string_pretty(produced).unwrap())).unwrap();
    } else {
        assert_eq!(*produced, read(name), "clients/vectors/{name} is not what the server says");
    }
}

/// Applies mutations as one client. Returns the results as the kits take them.
async fn apply(client: &Client, input: &Value) -> Vec<Value> {
    let mut data = client.ask(APPLY, json!({ "input": input })).await;
    let results = data["applyMutations"]["results"].take();
    let Value::Array(results) = results else { panic!("no results") };
    results.into_iter().map(simplify).collect()
}

/// Gives the event and the event type of a result one name.
fn simplify(mut result: Value) -> Value {
    let found =
        [result["event"].take(), result["eventType"].take()].into_iter().find(|found| !found.is_null());
    json!({
        "outcome": result["outcome"], "version": result["version"], "differs": result["differs"],
        "problem": result["problem"], "stored": found,
    })
}

/// The item of `applyMutations` that an entry of an outbox is.
fn mutation(entry: &Value) -> Value {
    json!({ entry["kind"].as_str().unwrap(): entry["input"] })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_queued_writes_as_the_vectors_say() {
    let test_server = TestServer::open(DatabaseKind::Sqlite).await;
    let mut vectors = read("outcomes.json");
    for (number, case) in vectors["cases"].as_array_mut().unwrap().iter_mut().enumerate() {
        let client = test_server.client(&format!("case {number}"));
        for before in case["before"].as_array().unwrap() {
            let results = apply(&client, before).await;
            assert!(
                results.iter().all(|result| result["outcome"] != "REJECTED"),
                "{}: {results:?}",
                case["name"]
            );
        }
        let mutations: Vec<_> = case["entries"].as_array().unwrap().iter().map(mutation).collect();
        let results = apply(&client, &json!({ "clientId": "device", "mutations": mutations })).await;
        case["results"] = Value::Array(results);
    }
    check("outcomes.json", &vectors);
    test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_takes_the_ids_of_the_vectors_as_they_say() {
    let test_server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = test_server.client("ann");
    let event_type = client.event_type("run").await;
    let mut vectors = read("ids.json");
    for case in vectors["texts"].as_array_mut().unwrap() {
        let mut sent = event(&event_type);
        sent["id"] = case["text"].clone();
        let payload = client.create(&[sent]).await;
        case["code"] = payload["results"][0]["problem"]["code"].clone();
    }
    check("ids.json", &vectors);
    test_server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_computes_the_digests_of_the_vectors() {
    let test_server = TestServer::open(DatabaseKind::Sqlite).await;
    let mut vectors = read("digest.json");
    for (number, case) in vectors["cases"].as_array_mut().unwrap().iter_mut().enumerate() {
        let client = test_server.client(&format!("case {number}"));
        let event_type = client.event_type("run").await;
        for row in case["rows"].as_array().unwrap() {
            store(&client, &event_type, row).await;
        }
        let query = "{ syncDigest(entity: EVENT) { buckets { month count hash } } }";
        case["buckets"] = client.ask(query, json!({})).await["syncDigest"]["buckets"].take();
    }
    check("digest.json", &vectors);
    test_server.end().await;
}

/// Creates an event with this id and edits it until it has this version.
async fn store(client: &Client, event_type: &str, row: &Value) {
    let mut sent = event(event_type);
    sent["id"] = row["id"].clone();
    client.create(&[sent]).await;
    for version in 1..row["version"].as_i64().unwrap() {
        let patch = json!({ "notes": format!("edit {version}") });
        let edit = json!({ "updateEvent": { "id": row["id"], "patch": patch } });
        let results = apply(client, &json!({ "clientId": "device", "mutations": [edit] })).await;
        assert_eq!(results[0]["outcome"], "UPDATED");
    }
}
