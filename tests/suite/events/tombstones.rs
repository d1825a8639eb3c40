//! Tests tombstones, which deletions leave, and `restoreEvent`.

use serde_json::{Value, json};

use super::{flush, full, head, outcome, patch, problems, read, write};
use crate::harness::{TestServer, event, is_postgres, new_id, on_both};

on_both!(
    a_deleted_event_leaves_a_tombstone_without_content_that_keeps_its_keys,
    a_create_by_the_id_or_the_external_id_of_a_deleted_event_is_deleted,
    a_deletion_arrives_in_the_feed_once,
    a_restored_event_has_the_sent_content_and_keeps_its_keys,
    a_restore_of_a_living_event_is_unchanged_or_a_conflict,
    a_restore_reports_all_that_is_wrong_with_its_event,
    a_restore_ignores_source_type_and_external_id,
    an_event_that_a_user_deletes_after_a_rollback_stays_deleted,
    a_late_create_does_not_restore_a_deleted_event,
);

/// Returns an id as a literal of SQL.
fn literal(server: &TestServer, id: &Value) -> String {
    let id = id.as_str().unwrap();
    if is_postgres(&server.sql) { format!("'{id}'") } else { format!("x'{}'", id.replace('-', "")) }
}

async fn a_deleted_event_leaves_a_tombstone_without_content_that_keeps_its_keys(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    write(&client, "createEvent", json!({ "event": sent, "clientId": "phone" })).await;
    let edit_id = new_id();
    let input = json!({ "id": sent["id"], "clientId": "phone", "editId": edit_id });
    let deleted = write(&client, "deleteEvent", input).await;
    assert_eq!((outcome(&deleted), &deleted["event"]), (("DELETED", Some(2)), &Value::Null));
    let without_content = format!(
        "SELECT count(*) FROM event WHERE id = {} AND event_type_id IS NULL AND timestamp IS NULL AND end_date IS NULL \
         AND is_all_day IS NULL AND time_zone IS NULL AND notes IS NULL AND notes_search IS NULL AND latitude IS NULL \
         AND longitude IS NULL AND location_name IS NULL AND properties IS NULL AND content_hash IS NULL \
         AND import_job_id IS NULL AND import_version IS NULL",
        literal(server, &sent["id"]),
    );
    assert_eq!(server.number(&without_content).await, 1);
    let kept = format!(
        "SELECT count(*) FROM event WHERE id = {} AND source_type = 'manual' AND external_id = 'x-1' AND version = 2 \
         AND change_seq = 3 AND writer_client_id = 'phone' AND writer_run_start = 1 AND writer_edit_id = {} \
         AND deleted_at IS NOT NULL AND deleted_by = 'user'",
        literal(server, &sent["id"]),
        literal(server, &json!(edit_id)),
    );
    assert_eq!(server.number(&kept).await, 1);
    assert_eq!(read(&client, &sent["id"]).await, Value::Null);
    let lists = client
        .ask("{ events { totalCount } syncStatus { counts { entity live deleted } } }", json!({}))
        .await;
    assert_eq!(lists["events"]["totalCount"], 0);
    assert_eq!(lists["syncStatus"]["counts"][0], json!({ "entity": "EVENT", "live": 0, "deleted": 1 }));
}

async fn a_create_by_the_id_or_the_external_id_of_a_deleted_event_is_deleted(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    write(&client, "deleteEvent", json!({ "id": sent["id"] })).await;
    let before = head(&client).await;
    let mut other = sent.clone();
    other["id"] = json!(new_id());
    let payload = client.create(&[sent.clone(), other.clone(), other.clone()]).await;
    assert_eq!((&payload["deleted"], &payload["created"]), (&json!(3), &json!(0)));
    let keys: Vec<_> =
        payload["results"].as_array().unwrap().iter().map(|r| r["matchedBy"].clone()).collect();
    // The id that was sent with the external id has become an alias.
    assert_eq!(keys, ["ID", "EXTERNAL_ID", "ID"]);
    assert_eq!(head(&client).await, before);
    let job = new_id();
    let line =
        json!({ "id": sent["id"], "eventType": "run", "timestamp": "2026-01-01T00:00:00Z" }).to_string();
    let counts = client.import_all(&job, line.into_bytes()).await["counts"].take();
    assert_eq!((&counts["deleted"], &counts["inserted"]), (&json!(1), &json!(0)));
}

async fn a_deletion_arrives_in_the_feed_once(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let (_, cursor) = client.pull(None, 500).await;
    let id = &sent["id"];
    flush(
        &client,
        &json!([
            { "updateEvent": { "id": id, "patch": { "notes": "a" } } },
            { "updateEvent": { "id": id, "patch": { "notes": "b" } } },
            { "deleteEvent": { "id": id } },
        ]),
    )
    .await;
    write(&client, "deleteEvent", json!({ "id": id })).await;
    let (changes, _) = client.pull(Some(&cursor), 500).await;
    assert_eq!(
        changes,
        [
            json!({ "entity": "EVENT", "entityId": id, "version": 4, "deleted": true, "originClientId": "phone",
            "event": null, "eventType": null })
        ]
    );
}

async fn a_restored_event_has_the_sent_content_and_keeps_its_keys(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    let created = write(&client, "createEvent", json!({ "event": sent })).await["event"].take();
    write(&client, "deleteEvent", json!({ "id": sent["id"] })).await;
    let content = json!({ "id": sent["id"], "eventTypeId": kind, "timestamp": "2026-02-01T00:00:00Z", "notes": "back",
        "sourceType": "other", "externalId": "y-1" });
    let result = write(&client, "restoreEvent", json!({ "event": content })).await;
    assert_eq!((outcome(&result), &result["matchedBy"]), (("UPDATED", Some(3)), &json!("ID")));
    let back = &result["event"];
    assert_eq!((&back["sourceType"], &back["externalId"]), (&json!("manual"), &json!("x-1")));
    assert_eq!(
        (&back["notes"], &back["endDate"], &back["properties"]),
        (&json!("back"), &Value::Null, &json!({}))
    );
    assert_eq!(back["createdAt"], created["createdAt"]);
    assert_eq!(&read(&client, &sent["id"]).await, back);
    assert_eq!(client.create(&[sent]).await["results"][0]["outcome"], "DUPLICATE");
}

async fn a_restore_of_a_living_event_is_unchanged_or_a_conflict(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    let before = head(&client).await;
    let mut content = sent.clone();
    content["externalId"] = json!("other");
    content["sourceType"] = json!("other");
    let same = write(&client, "restoreEvent", json!({ "event": content })).await;
    assert_eq!((outcome(&same), &same["event"]["externalId"]), (("UNCHANGED", Some(1)), &json!("x-1")));
    content["notes"] = json!("other");
    let other = write(&client, "restoreEvent", json!({ "event": content })).await;
    assert_eq!(
        (outcome(&other), &other["problem"]["code"]),
        (("CONFLICT", Some(1)), &json!("VERSION_CONFLICT"))
    );
    assert_eq!(other["event"]["notes"], "a run");
    assert_eq!(head(&client).await, before);
}

async fn a_restore_reports_all_that_is_wrong_with_its_event(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = event(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    write(&client, "deleteEvent", json!({ "id": sent["id"] })).await;
    let wrong = json!({ "event": { "timestamp": "yesterday" }, "editId": "x" });
    let result = write(&client, "restoreEvent", wrong).await;
    assert_eq!(
        problems(&result),
        [
            ("/event/id", "REQUIRED"),
            ("/event/eventTypeId", "REQUIRED"),
            ("/event/timestamp", "INVALID_DATETIME"),
            ("/editId", "INVALID_UUID"),
        ]
    );
    assert_eq!(result["sentId"], Value::Null);
    let mut without_type = sent.clone();
    without_type["eventTypeId"] = json!(new_id());
    let result = write(&client, "restoreEvent", json!({ "event": without_type })).await;
    assert_eq!(problems(&result), [("/event/eventTypeId", "EVENT_TYPE_NOT_FOUND")]);
}

async fn a_restore_ignores_source_type_and_external_id(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let sent = full(&kind);
    client.create(std::slice::from_ref(&sent)).await;
    write(&client, "deleteEvent", json!({ "id": sent["id"] })).await;
    let mut content = sent.clone();
    content["sourceType"] = json!("Bad!");
    content["externalId"] = json!("");
    let result = write(&client, "restoreEvent", json!({ "event": content })).await;
    assert_eq!(outcome(&result), ("UPDATED", Some(3)), "{result}");
    assert_eq!(
        (&result["event"]["sourceType"], &result["event"]["externalId"]),
        (&json!("manual"), &json!("x-1"))
    );
}

async fn an_event_that_a_user_deletes_after_a_rollback_stays_deleted(server: &TestServer) {
    let client = server.client("ann");
    let ids = [new_id(), new_id()];
    let lines = ids.iter().map(|id| {
        format!("{}\n", json!({ "id": id, "eventType": "run", "timestamp": "2026-01-01T00:00:00Z" }))
    });
    let payload: Vec<u8> = lines.collect::<String>().into_bytes();
    let first = new_id();
    client.import_all(&first, payload.clone()).await;
    client.control_import("rollbackImport", &first).await;
    client.wait_for_end(&first).await;
    // The phone deleted one of them while it was offline.
    let before = head(&client).await;
    let delete = json!({ "id": ids[0], "editId": new_id(), "clientId": "phone" });
    for _ in 0..2 {
        let result = write(&client, "deleteEvent", delete.clone()).await;
        assert_eq!(outcome(&result), ("UNCHANGED", Some(2)));
    }
    assert_eq!(head(&client).await, before);
    let counts = client.import_all(&new_id(), payload).await["counts"].take();
    assert_eq!((&counts["deleted"], &counts["inserted"]), (&json!(1), &json!(1)));
    assert_eq!(read(&client, &json!(ids[0])).await, Value::Null);
    assert_eq!(read(&client, &json!(ids[1])).await["version"], 3);
}

async fn a_late_create_does_not_restore_a_deleted_event(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (mut kept, mut rolled_back) = (event(&kind), event(&kind));
    kept["externalId"] = json!("k");
    rolled_back["externalId"] = json!("r");
    client.create(&[kept.clone(), rolled_back.clone()]).await;
    assert_eq!(
        outcome(&write(&client, "deleteEvent", json!({ "id": kept["id"] })).await),
        ("DELETED", Some(2))
    );
    delete_directly(server, rolled_back["id"].as_str().unwrap(), "rollback").await;
    let mut by_key = kept.clone();
    by_key["id"] = json!(new_id());
    // A late retry sends the create again, and an edit that was made before the client knew of the deletion.
    assert_eq!(outcome(&patch(&client, &kept["id"], json!({ "notes": "late" })).await), ("DELETED", Some(2)));
    let payload = client.create(&[kept, by_key, rolled_back]).await;
    let results = &payload["results"];
    assert_eq!((&results[0]["outcome"], &results[0]["matchedBy"]), (&json!("DELETED"), &json!("ID")));
    assert_eq!(
        (&results[1]["outcome"], &results[1]["matchedBy"]),
        (&json!("DELETED"), &json!("EXTERNAL_ID"))
    );
    assert_eq!((&results[0]["event"], &results[0]["version"]), (&Value::Null, &json!(2)));
    // An event that a rollback deleted is created again, as the next version.
    assert_eq!((&results[2]["outcome"], &results[2]["version"]), (&json!("CREATED"), &json!(3)));
}

/// Turns an event into a tombstone in the database. `by` is the value of `deleted_by`.
pub async fn delete_directly(server: &TestServer, id: &str, by: &str) {
    let literal =
        if is_postgres(&server.sql) { format!("'{id}'") } else { format!("x'{}'", id.replace('-', "")) };
    server.execute(&format!(
        "UPDATE event SET event_type_id = NULL, timestamp = NULL, is_all_day = NULL, notes = NULL, notes_search = NULL, \
         properties = NULL, content_hash = NULL, version = version + 1, deleted_at = 1, deleted_by = '{by}', \
         change_seq = (SELECT feed_head + 1 FROM account a WHERE a.user_id = event.user_id) WHERE id = {literal}"
    ))
    .await;
    server.execute("UPDATE account SET feed_head = feed_head + 1").await;
}
