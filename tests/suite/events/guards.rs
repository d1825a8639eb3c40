//! Tests expected versions and edit ids, which decide whether an edit is applied, is stale, or is a conflict.

use serde_json::{Value, json};

use super::{flush, head, outcome, patch, problems, read, write};
use crate::harness::{Client, TestServer, event, on_both};

on_both!(
    an_outdated_expected_version_is_a_conflict_with_the_current_state,
    a_writer_run_of_the_same_client_is_no_conflict,
    a_writer_run_of_another_client_is_a_conflict,
    an_edit_to_the_stored_content_is_unchanged_whatever_version_is_expected,
    an_expected_version_below_one_is_out_of_range,
    an_edit_that_is_sent_again_or_comes_late_never_undoes_a_newer_one,
    a_newer_edit_that_changed_nothing_is_recorded_and_does_not_change_the_feed,
    an_edit_of_the_current_version_is_applied_though_the_clock_was_ahead,
    edits_of_one_call_are_applied_in_order_whatever_their_ids_are,
    a_restore_expects_the_version_of_the_tombstone,
    an_edit_id_counts_only_with_a_client_id,
    an_edit_id_is_a_uuid_of_version_7_from_any_time,
    an_update_of_a_deleted_event_is_deleted_whatever_its_guards_are,
    mutations_that_change_nothing_do_not_move_the_feed_head,
    a_cleared_note_stays_cleared,
);

/// Returns the id of the nth edit of a client.
fn edit(number: u32) -> String {
    format!("01900000-0000-7000-8000-{number:012x}")
}

/// Creates an event. Returns its id.
async fn create(client: &Client) -> Value {
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    let input = json!({ "event": sent, "clientId": "phone" });
    assert_eq!(outcome(&write(client, "createEvent", input).await), ("CREATED", Some(1)));
    sent["id"].clone()
}

/// Sets the notes of an event under this client id. `guards` has the expected version, the edit id, or both.
async fn note(client: &Client, id: &Value, writer: &str, notes: &str, guards: Value) -> Value {
    let mut input = json!({ "id": id, "patch": { "notes": notes }, "clientId": writer });
    input.as_object_mut().unwrap().extend(guards.as_object().unwrap().clone());
    write(client, "updateEvent", input).await
}

async fn an_outdated_expected_version_is_a_conflict_with_the_current_state(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    let first = note(&client, &id, "tablet", "one", json!({ "expectedVersion": 1 })).await;
    assert_eq!((outcome(&first), &first["problem"]), (("UPDATED", Some(2)), &Value::Null));
    for (expected, mutation) in [(1, "updateEvent"), (3, "updateEvent"), (1, "deleteEvent")] {
        let mut input = json!({ "id": id, "expectedVersion": expected, "clientId": "phone" });
        if mutation == "updateEvent" {
            input["patch"] = json!({ "notes": "two" });
        }
        let result = write(&client, mutation, input).await;
        assert_eq!((outcome(&result), &result["matchedBy"]), (("CONFLICT", Some(2)), &json!("ID")));
        let problem = &result["problem"];
        assert_eq!(
            (&problem["code"], &problem["status"], &problem["retryable"]),
            (&json!("VERSION_CONFLICT"), &json!(409), &json!(false))
        );
        assert_eq!((&result["event"]["notes"], &result["event"]["version"]), (&json!("one"), &json!(2)));
    }
    // The client merges its edit into the state of the conflict and sends it with that version. It is
    // applied.
    let merged = note(&client, &id, "phone", "one and two", json!({ "expectedVersion": 2 })).await;
    assert_eq!(outcome(&merged), ("UPDATED", Some(3)));
    assert_eq!(
        outcome(&write(&client, "deleteEvent", json!({ "id": id, "expectedVersion": 3 })).await),
        ("DELETED", Some(4))
    );
}

async fn a_writer_run_of_the_same_client_is_no_conflict(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    // The device made all these edits while it had version 1.
    for (version, notes) in [(2, "a"), (3, "b"), (4, "c")] {
        let result = note(&client, &id, "phone", notes, json!({ "expectedVersion": 1 })).await;
        assert_eq!(outcome(&result), ("UPDATED", Some(version)));
    }
    let edits: Vec<Value> = ["d", "e"]
        .iter()
        .map(
            |notes| json!({ "updateEvent": { "id": id, "patch": { "notes": notes }, "expectedVersion": 1 } }),
        )
        .collect();
    let results = flush(&client, &json!(edits)).await;
    assert_eq!([outcome(&results[0]), outcome(&results[1])], [("UPDATED", Some(5)), ("UPDATED", Some(6))]);
    // No client can have seen a version that is greater than the current one.
    let ahead = note(&client, &id, "phone", "f", json!({ "expectedVersion": 7 })).await;
    assert_eq!(outcome(&ahead), ("CONFLICT", Some(6)));
}

async fn a_writer_run_of_another_client_is_a_conflict(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    note(&client, &id, "tablet", "a", json!({})).await;
    note(&client, &id, "phone", "b", json!({})).await;
    note(&client, &id, "phone", "c", json!({})).await;
    // Versions 3 and 4 are the phone's own, 2 is not.
    let too_old = note(&client, &id, "phone", "d", json!({ "expectedVersion": 1 })).await;
    assert_eq!(outcome(&too_old), ("CONFLICT", Some(4)));
    let others = note(&client, &id, "tablet", "d", json!({ "expectedVersion": 2 })).await;
    assert_eq!(outcome(&others), ("CONFLICT", Some(4)));
    let nameless = json!({ "id": id, "patch": { "notes": "d" }, "expectedVersion": 2 });
    assert_eq!(outcome(&write(&client, "updateEvent", nameless).await), ("CONFLICT", Some(4)));
    let own = note(&client, &id, "phone", "d", json!({ "expectedVersion": 2 })).await;
    assert_eq!(outcome(&own), ("UPDATED", Some(5)));
}

async fn an_edit_to_the_stored_content_is_unchanged_whatever_version_is_expected(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    note(&client, &id, "tablet", "same", json!({})).await;
    let same = note(&client, &id, "phone", "same", json!({ "expectedVersion": 1 })).await;
    assert_eq!((outcome(&same), &same["problem"]), (("UNCHANGED", Some(2)), &Value::Null));
    write(&client, "deleteEvent", json!({ "id": id })).await;
    let again = write(&client, "deleteEvent", json!({ "id": id, "expectedVersion": 1 })).await;
    assert_eq!((outcome(&again), &again["event"]), (("UNCHANGED", Some(3)), &Value::Null));
}

async fn an_expected_version_below_one_is_out_of_range(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    for version in [0, -1, i32::MIN] {
        let result = note(&client, &id, "phone", "x", json!({ "expectedVersion": version })).await;
        assert_eq!(problems(&result), [("/expectedVersion", "OUT_OF_RANGE")]);
        let input = json!({ "id": id, "expectedVersion": version });
        let result = write(&client, "deleteEvent", input).await;
        assert_eq!(problems(&result), [("/expectedVersion", "OUT_OF_RANGE")]);
    }
}

async fn an_edit_that_is_sent_again_or_comes_late_never_undoes_a_newer_one(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    let send = async |number: u32, notes: &str| {
        note(&client, &id, "phone", notes, json!({ "editId": edit(number) })).await
    };
    assert_eq!(outcome(&send(2, "second").await), ("UPDATED", Some(2)));
    assert_eq!(outcome(&send(2, "second").await), ("UNCHANGED", Some(2)));
    let late = send(1, "first").await;
    assert_eq!((outcome(&late), &late["event"]["notes"]), (("UNCHANGED", Some(2)), &json!("second")));
    // An edit without an id is applied, and the row keeps its last edit id.
    assert_eq!(outcome(&note(&client, &id, "phone", "bare", json!({})).await), ("UPDATED", Some(3)));
    assert_eq!(outcome(&send(2, "second").await), ("UNCHANGED", Some(3)));
    assert_eq!(outcome(&send(3, "third").await), ("UPDATED", Some(4)));
    // A deletion and a restore are edits as well.
    let remove = json!({ "id": id, "editId": edit(4), "clientId": "phone" });
    assert_eq!(outcome(&write(&client, "deleteEvent", remove.clone()).await), ("DELETED", Some(5)));
    let mut content = event(&client.event_type("run").await);
    content["id"] = id.clone();
    let restore = json!({ "event": content, "editId": edit(5), "clientId": "phone" });
    assert_eq!(outcome(&write(&client, "restoreEvent", restore.clone()).await), ("UPDATED", Some(6)));
    assert_eq!(outcome(&write(&client, "deleteEvent", remove).await), ("UNCHANGED", Some(6)));
    assert_eq!(outcome(&write(&client, "restoreEvent", restore).await), ("UNCHANGED", Some(6)));
    // Edit ids are compared only with those of the client that wrote last.
    assert_eq!(
        outcome(&note(&client, &id, "tablet", "t", json!({ "editId": edit(1) })).await),
        ("UPDATED", Some(7))
    );
    assert_eq!(outcome(&send(1, "p").await), ("UPDATED", Some(8)));
}

async fn a_newer_edit_that_changed_nothing_is_recorded_and_does_not_change_the_feed(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    note(&client, &id, "phone", "a", json!({ "editId": edit(1) })).await;
    let before = (head(&client).await, read(&client, &id).await);
    assert_eq!(
        outcome(&note(&client, &id, "phone", "a", json!({ "editId": edit(3) })).await),
        ("UNCHANGED", Some(2))
    );
    assert_eq!((head(&client).await, read(&client, &id).await), before);
    let late = note(&client, &id, "phone", "b", json!({ "editId": edit(2) })).await;
    assert_eq!((outcome(&late), &late["event"]["notes"]), (("UNCHANGED", Some(2)), &json!("a")));
    assert_eq!(
        outcome(&note(&client, &id, "phone", "b", json!({ "editId": edit(4) })).await),
        ("UPDATED", Some(3))
    );
}

/// The clock of a phone was ahead for one edit. This is tried with an event and with a type.
async fn an_edit_of_the_current_version_is_applied_though_the_clock_was_ahead(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    let ahead = |notes: &'static str| (notes, json!({ "expectedVersion": 1, "editId": edit(900) }));
    let (notes, guards) = ahead("b");
    assert_eq!(outcome(&note(&client, &id, "phone", notes, guards).await), ("UPDATED", Some(2)));
    // The clock is right again. The next edit and the deletion expect the current version.
    let right = json!({ "expectedVersion": 2, "editId": edit(10) });
    assert_eq!(outcome(&note(&client, &id, "phone", "c", right.clone()).await), ("UPDATED", Some(3)));
    // If they are sent again, neither the old nor the new edit changes anything.
    let (notes, guards) = ahead("b");
    assert_eq!(outcome(&note(&client, &id, "phone", notes, guards).await), ("UNCHANGED", Some(3)));
    assert_eq!(outcome(&note(&client, &id, "phone", "c", right).await), ("UNCHANGED", Some(3)));
    assert_eq!(
        outcome(&note(&client, &id, "phone", "d", json!({ "editId": edit(11) })).await),
        ("UNCHANGED", Some(3))
    );
    let delete = json!({ "id": id, "expectedVersion": 3, "editId": edit(12), "clientId": "phone" });
    assert_eq!(outcome(&write(&client, "deleteEvent", delete.clone()).await).0, "DELETED");
    assert_eq!(outcome(&write(&client, "deleteEvent", delete).await).0, "UNCHANGED");
    let kind = client.event_type("walk").await;
    let rename = |name: &str, version: i32, number: u32| json!({ "id": kind, "patch": { "name": name }, "clientId": "phone", "expectedVersion": version, "editId": edit(number) });
    for (name, version, number, expected) in [
        ("b", 1, 900, ("UPDATED", Some(2))),
        ("c", 2, 10, ("UPDATED", Some(3))),
        ("b", 1, 900, ("UNCHANGED", Some(3))),
    ] {
        assert_eq!(
            outcome(&write(&client, "updateEventType", rename(name, version, number)).await),
            expected
        );
    }
}

async fn edits_of_one_call_are_applied_in_order_whatever_their_ids_are(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    let update = |notes: &str, number: u32| json!({ "updateEvent": { "id": sent["id"], "patch": { "notes": notes }, "expectedVersion": 1, "editId": edit(number) } });
    let outbox = json!([
        { "createEvent": sent },
        update("a", 900),
        update("b", 10),
        update("c", 10),
        { "deleteEvent": { "id": sent["id"], "expectedVersion": 1, "editId": edit(11) } },
    ]);
    let outcomes = async || -> Vec<String> {
        let results = flush(&client, &outbox).await;
        results.iter().map(|result| result["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(outcomes().await, ["CREATED", "UPDATED", "UPDATED", "UNCHANGED", "DELETED"]);
    // If all of it is sent again, nothing is undone and nothing is applied twice.
    assert_eq!(outcomes().await, ["DELETED", "DELETED", "DELETED", "DELETED", "UNCHANGED"]);
}

async fn a_restore_expects_the_version_of_the_tombstone(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let delete = json!({ "id": sent["id"], "clientId": "phone", "editId": edit(900) });
    assert_eq!(outcome(&write(&client, "deleteEvent", delete).await).0, "DELETED");
    let restore = |version: i32, number: u32| json!({ "event": sent, "clientId": "phone", "expectedVersion": version, "editId": edit(number) });
    let wrong = write(&client, "restoreEvent", restore(3, 901)).await;
    assert_eq!((&wrong["outcome"], &wrong["event"]), (&json!("CONFLICT"), &Value::Null));
    assert_eq!(wrong["problem"]["code"], "VERSION_CONFLICT");
    let zero = write(&client, "restoreEvent", restore(0, 901)).await;
    assert_eq!(problems(&zero), [("/expectedVersion", "OUT_OF_RANGE")]);
    assert_eq!(outcome(&write(&client, "restoreEvent", restore(2, 10)).await), ("UPDATED", Some(3)));
    assert_eq!(outcome(&write(&client, "restoreEvent", restore(2, 10)).await), ("UNCHANGED", Some(3)));
}

async fn an_edit_id_counts_only_with_a_client_id(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    let bare = |notes: &str| json!({ "id": id, "patch": { "notes": notes }, "editId": edit(1) });
    assert_eq!(outcome(&write(&client, "updateEvent", bare("a")).await), ("UPDATED", Some(2)));
    assert_eq!(outcome(&write(&client, "updateEvent", bare("b")).await), ("UPDATED", Some(3)));
}

async fn an_edit_id_is_a_uuid_of_version_7_from_any_time(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    let v4 =
        note(&client, &id, "phone", "x", json!({ "editId": "9b2b7a52-8f1f-4c0e-9d3a-0a5d5c1b2f3e" })).await;
    assert_eq!(problems(&v4), [("/editId", "NOT_UUID_V7")]);
    let text = note(&client, &id, "phone", "x", json!({ "editId": "one" })).await;
    assert_eq!(problems(&text), [("/editId", "INVALID_UUID")]);
    let future =
        note(&client, &id, "phone", "x", json!({ "editId": "ffffffff-ffff-7fff-bfff-ffffffffffff" })).await;
    assert_eq!(outcome(&future), ("UPDATED", Some(2)));
}

async fn an_update_of_a_deleted_event_is_deleted_whatever_its_guards_are(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    let remove = json!({ "id": id, "editId": edit(5), "clientId": "phone" });
    assert_eq!(outcome(&write(&client, "deleteEvent", remove).await), ("DELETED", Some(2)));
    for guards in [json!({}), json!({ "editId": edit(1) }), json!({ "expectedVersion": 9 })] {
        let result = note(&client, &id, "phone", "x", guards).await;
        assert_eq!((outcome(&result), &result["event"]), (("DELETED", Some(2)), &Value::Null));
    }
    // Invalid values are reported first, whatever is stored.
    let bad = patch(&client, &id, json!({ "timestamp": null })).await;
    assert_eq!(problems(&bad), [("/patch/timestamp", "REQUIRED")]);
}

async fn mutations_that_change_nothing_do_not_move_the_feed_head(server: &TestServer) {
    let client = server.client("ann");
    let id = create(&client).await;
    let kind = client.event_type("walk").await;
    note(&client, &id, "phone", "a", json!({ "editId": edit(2) })).await;
    let deleted = event(&kind);
    client.create(std::slice::from_ref(&deleted)).await;
    write(&client, "deleteEvent", json!({ "id": deleted["id"] })).await;
    let before = head(&client).await;
    let results = flush(
        &client,
        &json!([
            { "updateEvent": { "id": id, "patch": { "notes": "a" } } },
            { "updateEvent": { "id": id, "patch": { "notes": "late" }, "editId": edit(1) } },
            { "updateEvent": { "id": id, "patch": { "notes": "late" }, "expectedVersion": 9 } },
            { "updateEvent": { "id": deleted["id"], "patch": { "notes": "late" } } },
            { "deleteEvent": { "id": deleted["id"] } },
            { "createEvent": deleted },
            { "updateEventType": { "id": kind, "patch": { "name": "walk", "color": null } } },
            { "deleteEvent": { "id": kind } },
        ]),
    )
    .await;
    let outcomes: Vec<_> = results.iter().map(|result| outcome(result).0).collect();
    assert_eq!(
        outcomes,
        ["UNCHANGED", "UNCHANGED", "CONFLICT", "DELETED", "UNCHANGED", "DELETED", "UNCHANGED", "REJECTED"]
    );
    assert_eq!(head(&client).await, before);
}

async fn a_cleared_note_stays_cleared(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let (_, cursor) = client.pull(None, 500).await;
    assert_eq!(outcome(&patch(&client, &sent["id"], json!({ "notes": null })).await), ("UPDATED", Some(2)));
    // Neither an edit of another field nor a resent create restores it.
    patch(&client, &sent["id"], json!({ "timeZone": "Europe/Berlin" })).await;
    assert_eq!(client.create(std::slice::from_ref(&sent)).await["results"][0]["differs"], true);
    assert_eq!(read(&client, &sent["id"]).await["notes"], Value::Null);
    let (changes, _) = client.pull(Some(&cursor), 500).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0]["event"].get("notes"), Some(&Value::Null));
    // A field that an edit does not name keeps its value.
    let kept = event(&kind);
    client.create(std::slice::from_ref(&kept)).await;
    let result = patch(&client, &kept["id"], json!({ "timeZone": "Europe/Berlin" })).await;
    assert_eq!(result["event"]["notes"], kept["notes"]);
}
