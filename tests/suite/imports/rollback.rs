//! Tests the rollback of an import. It deletes the events that were not edited since, and the deletions
//! arrive in the feed.

use std::sync::Arc;

use serde_json::{Value, json};
use service::notifier::Notification;

use super::manual_slices::{AfterChunk, create_queued, no_callback, samples, slice};
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(
    a_rollback_keeps_edited_events_and_deletes_the_others,
    the_same_file_again_creates_its_events_again,
    a_rollback_whose_worker_is_lost_is_resumed_and_deletes_each_event_once,
    a_canceled_import_can_be_rolled_back,
);

const EDIT: &str = "mutation($id: ID!) { updateEvent(input: { id: $id, patch: { notes: \"mine\" } }) \
    { result { outcome } } }";

/// Pulls all changes into the event ids that a device has. Returns the ids and the last cursor.
async fn pull_ids(client: &Client, after: Option<&str>, mut ids: Vec<Value>) -> (Vec<Value>, String) {
    let (changes, cursor) = client.pull(after, 1_000).await;
    for change in changes.into_iter().filter(|change| change["entity"] == "EVENT") {
        ids.retain(|id| *id != change["entityId"]);
        if change["deleted"] == false {
            ids.push(change["entityId"].clone());
        }
    }
    (ids, cursor)
}

async fn a_rollback_keeps_edited_events_and_deletes_the_others(server: &TestServer) {
    let client = server.client("ann");
    let mut payload = samples(0..1_300);
    let own = json!({ "id": new_id(), "eventType": "sample", "timestamp": "2026-01-01T00:00:00Z" });
    payload.extend(format!("{own}\n").into_bytes());
    let id = new_id();
    client.import_all(&id, payload).await;
    let (ids, cursor) = pull_ids(&client, None, Vec::new()).await;
    assert_eq!(ids.len(), 1_301);
    for event in &ids[..10] {
        let edited = client.ask(EDIT, json!({ "id": event })).await;
        assert_eq!(edited["updateEvent"]["result"]["outcome"], "UPDATED");
    }
    assert!(client.control_import("rollbackImport", &id).await["problem"].is_null());
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("ROLLED_BACK"), &json!(1_301)));
    let (left, _) = pull_ids(&client, Some(&cursor), ids.clone()).await;
    let (mut left, mut edited) = (left, ids[..10].to_vec());
    left.sort_by_key(ToString::to_string);
    edited.sort_by_key(ToString::to_string);
    assert_eq!(left, edited, "another device has other events than the edited ones");
    let rolled_back =
        "SELECT count(*) FROM event WHERE deleted_by = 'rollback' AND version = 2 AND timestamp IS NULL";
    assert_eq!(server.number(rolled_back).await, 1_291);
    // The event types that the import created stay.
    assert_eq!(server.number("SELECT count(*) FROM event_type WHERE name = 'sample'").await, 1);
    assert!(client.control_import("rollbackImport", &id).await["problem"].is_null());
}

async fn the_same_file_again_creates_its_events_again(server: &TestServer) {
    let client = server.client("ann");
    let first = new_id();
    client.import_all(&first, samples(0..800)).await;
    // An event that the user deletes stays deleted.
    let (ids, _) = pull_ids(&client, None, Vec::new()).await;
    let delete = "mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }";
    client.ask(delete, json!({ "id": ids[0] })).await;
    client.control_import("rollbackImport", &first).await;
    client.wait_for_end(&first).await;
    let again = new_id();
    let job = client.import_all(&again, samples(0..800)).await;
    assert_eq!((&job["counts"]["inserted"], &job["counts"]["deleted"]), (&json!(799), &json!(1)));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 800);
    assert_eq!(
        server.number("SELECT count(*) FROM event WHERE version = 3 AND deleted_at IS NULL").await,
        799
    );
    // The second import can be rolled back too.
    client.control_import("rollbackImport", &again).await;
    client.wait_for_end(&again).await;
    assert_eq!(server.number("SELECT count(*) FROM event WHERE deleted_by = 'rollback'").await, 799);
}

async fn a_rollback_whose_worker_is_lost_is_resumed_and_deletes_each_event_once(server: &TestServer) {
    let client = server.client("ann");
    let id = create_queued(server, &client, 1_200).await;
    slice(server, &id, no_callback()).await;
    server.execute("UPDATE import_job SET state = 'ROLLING_BACK', lease_until = NULL").await;
    let sql = server.sql.clone();
    // After the first chunk another worker takes the lease and crashes.
    let lose_lease: AfterChunk = Arc::new(move |_| {
        let sql = sql.clone();
        Box::pin(async move {
            let lost = "UPDATE import_job SET lease_epoch = lease_epoch + 1, lease_until = 1";
            sea_orm::ConnectionTrait::execute_unprepared(&sql, lost).await.unwrap();
        })
    });
    slice(server, &id, lose_lease).await;
    assert_eq!(client.import(&id).await["state"], "ROLLING_BACK");
    assert_eq!(server.number("SELECT count(*) FROM event WHERE deleted_by = 'rollback'").await, 500);
    server.notifier.notify(Notification::Import(id.parse().unwrap()));
    assert_eq!(client.wait_for_end(&id).await["state"], "ROLLED_BACK");
    assert_eq!(
        server.number("SELECT count(*) FROM event WHERE deleted_by = 'rollback' AND version = 2").await,
        1_200
    );
}

async fn a_canceled_import_can_be_rolled_back(server: &TestServer) {
    let client = server.client("ann");
    let id = create_queued(server, &client, 1_200).await;
    let sql = server.sql.clone();
    let cancel: AfterChunk = Arc::new(move |_| {
        let sql = sql.clone();
        Box::pin(async move {
            let canceled = "UPDATE import_job SET state = 'CANCELED', finished_at = 1";
            sea_orm::ConnectionTrait::execute_unprepared(&sql, canceled).await.unwrap();
        })
    });
    slice(server, &id, cancel).await;
    assert_eq!(server.number("SELECT count(*) FROM event WHERE deleted_at IS NULL").await, 500);
    client.control_import("rollbackImport", &id).await;
    assert_eq!(client.wait_for_end(&id).await["state"], "ROLLED_BACK");
    assert_eq!(server.number("SELECT count(*) FROM event WHERE deleted_at IS NULL").await, 0);
}
