//! Chunks of an import are decided ahead, on the assumption that their records are like those before them. Here
//! the assumption turns out to be wrong, for example because the user changes something in the meantime.

use std::sync::Arc;

use serde_json::{Value, json};

use super::manual_slices::{AfterChunk, create_queued, create_queued_with, samples, slice};
use crate::harness::{Client, TestServer, on_both};

on_both!(
    a_type_that_is_renamed_during_an_import_gets_no_further_events,
    a_type_that_takes_the_name_of_a_renamed_one_gets_the_further_events,
    an_event_that_the_user_creates_during_an_import_is_a_duplicate,
    records_that_come_twice_in_a_file_are_stored_once,
    a_new_type_in_a_later_chunk_is_created,
);

/// Returns a callback that sends these mutations, one after the other, after the chunk with this number.
fn write_after(client: &Client, number: usize, mutations: Vec<(&'static str, Value)>) -> AfterChunk {
    let client = client.clone();
    Arc::new(move |chunk| {
        let (client, mutations) = (client.clone(), mutations.clone());
        Box::pin(async move {
            for (field, input) in mutations.iter().filter(|_| chunk == number) {
                let kind = if field.ends_with("Type") { "EventType" } else { "Event" };
                let verb = field.strip_suffix(kind).unwrap();
                let verb = format!("{}{}", verb[..1].to_uppercase(), &verb[1..]);
                let query = format!(
                    "mutation($input: {verb}{kind}Input!) {{ {field}(input: $input) {{ result {{ outcome problem {{ code detail }} }} }} }}"
                );
                let result = client.ask(&query, json!({ "input": input })).await[*field]["result"].take();
                assert!(result["problem"].is_null(), "{result}");
            }
        })
    })
}

/// Returns the ids of the living event types by name.
async fn types(client: &Client) -> Value {
    let types = client.ask("{ eventTypes(first: 100) { nodes { id name } } }", json!({})).await;
    let nodes = types["eventTypes"]["nodes"].as_array().unwrap();
    nodes.iter().map(|node| (node["name"].as_str().unwrap().to_owned(), node["id"].clone())).collect()
}

/// Counts the living events of a type.
async fn count_events(client: &Client, type_id: &Value) -> Value {
    let query = "query($filter: EventFilter) { events(first: 1, filter: $filter) { totalCount } }";
    let found = client.ask(query, json!({ "filter": { "eventTypeIds": [type_id] } })).await;
    found["events"]["totalCount"].clone()
}

/// Imports a chunk, so that the type of the samples is stored, and returns its id.
async fn store_type_of_samples(client: &Client) -> Value {
    client.import_all(&crate::harness::new_id(), samples(9_000..9_500)).await;
    types(client).await["sample"].clone()
}

async fn a_type_that_is_renamed_during_an_import_gets_no_further_events(server: &TestServer) {
    let client = server.client("ann");
    let type_id = store_type_of_samples(&client).await;
    let id = create_queued(server, &client, 3_000).await;
    let rename = ("updateEventType", json!({ "id": type_id, "patch": { "name": "before" } }));
    slice(server, &id, write_after(&client, 3, vec![rename])).await;
    let job = client.import(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(3_000)));
    let types = types(&client).await;
    assert_eq!(types["before"], type_id);
    assert_eq!(count_events(&client, &types["before"]).await, 500 + 1_500);
    assert_eq!(count_events(&client, &types["sample"]).await, 1_500);
}

async fn a_type_that_takes_the_name_of_a_renamed_one_gets_the_further_events(server: &TestServer) {
    let client = server.client("ann");
    let type_id = store_type_of_samples(&client).await;
    let other = crate::harness::new_id();
    let id = create_queued(server, &client, 3_000).await;
    let mutations = vec![
        ("updateEventType", json!({ "id": type_id, "patch": { "name": "before" } })),
        ("createEventType", json!({ "eventType": { "id": other, "name": "sample" } })),
    ];
    slice(server, &id, write_after(&client, 2, mutations)).await;
    assert_eq!(client.import(&id).await["counts"]["inserted"], 3_000);
    assert_eq!(types(&client).await, json!({ "before": type_id, "sample": other }));
    assert_eq!(count_events(&client, &json!(other)).await, 2_000);
}

async fn an_event_that_the_user_creates_during_an_import_is_a_duplicate(server: &TestServer) {
    let client = server.client("ann");
    let type_id = store_type_of_samples(&client).await;
    let id = create_queued(server, &client, 3_000).await;
    // The first one is in the chunk that is decided already, the second one in the last chunk.
    let create = |number: usize| {
        let event = json!({
            "externalId": format!("s-{number}"), "eventTypeId": type_id,
            "timestamp": "2026-01-01T00:00:00Z",
        });
        ("createEvent", json!({ "event": event }))
    };
    slice(server, &id, write_after(&client, 2, vec![create(1_010), create(2_990)])).await;
    let job = client.import(&id).await;
    assert_eq!(job["state"], "COMPLETED", "{job}");
    assert_eq!(
        (&job["counts"]["inserted"], &job["counts"]["duplicates"]),
        (&json!(2_998), &json!(2)),
        "{job}"
    );
    assert_eq!(count_events(&client, &type_id).await, 3_500);
}

async fn records_that_come_twice_in_a_file_are_stored_once(server: &TestServer) {
    let client = server.client("ann");
    let payload = [
        samples(0..1_200),
        // The first ten repeat records of the same chunk, the next ten those of the first chunk.
        samples(1_100..1_110),
        samples(0..10),
        samples(1_200..2_200),
    ];
    let id = create_queued_with(server, &client, payload.concat()).await;
    slice(server, &id, write_after(&client, 0, Vec::new())).await;
    let counts = &client.import(&id).await["counts"];
    assert_eq!((&counts["inserted"], &counts["duplicates"]), (&json!(2_200), &json!(20)));
    let head = server.number("SELECT feed_head FROM account").await;
    assert_eq!(head, 2_201, "each event and the type have one position");
}

async fn a_new_type_in_a_later_chunk_is_created(server: &TestServer) {
    let client = server.client("ann");
    let other = String::from_utf8(samples(5_000..5_001)).unwrap().replace("\"sample\"", "\"other\"");
    let payload = [samples(0..1_700), other.into_bytes(), samples(1_700..3_000)];
    let id = create_queued_with(server, &client, payload.concat()).await;
    slice(server, &id, write_after(&client, 0, Vec::new())).await;
    assert_eq!(client.import(&id).await["counts"]["inserted"], 3_001);
    let types = types(&client).await;
    assert_eq!(count_events(&client, &types["other"]).await, 1);
    assert_eq!(count_events(&client, &types["sample"]).await, 3_000);
}
