//! An import is taken back: what nobody has changed since, through the feed, exactly.

use std::sync::Arc;

use serde_json::{Value, json};
use service::notifier::Notification;

use super::manual_slices::{Disturb, parked, samples, slice, undisturbed};
use crate::harness::{Client, TestServer, new_id, on_both};

on_both!(
    what_was_edited_since_stays_and_the_rest_is_taken_back,
    the_same_file_again_makes_its_events_anew,
    a_rollback_whose_worker_is_lost_goes_on_and_takes_each_row_back_once,
    an_import_that_was_cut_short_is_taken_back_as_well,
);

const EDIT: &str = "mutation($id: ID!) { updateEvent(input: { id: $id, patch: { notes: \"mine\" } }) \
    { result { outcome } } }";

/// Ids of the events that a device has once it has pulled all.
async fn held(client: &Client, after: Option<&str>, mut have: Vec<Value>) -> (Vec<Value>, String) {
    let (changes, cursor) = client.pull(after, 1_000).await;
    for change in changes.into_iter().filter(|change| change["entity"] == "EVENT") {
        have.retain(|id| *id != change["entityId"]);
        if change["deleted"] == false {
            have.push(change["entityId"].clone());
        }
    }
    (have, cursor)
}

async fn what_was_edited_since_stays_and_the_rest_is_taken_back(server: &TestServer) {
    let client = server.client("ann");
    let mut payload = samples(0..1_300);
    let own = json!({ "id": new_id(), "eventType": "sample", "timestamp": "2026-01-01T00:00:00Z" });
    payload.extend(format!("{own}\n").into_bytes());
    let id = new_id();
    client.import_all(&id, payload).await;
    let (have, cursor) = held(&client, None, Vec::new()).await;
    assert_eq!(have.len(), 1_301);
    for event in &have[..10] {
        let edited = client.ask(EDIT, json!({ "id": event })).await;
        assert_eq!(edited["updateEvent"]["result"]["outcome"], "UPDATED");
    }
    assert!(client.step("rollbackImport", &id).await["problem"].is_null());
    let job = client.ended(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("ROLLED_BACK"), &json!(1_301)));
    let (left, _) = held(&client, Some(&cursor), have.clone()).await;
    let (mut left, mut edited) = (left, have[..10].to_vec());
    left.sort_by_key(ToString::to_string);
    edited.sort_by_key(ToString::to_string);
    assert_eq!(left, edited, "another device does not end with what was edited");
    let taken =
        "SELECT count(*) FROM event WHERE deleted_by = 'rollback' AND version = 2 AND timestamp IS NULL";
    assert_eq!(server.number(taken).await, 1_291);
    // The types that it made stay.
    assert_eq!(server.number("SELECT count(*) FROM event_type WHERE name = 'sample'").await, 1);
    assert!(client.step("rollbackImport", &id).await["problem"].is_null());
}

async fn the_same_file_again_makes_its_events_anew(server: &TestServer) {
    let client = server.client("ann");
    let first = new_id();
    client.import_all(&first, samples(0..800)).await;
    // One is deleted by a person: that stays so.
    let (have, _) = held(&client, None, Vec::new()).await;
    let delete = "mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }";
    client.ask(delete, json!({ "id": have[0] })).await;
    client.step("rollbackImport", &first).await;
    client.ended(&first).await;
    let again = new_id();
    let job = client.import_all(&again, samples(0..800)).await;
    assert_eq!((&job["counts"]["inserted"], &job["counts"]["deleted"]), (&json!(799), &json!(1)));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 800);
    assert_eq!(
        server.number("SELECT count(*) FROM event WHERE version = 3 AND deleted_at IS NULL").await,
        799
    );
    // And that one can be taken back as well.
    client.step("rollbackImport", &again).await;
    client.ended(&again).await;
    assert_eq!(server.number("SELECT count(*) FROM event WHERE deleted_by = 'rollback'").await, 799);
}

async fn a_rollback_whose_worker_is_lost_goes_on_and_takes_each_row_back_once(server: &TestServer) {
    let client = server.client("ann");
    let id = parked(server, &client, 1_200).await;
    slice(server, &id, undisturbed()).await;
    server.execute("UPDATE import_job SET state = 'ROLLING_BACK', lease_until = NULL").await;
    let sql = server.sql.clone();
    // Behind its first chunk another takes the lease, and dies of it.
    let lose: Disturb = Arc::new(move |_| {
        let sql = sql.clone();
        Box::pin(async move {
            let lost = "UPDATE import_job SET lease_epoch = lease_epoch + 1, lease_until = 1";
            sea_orm::ConnectionTrait::execute_unprepared(&sql, lost).await.unwrap();
        })
    });
    slice(server, &id, lose).await;
    assert_eq!(client.import(&id).await["state"], "ROLLING_BACK");
    assert_eq!(server.number("SELECT count(*) FROM event WHERE deleted_by = 'rollback'").await, 500);
    server.notifier.notify(Notification::Import(id.parse().unwrap()));
    assert_eq!(client.ended(&id).await["state"], "ROLLED_BACK");
    assert_eq!(
        server.number("SELECT count(*) FROM event WHERE deleted_by = 'rollback' AND version = 2").await,
        1_200
    );
}

async fn an_import_that_was_cut_short_is_taken_back_as_well(server: &TestServer) {
    let client = server.client("ann");
    let id = parked(server, &client, 1_200).await;
    let sql = server.sql.clone();
    let cancel: Disturb = Arc::new(move |_| {
        let sql = sql.clone();
        Box::pin(async move {
            let canceled = "UPDATE import_job SET state = 'CANCELED', finished_at = 1";
            sea_orm::ConnectionTrait::execute_unprepared(&sql, canceled).await.unwrap();
        })
    });
    slice(server, &id, cancel).await;
    assert_eq!(server.number("SELECT count(*) FROM event WHERE deleted_at IS NULL").await, 500);
    client.step("rollbackImport", &id).await;
    assert_eq!(client.ended(&id).await["state"], "ROLLED_BACK");
    assert_eq!(server.number("SELECT count(*) FROM event WHERE deleted_at IS NULL").await, 0);
}
