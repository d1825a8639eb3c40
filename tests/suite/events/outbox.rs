//! Tests `applyMutations`, which applies the outbox of a device.

use serde_json::{Value, json};

use super::{flush, head, outbox_query, outcome, problems, read, write};
use crate::harness::{Client, TestServer, event, new_id, on_both};

on_both!(
    an_outbox_is_applied_in_order_and_answered_by_index,
    an_item_that_depends_on_a_rejected_one_is_rejected_and_is_retryable_if_that_one_is,
    an_item_about_a_stored_entity_does_not_depend_on_a_rejected_one,
    an_outbox_of_501_is_refused_naming_the_limit_and_nothing_is_written,
    an_outbox_must_not_be_empty_and_must_have_a_client_id,
    an_item_that_is_not_exactly_one_mutation_refuses_the_request,
    an_event_that_is_created_and_deleted_in_one_call_is_one_tombstone_in_the_feed,
    an_outbox_sent_again_after_a_lost_response_changes_nothing,
    a_result_has_the_type_of_its_event_as_it_was_even_if_a_later_item_deletes_the_type,
    a_differing_duplicate_has_its_type_as_an_earlier_item_has_changed_it,
    every_item_has_the_client_id_of_the_call,
    an_invalid_item_does_not_block_an_outbox,
);

fn outcomes(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| outcome(result).0).collect()
}

async fn an_outbox_is_applied_in_order_and_answered_by_index(server: &TestServer) {
    let client = server.client("ann");
    let (kind, id) = (new_id(), new_id());
    let created = json!({ "id": id, "eventTypeId": kind, "timestamp": "2026-01-01T00:00:00Z", "notes": "a" });
    let results = flush(
        &client,
        &json!([
            { "createEvent": created },
            { "createEventType": { "id": kind, "name": "run" } },
            { "createEvent": created },
            { "updateEvent": { "id": id, "patch": { "notes": "b" } } },
            { "updateEventType": { "id": kind, "patch": { "name": "walk" } } },
            { "deleteEvent": { "id": id } },
            { "restoreEvent": { "event": created } },
            { "createEvent": created },
        ]),
    )
    .await;
    assert_eq!(
        outcomes(&results),
        ["REJECTED", "CREATED", "CREATED", "UPDATED", "UPDATED", "DELETED", "UPDATED", "DUPLICATE"]
    );
    for (index, result) in results.iter().enumerate() {
        let is_type = index == 1 || index == 4;
        let (name, sent) = if is_type { ("EventTypeResult", &kind) } else { ("EventResult", &id) };
        assert_eq!(
            (&result["__typename"], &result["index"], &result["sentId"]),
            (&json!(name), &json!(index), &json!(sent))
        );
    }
    // Each result has the state after its item and before the next one.
    assert_eq!(results[2]["event"]["eventType"], json!({ "id": kind, "name": "run" }));
    assert_eq!((&results[2]["event"]["notes"], &results[3]["event"]["notes"]), (&json!("a"), &json!("b")));
    assert_eq!((&results[5]["event"], &results[6]["version"]), (&Value::Null, &json!(4)));
    assert_eq!(results[7]["differs"], false);
    assert_eq!(client.pull(None, 500).await.0.len(), 2);
}

/// Returns a UUIDv7 whose time is so many milliseconds in the future.
fn ahead(ms: u64) -> String {
    let now = u64::from_str_radix(&new_id().replace('-', "")[..12], 16).unwrap();
    let time = format!("{:012x}", now + ms);
    format!("{}-{}-7000-8000-0000000000aa", &time[..8], &time[8..])
}

async fn an_item_that_depends_on_a_rejected_one_is_rejected_and_is_retryable_if_that_one_is(
    server: &TestServer,
) {
    let client = server.client("ann");
    for (kind, retryable) in [(ahead(3_600_000), true), (ahead(90_000_000), false)] {
        let sent = event(&kind);
        let results = flush(
            &client,
            &json!([
                { "createEventType": { "id": kind, "name": "run" } },
                { "createEvent": sent },
                { "updateEvent": { "id": sent["id"], "patch": { "notes": "b" } } },
                { "updateEventType": { "id": kind, "patch": { "color": "red" } } },
                { "updateEventType": { "id": kind, "patch": { "name": null } } },
                { "deleteEvent": { "id": sent["id"] } },
                { "createEvent": event(&kind) },
            ]),
        )
        .await;
        assert_eq!(problems(&results[0]), [("/id", "ID_IN_FUTURE")]);
        assert_eq!(problems(&results[4]), [("/patch/name", "REQUIRED")]);
        let wait = &results[0]["problem"]["retryAfterMs"];
        assert_eq!((&results[0]["problem"]["retryable"], wait.is_number()), (&json!(retryable), retryable));
        for (index, pointer) in [(1, "/eventTypeId"), (2, "/id"), (3, "/id"), (5, "/id"), (6, "/eventTypeId")]
        {
            let problem = &results[index]["problem"];
            assert_eq!(problems(&results[index]), [(pointer, "DEPENDENCY_REJECTED")], "{index}");
            assert_eq!(
                (&problem["status"], &problem["retryable"]),
                (&json!(409), &json!(retryable)),
                "{index}"
            );
            assert_eq!(&problem["retryAfterMs"], wait, "{index}");
        }
    }
    // An item that could not be parsed also counts as rejected.
    let bad = json!({ "id": new_id(), "eventTypeId": "x", "timestamp": "2026-01-01T00:00:00Z" });
    let results =
        flush(&client, &json!([{ "createEvent": bad }, { "deleteEvent": { "id": bad["id"] } }])).await;
    assert_eq!(problems(&results[1]), [("/id", "DEPENDENCY_REJECTED")]);
    assert_eq!(client.pull(None, 500).await.0.len(), 0);
}

async fn an_item_about_a_stored_entity_does_not_depend_on_a_rejected_one(server: &TestServer) {
    let client = server.client("ann");
    let (run, _) = (client.event_type("run").await, client.event_type("walk").await);
    let sent = event(&run);
    let results = flush(
        &client,
        &json!([
            { "updateEventType": { "id": run, "patch": { "name": "walk" } } },
            { "createEvent": sent },
            { "updateEvent": { "id": sent["id"], "patch": { "notes": "\u{0}" } } },
            { "updateEvent": { "id": sent["id"], "patch": { "notes": "b" } } },
        ]),
    )
    .await;
    assert_eq!(outcomes(&results), ["REJECTED", "CREATED", "REJECTED", "UPDATED"]);
    assert_eq!(results[0]["problem"]["code"], "NAME_TAKEN");
}

async fn an_outbox_of_501_is_refused_naming_the_limit_and_nothing_is_written(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut items: Vec<Value> = (0..501).map(|_| json!({ "createEvent": event(&kind) })).collect();
    let query =
        "mutation($input: ApplyMutationsInput!) { applyMutations(input: $input) { results { outcome } } }";
    let send = async |items: &[Value]| {
        client.send(query, json!({ "input": { "clientId": "phone", "mutations": items } })).await
    };
    let refused = send(&items).await["errors"][0]["extensions"].take();
    assert_eq!(
        (&refused["code"], &refused["limit"]),
        (&json!("LIMIT_EXCEEDED"), &json!({ "name": "batch", "max": 500 }))
    );
    assert_eq!(server.number("SELECT count(*) FROM event").await, 0);
    items.pop();
    let response = send(&items).await;
    assert_eq!(response["data"]["applyMutations"]["results"].as_array().map(Vec::len), Some(500));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 500);
}

/// Sends an outbox that is refused as a whole. Returns the code of the error.
async fn refusal(client: &Client, input: Value) -> Value {
    let response = client.send(&outbox_query(), json!({ "input": input })).await;
    response["errors"][0]["extensions"]["code"].clone()
}

async fn an_outbox_must_not_be_empty_and_must_have_a_client_id(server: &TestServer) {
    let client = server.client("ann");
    let item = json!({ "createEventType": { "name": "run" } });
    for input in [
        json!({ "clientId": "phone", "mutations": [] }),
        json!({ "mutations": [item] }),
        json!({ "clientId": "", "mutations": [item] }),
        json!({ "clientId": "my phone", "mutations": [item] }),
        json!({ "clientId": "x".repeat(65), "mutations": [item] }),
    ] {
        assert_eq!(refusal(&client, input.clone()).await, "BAD_USER_INPUT", "{input}");
    }
    assert_eq!(server.number("SELECT count(*) FROM event_type").await, 0);
}

async fn an_item_that_is_not_exactly_one_mutation_refuses_the_request(server: &TestServer) {
    let client = server.client("ann");
    let good = json!({ "createEventType": { "name": "run" } });
    for bad in [
        json!({}),
        json!({ "createEventType": { "name": "a" }, "deleteEvent": { "id": new_id() } }),
        json!({ "createEventType": null }),
        json!({ "createImport": {} }),
        json!({ "deleteEvent": { "id": new_id(), "clientId": "other" } }),
        json!({ "updateEvent": { "id": new_id(), "patch": { "note": "typo" } } }),
        json!({ "updateEvent": { "id": new_id() } }),
    ] {
        let input = json!({ "clientId": "phone", "mutations": [good, bad] });
        assert_eq!(refusal(&client, input).await, "BAD_USER_INPUT", "{bad}");
    }
    assert_eq!(server.number("SELECT count(*) FROM event_type").await, 0);
}

async fn an_event_that_is_created_and_deleted_in_one_call_is_one_tombstone_in_the_feed(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (_, cursor) = client.pull(None, 500).await;
    let sent = event(&kind);
    let results = flush(
        &client,
        &json!([{ "createEvent": sent }, { "deleteEvent": { "id": sent["id"] } }, { "createEvent": sent }]),
    )
    .await;
    let all: Vec<_> = results.iter().map(outcome).collect();
    assert_eq!(all, [("CREATED", Some(1)), ("DELETED", Some(2)), ("DELETED", Some(2))]);
    assert_eq!(results[0]["event"]["notes"], "a run");
    let (changes, _) = client.pull(Some(&cursor), 500).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (&changes[0]["entityId"], &changes[0]["deleted"], &changes[0]["version"]),
        (&sent["id"], &json!(true), &json!(2))
    );
}

async fn an_outbox_sent_again_after_a_lost_response_changes_nothing(server: &TestServer) {
    let client = server.client("ann");
    let (kind, spare) = (new_id(), new_id());
    let (one, two) = (event(&kind), event(&kind));
    let edit = |number: u32| format!("01900000-0000-7000-8000-{number:012x}");
    let outbox = json!([
        { "createEventType": { "id": kind, "name": "run" } },
        { "createEventType": { "id": spare, "name": "spare" } },
        { "createEvent": one },
        { "createEvent": two },
        { "updateEvent": { "id": one["id"], "patch": { "notes": "b" }, "editId": edit(1) } },
        { "updateEvent": { "id": one["id"], "patch": { "notes": "c" }, "editId": edit(2) } },
        { "deleteEvent": { "id": two["id"], "editId": edit(3) } },
        { "restoreEvent": { "event": two, "editId": edit(4) } },
        { "updateEventType": { "id": kind, "patch": { "name": "walk" }, "editId": edit(5) } },
        { "deleteEventType": { "id": spare, "editId": edit(6) } },
        { "deleteEvent": { "id": one["id"], "editId": edit(7) } },
    ]);
    let results = flush(&client, &outbox).await;
    assert!(!outcomes(&results).contains(&"REJECTED"), "{results:?}");
    let query = "{ events { nodes { id version notes updatedAt } } eventTypes { nodes { id name version updatedAt } } }";
    let before = (head(&client).await, client.ask(query, json!({})).await);
    let again = flush(&client, &outbox).await;
    assert_eq!(
        outcomes(&again),
        [
            "DUPLICATE", "DELETED", "DELETED", "DUPLICATE", "DELETED", "DELETED", "UNCHANGED", "UNCHANGED",
            "UNCHANGED", "UNCHANGED", "UNCHANGED"
        ]
    );
    assert_eq!((head(&client).await, client.ask(query, json!({})).await), before);
}

async fn a_result_has_the_type_of_its_event_as_it_was_even_if_a_later_item_deletes_the_type(
    server: &TestServer,
) {
    let client = server.client("ann");
    let (run, walk) = (client.event_type("run").await, client.event_type("walk").await);
    let sent = event(&run);
    let results = flush(
        &client,
        &json!([
            { "createEvent": sent },
            { "updateEvent": { "id": sent["id"], "patch": { "eventTypeId": walk } } },
            { "deleteEventType": { "id": run } },
        ]),
    )
    .await;
    assert_eq!(outcomes(&results), ["CREATED", "UPDATED", "DELETED"]);
    assert_eq!(results[0]["event"]["eventType"], json!({ "id": run, "name": "run" }));
    assert_eq!(results[1]["event"]["eventType"], json!({ "id": walk, "name": "walk" }));
    assert_eq!(read(&client, &sent["id"]).await["eventType"]["name"], "walk");
}

/// The body of a differing duplicate is read again for the response. Its type is not stored yet at that time.
async fn a_differing_duplicate_has_its_type_as_an_earlier_item_has_changed_it(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let stored = event(&kind);
    write(&client, "createEvent", json!({ "event": stored })).await;
    let mut changed = stored.clone();
    changed["notes"] = json!("other");
    let rename = json!({ "updateEventType": { "id": kind, "patch": { "name": "walk" } } });
    let results = flush(&client, &json!([rename, { "createEvent": changed }])).await;
    assert_eq!((&results[1]["outcome"], &results[1]["differs"]), (&json!("DUPLICATE"), &json!(true)));
    assert_eq!(results[1]["event"]["eventType"]["name"], "walk");
}

async fn every_item_has_the_client_id_of_the_call(server: &TestServer) {
    let client = server.client("ann");
    let kind = new_id();
    flush(
        &client,
        &json!([{ "createEventType": { "id": kind, "name": "run" } }, { "createEvent": event(&kind) }]),
    )
    .await;
    let (changes, _) = client.pull(None, 500).await;
    assert!(changes.iter().all(|change| change["originClientId"] == "phone"), "{changes:?}");
    assert_eq!(changes.len(), 2);
}

async fn an_invalid_item_does_not_block_an_outbox(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut items: Vec<Value> = (0..50).map(|_| json!({ "createEvent": event(&kind) })).collect();
    items[7]["createEvent"]["notes"] = json!("\u{0}");
    items[8] = json!({ "updateEvent": { "id": new_id(), "patch": { "timestamp": null } } });
    items[9] = json!({ "restoreEvent": { "event": {} } });
    let results = flush(&client, &json!(items)).await;
    let refused: Vec<_> = results
        .iter()
        .filter(|result| result["outcome"] != "CREATED")
        .map(|result| &result["index"])
        .collect();
    assert_eq!(refused, [&json!(7), &json!(8), &json!(9)]);
    assert_eq!(server.number("SELECT count(*) FROM event").await, 47);
}
