//! What went wrong in the field, each as the promise that it shall not happen here.

mod feed;
mod flood;
mod import;
mod subscription;

use serde_json::{Value, json};

use crate::edits::{flush, head, patch, read, said, write};
use crate::harness::{Bed, event, eventually, new_id, on_both};

on_both!(
    a_write_that_changes_nothing_moves_nothing,
    one_bad_event_in_a_batch_of_fifty_costs_none_of_the_others,
    a_duplicate_by_another_key_says_which_row_it_is_and_the_sent_id_becomes_its_alias,
    fifty_at_once_make_one_row,
    a_restored_phone_that_makes_new_ids_is_matched_by_external_id,
    another_users_id_is_simply_unknown,
    a_deleted_event_does_not_rise_again,
    a_bootstrap_ends_exactly_at_now,
    a_cursor_that_leads_nowhere_is_answered_by_reset,
    all_wrong_fields_are_told_with_pointers,
    a_page_out_of_range_is_an_error_never_a_clamp,
    two_all_day_events_of_one_type_on_one_day_are_two,
    a_cleared_note_stays_cleared,
    every_row_has_exactly_one_entry_in_the_feed,
    a_type_is_not_deleted_from_under_its_events,
    a_new_type_and_its_event_sent_together_are_both_stored,
    one_poison_record_does_not_block_an_outbox,
    every_refusal_has_one_shape_and_a_stable_code,
);

async fn a_write_that_changes_nothing_moves_nothing(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..20).map(|_| event(&kind)).collect();
    assert_eq!(client.create(&events).await["created"], 20);
    let (_, cursor) = client.pull(None, 500).await;
    for _ in 0..3 {
        let again = client.create(&events).await;
        assert_eq!((&again["duplicates"], &again["created"]), (&json!(20), &json!(0)));
        assert!(
            again["results"].as_array().unwrap().iter().all(|r| r["differs"] == false && r["version"] == 1)
        );
    }
    let (changes, after) = client.pull(Some(&cursor), 500).await;
    assert_eq!((changes.len(), after), (0, cursor));
}

async fn one_bad_event_in_a_batch_of_fifty_costs_none_of_the_others(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let mut events: Vec<Value> = (0..50).map(|_| event(&kind)).collect();
    events[7]["timestamp"] = json!("yesterday");
    let answer = client.create(&events).await;
    assert_eq!((&answer["created"], &answer["rejected"]), (&json!(49), &json!(1)));
    assert_eq!(answer["results"][7]["problem"]["code"], "INVALID_DATETIME");
    assert_eq!(answer["results"][7]["sentId"], events[7]["id"]);
}

async fn a_duplicate_by_another_key_says_which_row_it_is_and_the_sent_id_becomes_its_alias(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let mut first = event(&kind);
    first["externalId"] = json!("sample-1");
    let mut second = first.clone();
    second["id"] = json!(new_id());
    client.create(&[first.clone()]).await;
    let answer = client.create(&[second.clone()]).await;
    let result = &answer["results"][0];
    assert_eq!((&result["outcome"], &result["matchedBy"]), (&json!("DUPLICATE"), &json!("EXTERNAL_ID")));
    assert_eq!((&result["event"]["id"], &result["sentId"]), (&first["id"], &second["id"]));
    // The alias stands for the row in reads, and as a key of its own from now on.
    let read = client
        .ask("query($id: ID!) { event(id: $id) { id } node(id: $id) { id } }", json!({ "id": second["id"] }));
    let read = read.await;
    assert_eq!((&read["event"]["id"], &read["node"]["id"]), (&first["id"], &first["id"]));
    assert_eq!(client.create(&[second]).await["results"][0]["matchedBy"], "ID");
    assert_eq!(client.pull(None, 500).await.0.len(), 2);
}

async fn fifty_at_once_make_one_row(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let workout = event(&kind);
    let sends = (0..50).map(|_| {
        let (client, workout) = (client.clone(), workout.clone());
        tokio::spawn(async move { client.create(&[workout]).await["created"].as_i64().unwrap() })
    });
    let mut created = 0;
    for send in sends.collect::<Vec<_>>() {
        created += send.await.unwrap();
    }
    assert_eq!((created, bed.number("SELECT count(*) FROM event").await), (1, 1));
}

async fn a_restored_phone_that_makes_new_ids_is_matched_by_external_id(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("set").await;
    let samples = |count: u32| -> Vec<Value> {
        (0..count)
            .map(|n| {
                let mut sample = event(&kind);
                sample["externalId"] = json!(format!("set-{n}"));
                sample["sourceType"] = json!("healthkit");
                sample
            })
            .collect()
    };
    assert_eq!(client.create(&samples(28)).await["created"], 28);
    let restored = client.create(&samples(28)).await;
    assert_eq!((&restored["created"], &restored["duplicates"]), (&json!(0), &json!(28)));
    assert_eq!(bed.number("SELECT count(*) FROM event").await, 28);
}

async fn another_users_id_is_simply_unknown(bed: &Bed) {
    let (ann, bob) = (bed.client("ann"), bed.client("bob"));
    let kind = ann.event_type("run").await;
    let hers = event(&kind);
    ann.create(std::slice::from_ref(&hers)).await;
    let import = new_id();
    ann.create_import(&import, 10, None).await;
    let reads = "query($id: ID!) { event(id: $id) { id } eventType(id: $id) { id } importJob(id: $id) { id } node(id: $id) { id } \
        nodes(ids: [$id]) { id } }";
    let unknown = bob.send(reads, json!({ "id": new_id() })).await;
    for id in [hers["id"].clone(), json!(kind), json!(import)] {
        assert_eq!(bob.send(reads, json!({ "id": id })).await, unknown);
    }
    let cancel = "mutation($id: ID!) { cancelImport(input: { id: $id }) { importJob { id } problem { code detail } } }";
    let refused = bob.ask(cancel, json!({ "id": import })).await;
    assert_eq!(refused, bob.ask(cancel, json!({ "id": new_id() })).await);
    assert_eq!(bob.put(&import, None, vec![b'x'; 10]).await.status(), 404);
    // The same id is his own to use, and neither can tell.
    let his = bob.event_type("run").await;
    let mut same = event(&his);
    same["id"] = hers["id"].clone();
    same["notes"] = json!("his");
    assert_eq!(bob.create(&[same]).await["created"], 1);
    let read = ann.ask("query($id: ID!) { event(id: $id) { notes } }", json!({ "id": hers["id"] })).await;
    assert_eq!(read["event"]["notes"], "a run");
}

/// Makes a tombstone as a delete would: content gone, next version, next position.
async fn bury(bed: &Bed, id: &str, by: &str) {
    let literal = if crate::harness::is_postgres(&bed.sql) {
        format!("'{id}'")
    } else {
        format!("x'{}'", id.replace('-', ""))
    };
    bed.execute(&format!(
        "UPDATE event SET event_type_id = NULL, timestamp = NULL, is_all_day = NULL, notes = NULL, notes_search = NULL, \
         properties = NULL, content_hash = NULL, version = version + 1, deleted_at = 1, deleted_by = '{by}', \
         change_seq = (SELECT feed_head + 1 FROM account a WHERE a.user_id = event.user_id) WHERE id = {literal}"
    ))
    .await;
    bed.execute("UPDATE account SET feed_head = feed_head + 1").await;
}

async fn a_deleted_event_does_not_rise_again(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let (mut kept, mut rolled_back) = (event(&kind), event(&kind));
    kept["externalId"] = json!("k");
    rolled_back["externalId"] = json!("r");
    client.create(&[kept.clone(), rolled_back.clone()]).await;
    assert_eq!(said(&write(&client, "deleteEvent", json!({ "id": kept["id"] })).await), ("DELETED", Some(2)));
    bury(bed, rolled_back["id"].as_str().unwrap(), "rollback").await;
    let mut by_key = kept.clone();
    by_key["id"] = json!(new_id());
    // The late retry: the create comes again, and an edit made before the deletion was known.
    assert_eq!(said(&patch(&client, &kept["id"], json!({ "notes": "late" })).await), ("DELETED", Some(2)));
    let answer = client.create(&[kept, by_key, rolled_back]).await;
    let results = &answer["results"];
    assert_eq!((&results[0]["outcome"], &results[0]["matchedBy"]), (&json!("DELETED"), &json!("ID")));
    assert_eq!(
        (&results[1]["outcome"], &results[1]["matchedBy"]),
        (&json!("DELETED"), &json!("EXTERNAL_ID"))
    );
    assert_eq!((&results[0]["event"], &results[0]["version"]), (&Value::Null, &json!(2)));
    // What a rollback took back is made anew, as the next version.
    assert_eq!((&results[2]["outcome"], &results[2]["version"]), (&json!("CREATED"), &json!(3)));
}

async fn a_bootstrap_ends_exactly_at_now(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..30).map(|_| event(&kind)).collect();
    client.create(&events).await;
    bury(bed, events[3]["id"].as_str().unwrap(), "user").await;
    let first = client.page(None, 10).await;
    assert_eq!((first["changes"].as_array().unwrap().len(), &first["hasMore"]), (10, &json!(true)));
    // Deleted behind the first page: the deletion arrives. Deleted before: nothing of it does.
    bury(bed, events[20]["id"].as_str().unwrap(), "user").await;
    let (rest, cursor) = client.pull(first["cursor"].as_str(), 10).await;
    let deleted: Vec<_> =
        rest.iter().filter(|change| change["deleted"] == true).map(|c| &c["entityId"]).collect();
    assert_eq!(deleted, [&events[20]["id"]]);
    assert!(!rest.iter().any(|change| change["entityId"] == events[3]["id"]));
    let status = client.ask(
        "query($c: Cursor) { syncStatus(after: $c) { state pending headCursor } }",
        json!({ "c": cursor }),
    );
    let status = status.await["syncStatus"].take();
    assert_eq!(status, json!({ "state": "UP_TO_DATE", "pending": 0, "headCursor": cursor }));
}

async fn a_cursor_that_leads_nowhere_is_answered_by_reset(bed: &Bed) {
    let (ann, bob) = (bed.client("ann"), bed.client("bob"));
    ann.event_type("run").await;
    bob.event_type("run").await;
    let (_, hers) = ann.pull(None, 500).await;
    for bad in ["", "garbage", "AAAA", &hers] {
        let page = bob.page(Some(bad), 500).await;
        assert_eq!((&page["reset"], &page["hasMore"]), (&json!("CURSOR_INVALID"), &json!(true)));
    }
    // A backup was restored: her cursor is ahead, the counting begins anew, and a bootstrap follows.
    bed.execute("UPDATE account SET feed_head = 0 WHERE subject = 'ann'").await;
    let page = ann.page(Some(&hers), 500).await;
    assert_eq!(page["reset"], "EPOCH_CHANGED");
    bed.execute("UPDATE account SET feed_head = 1 WHERE subject = 'ann'").await;
    assert_eq!(ann.page(Some(&hers), 500).await["reset"], "EPOCH_CHANGED");
    assert_eq!(ann.pull(None, 500).await.0.len(), 1);
}

async fn all_wrong_fields_are_told_with_pointers(bed: &Bed) {
    let client = bed.client("ann");
    let bad = json!({ "id": "x", "timestamp": "x", "notes": "a\u{0}b", "timeZone": "Mars/Base", "location": { "latitude": 91.0 },
        "properties": { "a": "\u{0}" }, "sourceType": "Bad!" });
    let answer = client.create(&[bad]).await;
    let problem = &answer["results"][0]["problem"];
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(problem["code"], "VALIDATION_FAILED");
    assert_eq!(
        pointers,
        [
            "/id",
            "/eventTypeId",
            "/timestamp",
            "/timeZone",
            "/notes",
            "/sourceType",
            "/location/latitude",
            "/location/longitude",
            "/properties"
        ]
    );
}

async fn a_page_out_of_range_is_an_error_never_a_clamp(bed: &Bed) {
    let client = bed.client("ann");
    for (first, code) in [(0, "BAD_USER_INPUT"), (-1, "BAD_USER_INPUT"), (5_001, "LIMIT_EXCEEDED")] {
        let answer =
            client.send("query($n: Int!) { changes(first: $n) { cursor } }", json!({ "n": first })).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{first}");
    }
    let both = client.send("{ events(first: 1, last: 1) { nodes { id } } }", json!({})).await;
    assert_eq!(both["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
}

async fn two_all_day_events_of_one_type_on_one_day_are_two(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("mood").await;
    let all_day = || json!({ "id": new_id(), "eventTypeId": kind, "isAllDay": true, "timestamp": "2026-05-01T23:00:00-05:00" });
    assert_eq!(client.create(&[all_day(), all_day()]).await["created"], 2);
    eventually("both are read as the date as written", || async {
        let read = client.ask("{ events { nodes { timestamp } } }", json!({})).await;
        read["events"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|e| e["timestamp"] == "2026-05-01T00:00:00.000Z")
    })
    .await;
}

async fn a_cleared_note_stays_cleared(bed: &Bed) {
    let client = bed.client("ann");
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

async fn every_row_has_exactly_one_entry_in_the_feed(bed: &Bed) {
    let client = bed.client("ann");
    client.event_type("run").await;
    // From its own start a cursor brings tombstones as well.
    let (_, cursor) = client.pull(None, 500).await;
    let kind = new_id();
    let (one, two) = (event(&kind), event(&kind));
    let edit = |id: &Value, notes: &str| json!({ "updateEvent": { "id": id, "patch": { "notes": notes } } });
    let outbox = json!([
        { "createEventType": { "id": kind, "name": "walk" } },
        { "createEvent": one },
        { "createEvent": two },
        edit(&one["id"], "a"),
        edit(&one["id"], "b"),
        { "deleteEvent": { "id": two["id"] } },
    ]);
    for result in flush(&client, &outbox).await {
        assert_ne!(result["outcome"], "REJECTED");
    }
    let (changes, _) = client.pull(Some(&cursor), 2).await;
    let entries: Vec<_> = changes.iter().map(|c| (&c["entityId"], &c["version"], &c["deleted"])).collect();
    let kind = json!(kind);
    assert_eq!(
        entries,
        [
            (&kind, &json!(1), &json!(false)),
            (&one["id"], &json!(3), &json!(false)),
            (&two["id"], &json!(2), &json!(true)),
        ]
    );
}

async fn a_type_is_not_deleted_from_under_its_events(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let before = head(&client).await;
    let refused = write(&client, "deleteEventType", json!({ "id": kind })).await;
    assert_eq!(
        (said(&refused), &refused["problem"]["code"]),
        (("REJECTED", None), &json!("EVENT_TYPE_IN_USE"))
    );
    assert_eq!(read(&client, &sent["id"]).await["eventType"], json!({ "id": kind, "name": "run" }));
    assert_eq!(head(&client).await, before);
}

async fn a_new_type_and_its_event_sent_together_are_both_stored(bed: &Bed) {
    let client = bed.client("ann");
    let kind = new_id();
    let sent = event(&kind);
    let results = flush(
        &client,
        &json!([{ "createEventType": { "id": kind, "name": "run" } }, { "createEvent": sent }]),
    )
    .await;
    assert_eq!([said(&results[0]), said(&results[1])], [("CREATED", Some(1)); 2]);
    assert_eq!(read(&client, &sent["id"]).await["eventType"]["name"], "run");
}

async fn one_poison_record_does_not_block_an_outbox(bed: &Bed) {
    let client = bed.client("ann");
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
    assert_eq!(bed.number("SELECT count(*) FROM event").await, 47);
}

async fn every_refusal_has_one_shape_and_a_stable_code(bed: &Bed) {
    let client = bed.client("ann");
    let query = "mutation($input: DeleteEventInput!) { deleteEvent(input: $input) { result { problem \
        { type title status detail instance code retryable retryAfterMs errors { pointer code detail } } } } }";
    let item = client.ask(query, json!({ "input": { "id": new_id() } })).await;
    let item = &item["deleteEvent"]["result"]["problem"];
    assert_eq!(
        (&item["type"], &item["code"], &item["status"]),
        (&json!("urn:idem:problem:not-found"), &json!("NOT_FOUND"), &json!(404))
    );
    let whole = client.send(query, json!({ "input": { "id": new_id(), "what": 1 } })).await;
    let request = &whole["errors"][0]["extensions"]["problem"];
    for field in ["type", "title", "status", "detail", "code", "retryable"] {
        assert!(!item[field].is_null() && !request[field].is_null(), "{field}: {item} {request}");
    }
    assert_eq!(request["code"], whole["errors"][0]["extensions"]["code"]);
}
