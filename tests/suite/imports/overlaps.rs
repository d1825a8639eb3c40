//! Tests imports of the same records: one after the other, at the same time, of two users, and in opposite
//! order.

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use super::manual_slices::{create_queued, create_queued_with, no_callback, samples, slice};
use crate::harness::{Client, DatabaseKind, TestServer, new_id, on_both};

on_both!(
    the_same_file_twice_at_once_is_stored_once,
    the_same_file_of_two_users_is_stored_for_each,
    overlapping_files_in_opposite_order_store_each_record_once,
    a_file_sent_again_with_other_records_in_between_is_counted_exactly,
);

/// Creates an import and uploads its payload. Returns its id.
async fn begin(client: &Client, payload: Vec<u8>) -> String {
    let id = new_id();
    client.create_import(&id, payload.len(), None).await;
    assert_eq!(client.put(&id, None, payload).await.status(), 200);
    id
}

/// Returns the inserted records and the duplicates of an import, which must have no other records.
fn counts(job: &Value) -> (i64, i64) {
    let count = |name: &str| job["counts"][name].as_i64().unwrap();
    assert_eq!((&job["state"], count("rejected") + count("differing")), (&json!("COMPLETED"), 0));
    (count("inserted"), count("duplicates"))
}

/// Returns record, line and code of each rejection, including those of differing duplicates.
fn rejections(job: &Value) -> Vec<(i64, i64, &str)> {
    let number = |node: &Value, name: &str| node[name].as_i64().unwrap();
    let nodes = job["rejections"]["nodes"].as_array().unwrap().iter();
    nodes.map(|node| (number(node, "record"), number(node, "line"), node["code"].as_str().unwrap())).collect()
}

async fn the_same_file_twice_at_once_is_stored_once(server: &TestServer) {
    let client = server.client("ann");
    let (one, other) = tokio::join!(begin(&client, samples(0..3_000)), begin(&client, samples(0..3_000)));
    let (one, other) = (counts(&client.wait_for_end(&one).await), counts(&client.wait_for_end(&other).await));
    assert_eq!((one.0 + other.0, one.1 + other.1), (3_000, 3_000));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 3_000);
}

async fn the_same_file_of_two_users_is_stored_for_each(server: &TestServer) {
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (hers, his) = tokio::join!(begin(&ann, samples(0..1_500)), begin(&bob, samples(0..1_500)));
    assert_eq!(counts(&ann.wait_for_end(&hers).await), (1_500, 0));
    assert_eq!(counts(&bob.wait_for_end(&his).await), (1_500, 0));
    assert_eq!(server.number("SELECT count(*) FROM event").await, 3_000);
    assert!(ann.import(&his).await.is_null());
}

async fn overlapping_files_in_opposite_order_store_each_record_once(server: &TestServer) {
    let client = server.client("ann");
    let backwards: Vec<u8> = (1_000..4_000).rev().flat_map(|n| samples(n..n + 1)).collect();
    let (one, other) = tokio::join!(begin(&client, samples(0..3_000)), begin(&client, backwards));
    let (one, other) = (counts(&client.wait_for_end(&one).await), counts(&client.wait_for_end(&other).await));
    assert_eq!((one.0 + other.0, one.1 + other.1), (4_000, 2_000));
    assert_eq!(server.number("SELECT count(DISTINCT external_id) FROM event").await, 4_000);
}

/// Chunks of duplicates are decided ahead of the transaction, and chunks with new records inside it. Both
/// kinds alternate here.
async fn a_file_sent_again_with_other_records_in_between_is_counted_exactly(server: &TestServer) {
    let client = server.client("ann");
    client.import_all(&new_id(), samples(0..3_000)).await;
    let (changes, _) = client.pull(None, 2).await;
    let delete = "mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }";
    let deleted = client.ask(delete, json!({ "id": changes[1]["entityId"] })).await;
    assert_eq!(deleted["deleteEvent"]["result"]["outcome"], "DELETED");
    let other = String::from_utf8(samples(1_400..1_401)).unwrap().replace("T00:00:00Z", "T01:00:00Z");
    let payload = [
        samples(0..1_400),
        other.into_bytes(),
        samples(1_401..1_700),
        b"garbage\n".to_vec(),
        samples(5_000..5_001),
        samples(1_700..2_200),
        // The record was new in the chunk before, and is a duplicate now.
        samples(5_000..5_001),
        samples(2_200..3_000),
        samples(0..1_500),
        samples(5_001..5_002),
        samples(0..1_700),
        samples(5_001..5_002),
    ];
    let job = client.import_all(&new_id(), payload.concat()).await;
    let counts = json!({ "records": 6_205, "inserted": 2, "duplicates": 6_198, "differing": 1, "deleted": 3, "rejected": 1 });
    assert_eq!((&job["state"], &job["counts"]), (&json!("COMPLETED"), &counts));
    assert_eq!(rejections(&job), [(1_401, 1_401, "DIFFERS"), (1_701, 1_701, "INVALID_JSON")]);
    assert_eq!(server.number("SELECT count(*) FROM event").await, 3_002);
}

/// Runs a slice of this import. Returns for each transaction of chunks whether it locked the account row.
async fn accounts_locked(server: &TestServer, id: &str) -> Vec<bool> {
    slice(server, id, no_callback()).await;
    let rows = server.sql.query_all_raw(sea_orm::Statement::from_string(
        server.sql.get_database_backend(),
        format!("SELECT is_locked FROM seen WHERE id = '{id}' ORDER BY number"),
    ));
    rows.await.unwrap().iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_without_new_records_does_not_lock_the_account() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let client = server.client("ann");
    client.import_all(&new_id(), samples(0..5_000)).await;
    server.execute(
        "CREATE TABLE seen (number serial, id uuid, is_locked boolean);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO seen (id, is_locked) SELECT NEW.id, EXISTS (SELECT 1 FROM pg_locks WHERE pid = pg_backend_pid() \
             AND relation = 'account'::regclass AND mode = 'RowShareLock');
           RETURN NULL;
         END $$;
         CREATE TRIGGER see AFTER UPDATE OF count_duplicates ON import_job FOR EACH ROW EXECUTE FUNCTION see();",
    )
    .await;
    let other = String::from_utf8(samples(4_100..4_101)).unwrap().replace("T00:00:00Z", "T01:00:00Z");
    let payload = [
        samples(0..4_100),
        other.into_bytes(),
        samples(4_101..4_300),
        b"garbage\n".to_vec(),
        samples(4_300..5_000),
    ];
    let again = create_queued_with(&server, &client, payload.concat()).await;
    let locked = accounts_locked(&server, &again).await;
    assert_eq!(locked.iter().position(|is_locked| !is_locked), Some(1), "{locked:?}");
    assert!(locked[1..].iter().all(|is_locked| !is_locked), "{locked:?}");
    let job = client.import(&again).await;
    assert_eq!(rejections(&job), [(4_101, 4_101, "DIFFERS"), (4_301, 4_301, "INVALID_JSON")]);

    // A dry run stores nothing, whether its records are new or not.
    let dry = create_queued_with(&server, &client, samples(4_000..6_000)).await;
    server.execute(&format!("UPDATE import_job SET dry_run = true WHERE id = '{dry}'")).await;
    let locked = accounts_locked(&server, &dry).await;
    assert!(!locked.is_empty() && locked.iter().all(|is_locked| !is_locked), "{locked:?}");
    assert_eq!(client.import(&dry).await["counts"]["inserted"], 1_000);

    // After a crash all chunks are decided at the checkpoint, so that another crash points to its record.
    let crashed = create_queued(&server, &client, 5_000).await;
    server.execute(&format!("UPDATE import_job SET crash_count = 1 WHERE id = '{crashed}'")).await;
    assert_eq!(accounts_locked(&server, &crashed).await, [&[true; 10][..], &[false]].concat());
    server.end().await;
}
