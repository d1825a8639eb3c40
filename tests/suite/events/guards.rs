//! Versions and edit ids: which edits go ahead, and which were overtaken.

use serde_json::{Value, json};

use super::{flush, head, patch, problems, read, said, write};
use crate::harness::{Client, TestServer, event, on_both};

on_both!(
    an_expected_version_that_no_longer_holds_is_a_conflict_with_the_current_state,
    a_chain_of_ones_own_edits_is_no_conflict,
    the_chain_of_another_client_is_a_conflict,
    content_that_is_wanted_already_is_unchanged_whatever_version_is_expected,
    an_expected_version_below_one_is_out_of_range,
    an_edit_that_is_sent_again_or_comes_late_never_undoes_a_newer_one,
    a_newer_edit_that_changed_nothing_is_remembered_and_moves_nothing,
    what_was_made_on_the_current_version_is_applied_though_the_clock_was_ahead,
    edits_of_one_call_follow_each_other_whatever_their_ids_say,
    a_restore_expects_the_version_of_the_tombstone,
    an_edit_id_counts_only_with_a_client_id,
    an_edit_id_is_a_uuid_of_version_7_from_any_time,
    an_update_of_a_deleted_event_is_deleted_before_anything_is_asked,
    what_changes_nothing_leaves_the_head_where_it_is,
    a_cleared_note_stays_cleared,
);

/// The id of the nth edit of a client.
fn edit(number: u32) -> String {
    format!("01900000-0000-7000-8000-{number:012x}")
}

async fn stored(client: &Client) -> Value {
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    let input = json!({ "event": sent, "clientId": "phone" });
    assert_eq!(said(&write(client, "createEvent", input).await), ("CREATED", Some(1)));
    sent["id"].clone()
}

/// Sets the notes as this client, on these terms.
async fn note(client: &Client, id: &Value, writer: &str, notes: &str, terms: Value) -> Value {
    let mut input = json!({ "id": id, "patch": { "notes": notes }, "clientId": writer });
    input.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
    write(client, "updateEvent", input).await
}

async fn an_expected_version_that_no_longer_holds_is_a_conflict_with_the_current_state(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    let first = note(&client, &id, "tablet", "one", json!({ "expectedVersion": 1 })).await;
    assert_eq!((said(&first), &first["problem"]), (("UPDATED", Some(2)), &Value::Null));
    for (expected, mutation) in [(1, "updateEvent"), (3, "updateEvent"), (1, "deleteEvent")] {
        let mut input = json!({ "id": id, "expectedVersion": expected, "clientId": "phone" });
        if mutation == "updateEvent" {
            input["patch"] = json!({ "notes": "two" });
        }
        let result = write(&client, mutation, input).await;
        assert_eq!((said(&result), &result["matchedBy"]), (("CONFLICT", Some(2)), &json!("ID")));
        let problem = &result["problem"];
        assert_eq!(
            (&problem["code"], &problem["status"], &problem["retryable"]),
            (&json!("VERSION_CONFLICT"), &json!(409), &json!(false))
        );
        assert_eq!((&result["event"]["notes"], &result["event"]["version"]), (&json!("one"), &json!(2)));
    }
    // Merged onto what came along, with its version, it goes chunks.
    let merged = note(&client, &id, "phone", "one and two", json!({ "expectedVersion": 2 })).await;
    assert_eq!(said(&merged), ("UPDATED", Some(3)));
    assert_eq!(
        said(&write(&client, "deleteEvent", json!({ "id": id, "expectedVersion": 3 })).await),
        ("DELETED", Some(4))
    );
}

async fn a_chain_of_ones_own_edits_is_no_conflict(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    // All made while the device had seen version 1.
    for (version, notes) in [(2, "a"), (3, "b"), (4, "c")] {
        let result = note(&client, &id, "phone", notes, json!({ "expectedVersion": 1 })).await;
        assert_eq!(said(&result), ("UPDATED", Some(version)));
    }
    let edits: Vec<Value> = ["d", "e"]
        .iter()
        .map(
            |notes| json!({ "updateEvent": { "id": id, "patch": { "notes": notes }, "expectedVersion": 1 } }),
        )
        .collect();
    let results = flush(&client, &json!(edits)).await;
    assert_eq!([said(&results[0]), said(&results[1])], [("UPDATED", Some(5)), ("UPDATED", Some(6))]);
    // Greater than the current version it was never seen.
    let ahead = note(&client, &id, "phone", "f", json!({ "expectedVersion": 7 })).await;
    assert_eq!(said(&ahead), ("CONFLICT", Some(6)));
}

async fn the_chain_of_another_client_is_a_conflict(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    note(&client, &id, "tablet", "a", json!({})).await;
    note(&client, &id, "phone", "b", json!({})).await;
    note(&client, &id, "phone", "c", json!({})).await;
    // Versions 3 and 4 are the phone's own, 2 is not.
    let too_old = note(&client, &id, "phone", "d", json!({ "expectedVersion": 1 })).await;
    assert_eq!(said(&too_old), ("CONFLICT", Some(4)));
    let others = note(&client, &id, "tablet", "d", json!({ "expectedVersion": 2 })).await;
    assert_eq!(said(&others), ("CONFLICT", Some(4)));
    let nameless = json!({ "id": id, "patch": { "notes": "d" }, "expectedVersion": 2 });
    assert_eq!(said(&write(&client, "updateEvent", nameless).await), ("CONFLICT", Some(4)));
    let own = note(&client, &id, "phone", "d", json!({ "expectedVersion": 2 })).await;
    assert_eq!(said(&own), ("UPDATED", Some(5)));
}

async fn content_that_is_wanted_already_is_unchanged_whatever_version_is_expected(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    note(&client, &id, "tablet", "same", json!({})).await;
    let same = note(&client, &id, "phone", "same", json!({ "expectedVersion": 1 })).await;
    assert_eq!((said(&same), &same["problem"]), (("UNCHANGED", Some(2)), &Value::Null));
    write(&client, "deleteEvent", json!({ "id": id })).await;
    let again = write(&client, "deleteEvent", json!({ "id": id, "expectedVersion": 1 })).await;
    assert_eq!((said(&again), &again["event"]), (("UNCHANGED", Some(3)), &Value::Null));
}

async fn an_expected_version_below_one_is_out_of_range(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
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
    let id = stored(&client).await;
    let send = async |number: u32, notes: &str| {
        note(&client, &id, "phone", notes, json!({ "editId": edit(number) })).await
    };
    assert_eq!(said(&send(2, "second").await), ("UPDATED", Some(2)));
    assert_eq!(said(&send(2, "second").await), ("UNCHANGED", Some(2)));
    let late = send(1, "first").await;
    assert_eq!((said(&late), &late["event"]["notes"]), (("UNCHANGED", Some(2)), &json!("second")));
    // An edit without an id goes ahead, and the last id stays in mind.
    assert_eq!(said(&note(&client, &id, "phone", "bare", json!({})).await), ("UPDATED", Some(3)));
    assert_eq!(said(&send(2, "second").await), ("UNCHANGED", Some(3)));
    assert_eq!(said(&send(3, "third").await), ("UPDATED", Some(4)));
    // A deletion and a restore are edits as well.
    let remove = json!({ "id": id, "editId": edit(4), "clientId": "phone" });
    assert_eq!(said(&write(&client, "deleteEvent", remove.clone()).await), ("DELETED", Some(5)));
    let mut content = event(&client.event_type("run").await);
    content["id"] = id.clone();
    let restore = json!({ "event": content, "editId": edit(5), "clientId": "phone" });
    assert_eq!(said(&write(&client, "restoreEvent", restore.clone()).await), ("UPDATED", Some(6)));
    assert_eq!(said(&write(&client, "deleteEvent", remove).await), ("UNCHANGED", Some(6)));
    assert_eq!(said(&write(&client, "restoreEvent", restore).await), ("UNCHANGED", Some(6)));
    // Only of the client that wrote last.
    assert_eq!(
        said(&note(&client, &id, "tablet", "t", json!({ "editId": edit(1) })).await),
        ("UPDATED", Some(7))
    );
    assert_eq!(said(&send(1, "p").await), ("UPDATED", Some(8)));
}

async fn a_newer_edit_that_changed_nothing_is_remembered_and_moves_nothing(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    note(&client, &id, "phone", "a", json!({ "editId": edit(1) })).await;
    let before = (head(&client).await, read(&client, &id).await);
    assert_eq!(
        said(&note(&client, &id, "phone", "a", json!({ "editId": edit(3) })).await),
        ("UNCHANGED", Some(2))
    );
    assert_eq!((head(&client).await, read(&client, &id).await), before);
    let late = note(&client, &id, "phone", "b", json!({ "editId": edit(2) })).await;
    assert_eq!((said(&late), &late["event"]["notes"]), (("UNCHANGED", Some(2)), &json!("a")));
    assert_eq!(
        said(&note(&client, &id, "phone", "b", json!({ "editId": edit(4) })).await),
        ("UPDATED", Some(3))
    );
}

/// A phone whose clock was ahead for one edit, on an event and on a type.
async fn what_was_made_on_the_current_version_is_applied_though_the_clock_was_ahead(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    let ahead = |notes: &'static str| (notes, json!({ "expectedVersion": 1, "editId": edit(900) }));
    let (notes, terms) = ahead("b");
    assert_eq!(said(&note(&client, &id, "phone", notes, terms).await), ("UPDATED", Some(2)));
    // The clock is put right. The edit is made on what is stored, and so is the deletion.
    let right = json!({ "expectedVersion": 2, "editId": edit(10) });
    assert_eq!(said(&note(&client, &id, "phone", "c", right.clone()).await), ("UPDATED", Some(3)));
    // Sent again, neither the old one nor the new one does anything.
    let (notes, terms) = ahead("b");
    assert_eq!(said(&note(&client, &id, "phone", notes, terms).await), ("UNCHANGED", Some(3)));
    assert_eq!(said(&note(&client, &id, "phone", "c", right).await), ("UNCHANGED", Some(3)));
    assert_eq!(
        said(&note(&client, &id, "phone", "d", json!({ "editId": edit(11) })).await),
        ("UNCHANGED", Some(3))
    );
    let delete = json!({ "id": id, "expectedVersion": 3, "editId": edit(12), "clientId": "phone" });
    assert_eq!(said(&write(&client, "deleteEvent", delete.clone()).await).0, "DELETED");
    assert_eq!(said(&write(&client, "deleteEvent", delete).await).0, "UNCHANGED");
    let kind = client.event_type("walk").await;
    let rename = |name: &str, version: i32, number: u32| json!({ "id": kind, "patch": { "name": name }, "clientId": "phone", "expectedVersion": version, "editId": edit(number) });
    for (name, version, number, expected) in [
        ("b", 1, 900, ("UPDATED", Some(2))),
        ("c", 2, 10, ("UPDATED", Some(3))),
        ("b", 1, 900, ("UNCHANGED", Some(3))),
    ] {
        assert_eq!(said(&write(&client, "updateEventType", rename(name, version, number)).await), expected);
    }
}

async fn edits_of_one_call_follow_each_other_whatever_their_ids_say(server: &TestServer) {
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
    // All of it is sent again: nothing is undone, and nothing is done twice.
    assert_eq!(outcomes().await, ["DELETED", "DELETED", "DELETED", "DELETED", "UNCHANGED"]);
}

async fn a_restore_expects_the_version_of_the_tombstone(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let delete = json!({ "id": sent["id"], "clientId": "phone", "editId": edit(900) });
    assert_eq!(said(&write(&client, "deleteEvent", delete).await).0, "DELETED");
    let restore = |version: i32, number: u32| json!({ "event": sent, "clientId": "phone", "expectedVersion": version, "editId": edit(number) });
    let wrong = write(&client, "restoreEvent", restore(3, 901)).await;
    assert_eq!((&wrong["outcome"], &wrong["event"]), (&json!("CONFLICT"), &Value::Null));
    assert_eq!(wrong["problem"]["code"], "VERSION_CONFLICT");
    let zero = write(&client, "restoreEvent", restore(0, 901)).await;
    assert_eq!(problems(&zero), [("/expectedVersion", "OUT_OF_RANGE")]);
    assert_eq!(said(&write(&client, "restoreEvent", restore(2, 10)).await), ("UPDATED", Some(3)));
    assert_eq!(said(&write(&client, "restoreEvent", restore(2, 10)).await), ("UNCHANGED", Some(3)));
}

async fn an_edit_id_counts_only_with_a_client_id(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    let bare = |notes: &str| json!({ "id": id, "patch": { "notes": notes }, "editId": edit(1) });
    assert_eq!(said(&write(&client, "updateEvent", bare("a")).await), ("UPDATED", Some(2)));
    assert_eq!(said(&write(&client, "updateEvent", bare("b")).await), ("UPDATED", Some(3)));
}

async fn an_edit_id_is_a_uuid_of_version_7_from_any_time(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    let v4 =
        note(&client, &id, "phone", "x", json!({ "editId": "9b2b7a52-8f1f-4c0e-9d3a-0a5d5c1b2f3e" })).await;
    assert_eq!(problems(&v4), [("/editId", "NOT_UUID_V7")]);
    let text = note(&client, &id, "phone", "x", json!({ "editId": "one" })).await;
    assert_eq!(problems(&text), [("/editId", "INVALID_UUID")]);
    let future =
        note(&client, &id, "phone", "x", json!({ "editId": "ffffffff-ffff-7fff-bfff-ffffffffffff" })).await;
    assert_eq!(said(&future), ("UPDATED", Some(2)));
}

async fn an_update_of_a_deleted_event_is_deleted_before_anything_is_asked(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    let remove = json!({ "id": id, "editId": edit(5), "clientId": "phone" });
    assert_eq!(said(&write(&client, "deleteEvent", remove).await), ("DELETED", Some(2)));
    for terms in [json!({}), json!({ "editId": edit(1) }), json!({ "expectedVersion": 9 })] {
        let result = note(&client, &id, "phone", "x", terms).await;
        assert_eq!((said(&result), &result["event"]), (("DELETED", Some(2)), &Value::Null));
    }
    // Values come first, whatever is stored.
    let bad = patch(&client, &id, json!({ "timestamp": null })).await;
    assert_eq!(problems(&bad), [("/patch/timestamp", "REQUIRED")]);
}

async fn what_changes_nothing_leaves_the_head_where_it_is(server: &TestServer) {
    let client = server.client("ann");
    let id = stored(&client).await;
    let kind = client.event_type("walk").await;
    note(&client, &id, "phone", "a", json!({ "editId": edit(2) })).await;
    let dead = event(&kind);
    client.create(std::slice::from_ref(&dead)).await;
    write(&client, "deleteEvent", json!({ "id": dead["id"] })).await;
    let before = head(&client).await;
    let results = flush(
        &client,
        &json!([
            { "updateEvent": { "id": id, "patch": { "notes": "a" } } },
            { "updateEvent": { "id": id, "patch": { "notes": "late" }, "editId": edit(1) } },
            { "updateEvent": { "id": id, "patch": { "notes": "late" }, "expectedVersion": 9 } },
            { "updateEvent": { "id": dead["id"], "patch": { "notes": "late" } } },
            { "deleteEvent": { "id": dead["id"] } },
            { "createEvent": dead },
            { "updateEventType": { "id": kind, "patch": { "name": "walk", "color": null } } },
            { "deleteEvent": { "id": kind } },
        ]),
    )
    .await;
    let outcomes: Vec<_> = results.iter().map(|result| said(result).0).collect();
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
    assert_eq!(said(&patch(&client, &sent["id"], json!({ "notes": null })).await), ("UPDATED", Some(2)));
    // Neither an edit that does not name it nor a resent create brings it back.
    patch(&client, &sent["id"], json!({ "timeZone": "Europe/Berlin" })).await;
    assert_eq!(client.create(std::slice::from_ref(&sent)).await["results"][0]["differs"], true);
    assert_eq!(read(&client, &sent["id"]).await["notes"], Value::Null);
    let (changes, _) = client.pull(Some(&cursor), 500).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0]["event"].get("notes"), Some(&Value::Null));
    // What an edit does not name stays.
    let kept = event(&kind);
    client.create(std::slice::from_ref(&kept)).await;
    let answer = patch(&client, &kept["id"], json!({ "timeZone": "Europe/Berlin" })).await;
    assert_eq!(answer["event"]["notes"], kept["notes"]);
}
