//! Tests edits and deletions of event types.

use serde_json::{Value, json};

use super::{flush, head, outcome, problems, read, write};
use crate::harness::{TestServer, event, new_id, on_both};

on_both!(
    a_rename_keeps_the_fields_that_the_patch_does_not_name,
    a_patch_without_a_valid_name_is_a_problem_of_its_item,
    a_name_that_is_taken_is_refused,
    two_types_exchange_their_names_in_one_outbox,
    a_type_in_use_is_not_deleted_and_its_events_stay,
    a_type_in_use_is_not_deleted_by_an_alias_that_the_same_outbox_made,
    a_type_can_be_deleted_in_the_same_outbox_as_its_events,
    the_name_of_a_deleted_type_can_be_used_again_and_its_id_cannot,
    an_alias_can_be_used_for_its_type_in_edits_and_events,
    versions_and_edit_ids_guard_types_as_they_guard_events,
    a_refused_deletion_of_a_type_changes_nothing,
);

async fn rename(client: &crate::harness::Client, id: &str, name: &str) -> Value {
    write(client, "updateEventType", json!({ "id": id, "patch": { "name": name } })).await
}

async fn a_rename_keeps_the_fields_that_the_patch_does_not_name(server: &TestServer) {
    let client = server.client("ann");
    let id = new_id();
    let sent = json!({ "id": id, "name": "run", "color": "red", "icon": "shoe" });
    write(&client, "createEventType", json!({ "eventType": sent })).await;
    let renamed = rename(&client, &id, "  Lauf ").await;
    assert_eq!((outcome(&renamed), &renamed["matchedBy"]), (("UPDATED", Some(2)), &json!("ID")));
    let kind = &renamed["eventType"];
    assert_eq!(
        (&kind["name"], &kind["color"], &kind["icon"]),
        (&json!("Lauf"), &json!("red"), &json!("shoe"))
    );
    let cleared =
        write(&client, "updateEventType", json!({ "id": id, "patch": { "color": null, "icon": null } }))
            .await;
    let kind = &cleared["eventType"];
    assert_eq!((&kind["name"], &kind["color"], &kind["icon"]), (&json!("Lauf"), &Value::Null, &Value::Null));
    let before = head(&client).await;
    assert_eq!(outcome(&rename(&client, &id, "Lauf").await), ("UNCHANGED", Some(3)));
    assert_eq!(head(&client).await, before);
}

async fn a_patch_without_a_valid_name_is_a_problem_of_its_item(server: &TestServer) {
    let client = server.client("ann");
    let id = client.event_type("run").await;
    for (name, code) in [
        (Value::Null, "REQUIRED"),
        (json!("  "), "INVALID_VALUE"),
        (json!("x".repeat(101)), "TOO_LONG"),
        // NFC turns each of these characters into three.
        (json!("\u{1d160}".repeat(34)), "TOO_LONG"),
    ] {
        let result = write(&client, "updateEventType", json!({ "id": id, "patch": { "name": name } })).await;
        assert_eq!(problems(&result), [("/patch/name", code)]);
    }
    let long = json!({ "color": "x".repeat(33), "icon": "a\u{0}" });
    let result = write(&client, "updateEventType", json!({ "id": id, "patch": long })).await;
    assert_eq!(problems(&result), [("/patch/color", "TOO_LONG"), ("/patch/icon", "NUL_CHARACTER")]);
}

async fn a_name_that_is_taken_is_refused(server: &TestServer) {
    let client = server.client("ann");
    let (run, _) = (client.event_type("run").await, client.event_type("walk").await);
    let before = head(&client).await;
    let result = rename(&client, &run, "walk").await;
    assert_eq!(problems(&result), [("/patch/name", "NAME_TAKEN")]);
    assert_eq!(result["problem"]["status"], 409);
    assert_eq!(head(&client).await, before);
    // Names are compared case-sensitively, and only with names of the same user.
    assert_eq!(outcome(&rename(&client, &run, "Walk").await), ("UPDATED", Some(2)));
    let bob = server.client("bob");
    let his = bob.event_type("run").await;
    assert_eq!(outcome(&rename(&bob, &his, "walk").await), ("UPDATED", Some(2)));
}

async fn two_types_exchange_their_names_in_one_outbox(server: &TestServer) {
    let client = server.client("ann");
    let (run, walk) = (client.event_type("run").await, client.event_type("walk").await);
    let to = |id: &str, name: &str| json!({ "updateEventType": { "id": id, "patch": { "name": name } } });
    let results =
        flush(&client, &json!([to(&run, "walk"), to(&run, "spare"), to(&walk, "run"), to(&run, "walk")]))
            .await;
    let outcomes: Vec<_> = results.iter().map(outcome).collect();
    assert_eq!(
        outcomes,
        [("REJECTED", None), ("UPDATED", Some(2)), ("UPDATED", Some(2)), ("UPDATED", Some(3))]
    );
    let names = client.ask("{ eventTypes { nodes { id name } } }", json!({})).await;
    assert_eq!(
        names["eventTypes"]["nodes"],
        json!([{ "id": walk, "name": "run" }, { "id": run, "name": "walk" }])
    );
    assert_eq!(client.pull(None, 500).await.0.len(), 2);
}

async fn a_type_in_use_is_not_deleted_and_its_events_stay(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let before = head(&client).await;
    let result = write(&client, "deleteEventType", json!({ "id": kind })).await;
    let problem = &result["problem"];
    assert_eq!(
        (&result["outcome"], &problem["code"], &problem["status"], &problem["retryable"]),
        (&json!("REJECTED"), &json!("EVENT_TYPE_IN_USE"), &json!(409), &json!(false))
    );
    assert_eq!(head(&client).await, before);
    // An event that the same outbox creates also counts as a use.
    let other = client.event_type("walk").await;
    let results =
        flush(&client, &json!([{ "createEvent": event(&other) }, { "deleteEventType": { "id": other } }]))
            .await;
    assert_eq!(results[1]["problem"]["code"], "EVENT_TYPE_IN_USE");
    write(&client, "deleteEvent", json!({ "id": sent["id"] })).await;
    assert_eq!(
        outcome(&write(&client, "deleteEventType", json!({ "id": kind })).await),
        ("DELETED", Some(2))
    );
    let again = write(&client, "deleteEventType", json!({ "id": kind })).await;
    assert_eq!((outcome(&again), &again["eventType"]), (("UNCHANGED", Some(2)), &Value::Null));
}

async fn a_type_in_use_is_not_deleted_by_an_alias_that_the_same_outbox_made(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    client.create(&[event(&kind)]).await;
    let alias = new_id();
    let outbox = json!([
        { "createEventType": { "id": alias, "name": "run" } },
        { "deleteEventType": { "id": alias } },
    ]);
    let results = flush(&client, &outbox).await;
    assert_eq!((outcome(&results[0]).0, outcome(&results[1]).0), ("DUPLICATE", "REJECTED"));
    assert_eq!(results[1]["problem"]["code"], "EVENT_TYPE_IN_USE");
}

async fn a_type_can_be_deleted_in_the_same_outbox_as_its_events(server: &TestServer) {
    let client = server.client("ann");
    let (run, walk) = (client.event_type("run").await, client.event_type("walk").await);
    let (one, two) = (event(&run), event(&run));
    client.create(&[one.clone(), two.clone()]).await;
    let results = flush(
        &client,
        &json!([
            { "deleteEventType": { "id": run } },
            { "deleteEvent": { "id": one["id"] } },
            { "updateEvent": { "id": two["id"], "patch": { "eventTypeId": walk } } },
            { "deleteEventType": { "id": run } },
            { "createEventType": { "id": new_id(), "name": "run" } },
        ]),
    )
    .await;
    let outcomes: Vec<_> = results.iter().map(|result| outcome(result).0).collect();
    assert_eq!(outcomes, ["REJECTED", "DELETED", "UPDATED", "DELETED", "CREATED"]);
    let tombstones = "SELECT count(*) FROM event_type WHERE name IS NULL AND color IS NULL AND icon IS NULL \
        AND content_hash IS NULL AND deleted_by = 'user' AND version = 2";
    assert_eq!(server.number(tombstones).await, 1);
}

async fn the_name_of_a_deleted_type_can_be_used_again_and_its_id_cannot(server: &TestServer) {
    let client = server.client("ann");
    let id = client.event_type("run").await;
    write(&client, "deleteEventType", json!({ "id": id })).await;
    let again = write(&client, "createEventType", json!({ "eventType": { "id": id, "name": "run" } })).await;
    assert_eq!((outcome(&again), &again["eventType"]), (("DELETED", Some(2)), &Value::Null));
    assert_eq!(outcome(&rename(&client, &id, "walk").await), ("DELETED", Some(2)));
    let anew = client.event_type("run").await;
    assert_ne!(anew, id);
    let other = client.event_type("walk").await;
    write(&client, "deleteEventType", json!({ "id": other })).await;
    assert_eq!(outcome(&rename(&client, &anew, "walk").await), ("UPDATED", Some(2)));
    assert_eq!(client.create(&[event(&id)]).await["results"][0]["problem"]["code"], "EVENT_TYPE_NOT_FOUND");
}

async fn an_alias_can_be_used_for_its_type_in_edits_and_events(server: &TestServer) {
    let client = server.client("ann");
    let id = client.event_type("run").await;
    let alias = new_id();
    let sent = json!({ "eventType": { "id": alias, "name": "run" } });
    let found = write(&client, "createEventType", sent).await;
    assert_eq!((&found["outcome"], &found["matchedBy"]), (&json!("DUPLICATE"), &json!("NAME")));
    let renamed = rename(&client, &alias, "Lauf").await;
    assert_eq!((outcome(&renamed), &renamed["eventType"]["id"]), (("UPDATED", Some(2)), &json!(id)));
    let read = client.ask("query($id: ID!) { eventType(id: $id) { id name } }", json!({ "id": alias })).await;
    assert_eq!(read["eventType"], json!({ "id": id, "name": "Lauf" }));
    let sent = event(&alias);
    let results = flush(
        &client,
        &json!([
            { "createEvent": sent },
            { "deleteEventType": { "id": alias } },
            { "updateEvent": { "id": sent["id"], "patch": { "eventTypeId": alias } } },
            { "deleteEvent": { "id": sent["id"] } },
            { "deleteEventType": { "id": alias } },
        ]),
    )
    .await;
    let outcomes: Vec<_> = results.iter().map(|result| outcome(result).0).collect();
    assert_eq!(outcomes, ["CREATED", "REJECTED", "UNCHANGED", "DELETED", "DELETED"]);
    assert_eq!(results[0]["event"]["eventType"], json!({ "id": id, "name": "Lauf" }));
    let job = new_id();
    let line = json!({ "eventTypeId": alias, "timestamp": "2026-01-01T00:00:00Z" }).to_string();
    let import = client.import_all(&job, line.into_bytes()).await;
    assert_eq!(import["rejections"]["nodes"][0]["code"], "EVENT_TYPE_NOT_FOUND");
}

async fn versions_and_edit_ids_guard_types_as_they_guard_events(server: &TestServer) {
    let client = server.client("ann");
    let id = client.event_type("run").await;
    let edit = |number: u32| format!("01900000-0000-7000-8000-{number:012x}");
    let send = async |mutation: &str, writer: &str, name: &str, guards: Value| {
        let mut input = json!({ "id": id, "clientId": writer });
        if mutation == "updateEventType" {
            input["patch"] = json!({ "name": name });
        }
        input.as_object_mut().unwrap().extend(guards.as_object().unwrap().clone());
        write(&client, mutation, input).await
    };
    let update = "updateEventType";
    assert_eq!(
        outcome(&send(update, "phone", "a", json!({ "editId": edit(2) })).await),
        ("UPDATED", Some(2))
    );
    assert_eq!(
        outcome(&send(update, "phone", "b", json!({ "editId": edit(1) })).await),
        ("UNCHANGED", Some(2))
    );
    assert_eq!(
        outcome(&send(update, "phone", "a", json!({ "editId": edit(4) })).await),
        ("UNCHANGED", Some(2))
    );
    assert_eq!(
        outcome(&send(update, "phone", "b", json!({ "editId": edit(3) })).await),
        ("UNCHANGED", Some(2))
    );
    assert_eq!(
        outcome(&send(update, "phone", "b", json!({ "expectedVersion": 1 })).await),
        ("UPDATED", Some(3))
    );
    let conflict = send(update, "tablet", "c", json!({ "expectedVersion": 2 })).await;
    assert_eq!((outcome(&conflict), &conflict["eventType"]["name"]), (("CONFLICT", Some(3)), &json!("b")));
    let delete = "deleteEventType";
    let conflict = send(delete, "tablet", "", json!({ "expectedVersion": 2 })).await;
    assert_eq!(
        (outcome(&conflict), &conflict["problem"]["code"]),
        (("CONFLICT", Some(3)), &json!("VERSION_CONFLICT"))
    );
    assert_eq!(
        outcome(&send(delete, "phone", "", json!({ "editId": edit(4) })).await),
        ("UNCHANGED", Some(3))
    );
    assert_eq!(outcome(&send(delete, "phone", "", json!({ "editId": edit(5) })).await), ("DELETED", Some(4)));
    let bad = send(delete, "phone", "", json!({ "expectedVersion": 0, "editId": "x" })).await;
    assert_eq!(problems(&bad), [("/expectedVersion", "OUT_OF_RANGE"), ("/editId", "INVALID_UUID")]);
}

async fn a_refused_deletion_of_a_type_changes_nothing(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let before = head(&client).await;
    let refused = write(&client, "deleteEventType", json!({ "id": kind })).await;
    assert_eq!(
        (outcome(&refused), &refused["problem"]["code"]),
        (("REJECTED", None), &json!("EVENT_TYPE_IN_USE"))
    );
    assert_eq!(read(&client, &sent["id"]).await["eventType"], json!({ "id": kind, "name": "run" }));
    assert_eq!(head(&client).await, before);
}
