//! Tests creates whose ids, types or external ids are known already, alone and in batches: the cases in which
//! a create cannot be decided as if everything of it were new.

use serde_json::{Value, json};

use super::{outcome, problems, write};
use crate::harness::{Client, TestServer, event, new_id, on_both};

on_both!(
    an_id_that_is_used_for_something_else_is_recognized_alone_and_in_a_batch,
    a_type_is_found_by_its_alias_alone_and_in_a_batch,
    an_event_of_a_deleted_type_is_rejected_alone_and_in_a_batch,
    a_batch_is_decided_over_all_types_that_it_names,
    the_stored_event_is_shown_if_other_content_is_sent_alone_and_in_a_batch,
);

/// Creates an event alone, and another one in a batch with a new event. Returns both results.
async fn create_alone_and_in_batch(client: &Client, alone: &Value, other: &Value, kind: &str) -> [Value; 2] {
    let first = write(client, "createEvent", json!({ "event": alone })).await;
    let mut batch = client.create(&[event(kind), other.clone()]).await;
    assert_eq!(batch["results"][0]["outcome"], "CREATED", "the new event is stored in any case");
    [first, batch["results"][1].take()]
}

/// Adds an id that stands for the type `name`.
async fn alias_of_type(client: &Client, name: &str) -> String {
    let alias = new_id();
    let sent = json!({ "eventType": { "id": alias, "name": name } });
    assert_eq!(write(client, "createEventType", sent).await["outcome"], "DUPLICATE");
    alias
}

async fn an_id_that_is_used_for_something_else_is_recognized_alone_and_in_a_batch(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (alias, other_type) = (alias_of_type(&client, "run").await, client.event_type("walk").await);
    for taken in [alias, other_type] {
        let mut wrong = event(&kind);
        wrong["id"] = json!(taken);
        for result in create_alone_and_in_batch(&client, &wrong, &wrong, &kind).await {
            assert_eq!(problems(&result), [("/id", "ID_IN_USE")]);
        }
    }
    let (mut stored, mut renamed) = (event(&kind), event(&kind));
    stored["externalId"] = json!("x");
    renamed["externalId"] = json!("x");
    for sent in [&stored, &renamed] {
        write(&client, "createEvent", json!({ "event": sent })).await;
    }
    let mut by_alias = event(&kind);
    by_alias["id"] = renamed["id"].clone();
    for result in create_alone_and_in_batch(&client, &by_alias, &by_alias, &kind).await {
        assert_eq!((&result["outcome"], &result["matchedBy"]), (&json!("DUPLICATE"), &json!("ID")));
        assert_eq!(result["event"]["id"], stored["id"]);
    }
}

async fn a_type_is_found_by_its_alias_alone_and_in_a_batch(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let alias = alias_of_type(&client, "run").await;
    let sent = [event(&alias), event(&alias)];
    for result in create_alone_and_in_batch(&client, &sent[0], &sent[1], &alias).await {
        assert_eq!(outcome(&result), ("CREATED", Some(1)));
    }
    let query = "query($f: EventFilter) { events(first: 10, filter: $f) { nodes { eventTypeId } } }";
    for (id, events) in [(&kind, 3), (&alias, 3), (&new_id(), 0)] {
        let found = client.ask(query, json!({ "f": { "eventTypeIds": [id] } })).await;
        let nodes = found["events"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), events, "{id}");
        assert!(nodes.iter().all(|node| node["eventTypeId"] == json!(kind)));
    }
}

async fn an_event_of_a_deleted_type_is_rejected_alone_and_in_a_batch(server: &TestServer) {
    let client = server.client("ann");
    let (kind, deleted) = (client.event_type("run").await, client.event_type("walk").await);
    write(&client, "deleteEventType", json!({ "id": deleted })).await;
    for result in create_alone_and_in_batch(&client, &event(&deleted), &event(&deleted), &kind).await {
        assert_eq!(problems(&result), [("/eventTypeId", "EVENT_TYPE_NOT_FOUND")]);
    }
}

/// One of the events here is new, but the other items depend on a type that it does not have.
async fn a_batch_is_decided_over_all_types_that_it_names(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut by_alias = event(&alias_of_type(&client, "run").await);
    let first = event(&kind);
    by_alias["id"] = first["id"].clone();
    let results = client.create(&[first, by_alias]).await["results"].take();
    assert_eq!((&results[0]["outcome"], &results[1]["outcome"]), (&json!("CREATED"), &json!("DUPLICATE")));
    assert_eq!(results[1]["differs"], false, "the alias stands for the same type");

    let unknown = new_id();
    let (first, mut same, mut named) = (event(&kind), event(&unknown), event(&kind));
    same["id"] = first["id"].clone();
    named["id"] = json!(unknown);
    let results = client.create(&[first, same, named]).await["results"].take();
    let outcomes = [0, 1, 2].map(|at| results[at]["outcome"].clone());
    assert_eq!(outcomes, ["CREATED", "DUPLICATE", "CREATED"]);
}

/// The stored events have all of their fields, or none that may be missing. They are sent again with other notes,
/// and with another type.
async fn the_stored_event_is_shown_if_other_content_is_sent_alone_and_in_a_batch(server: &TestServer) {
    let client = server.client("ann");
    let (kind, other_kind) = (client.event_type("run").await, client.event_type("walk").await);
    let bare = json!({ "id": new_id(), "eventTypeId": kind, "timestamp": "1969-12-31T23:59:59.999Z" });
    let full = json!({
        "id": new_id(), "eventTypeId": kind, "timestamp": "2026-01-02T00:00:00Z", "endDate": "2026-01-03T00:00:00Z",
        "isAllDay": true, "timeZone": "Europe/Berlin", "notes": "(a, \"b\") \\ c", "sourceType": "watch",
        "externalId": "lap 7", "properties": { "b": [0.1, null], "a": "\u{1f600}" },
        "location": { "latitude": -0.1, "longitude": 1e-7, "name": "" },
    });
    let create = "mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { results { \
        outcome differs version event { id eventTypeId eventType { id name } timestamp endDate isAllDay timeZone \
        notes sourceType externalId location { latitude longitude name } properties importJobId createdAt \
        updatedAt } } } }";
    let stored =
        client.ask(create, json!({ "events": [bare, full] })).await["createEvents"]["results"].take();
    assert_eq!((&stored[0]["outcome"], &stored[1]["outcome"]), (&json!("CREATED"), &json!("CREATED")));
    let change = |event: &Value, field: &str, value: &str| {
        let mut event = event.clone();
        event[field] = json!(value);
        event
    };
    for (field, value) in [("notes", "other"), ("eventTypeId", other_kind.as_str())] {
        let [bare, full] = [&bare, &full].map(|event| change(event, field, value));
        for (at, sent) in [(0, vec![bare.clone()]), (1, vec![full.clone()]), (0, vec![bare, full])] {
            let again = client.ask(create, json!({ "events": sent })).await["createEvents"]["results"].take();
            for (result, stored) in again.as_array().unwrap().iter().zip(&stored.as_array().unwrap()[at..]) {
                assert_eq!((&result["outcome"], &result["differs"]), (&json!("DUPLICATE"), &json!(true)));
                assert_eq!(result["event"], stored["event"], "{field}");
            }
        }
    }
}
