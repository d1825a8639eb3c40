//! The same records more than once: one behind the other, at once, of two users, in opposite order.

use serde_json::{Value, json};

use super::by_hand::samples;
use crate::harness::{Bed, Client, new_id, on_both};

on_both!(
    the_same_file_twice_at_once_is_stored_once,
    the_same_file_of_two_users_is_stored_for_each,
    files_that_overlap_in_opposite_order_end_as_one,
);

/// Sends a payload; its id.
async fn begin(client: &Client, payload: Vec<u8>) -> String {
    let id = new_id();
    client.create_import(&id, payload.len(), None).await;
    assert_eq!(client.put(&id, None, payload).await.status(), 200);
    id
}

fn counts(job: &Value) -> (i64, i64) {
    let count = |name: &str| job["counts"][name].as_i64().unwrap();
    assert_eq!((&job["state"], count("rejected") + count("differing")), (&json!("COMPLETED"), 0));
    (count("inserted"), count("duplicates"))
}

async fn the_same_file_twice_at_once_is_stored_once(bed: &Bed) {
    let client = bed.client("ann");
    let (one, other) = tokio::join!(begin(&client, samples(0..3_000)), begin(&client, samples(0..3_000)));
    let (one, other) = (counts(&client.ended(&one).await), counts(&client.ended(&other).await));
    assert_eq!((one.0 + other.0, one.1 + other.1), (3_000, 3_000));
    assert_eq!(bed.number("SELECT count(*) FROM event").await, 3_000);
}

async fn the_same_file_of_two_users_is_stored_for_each(bed: &Bed) {
    let (ann, bob) = (bed.client("ann"), bed.client("bob"));
    let (hers, his) = tokio::join!(begin(&ann, samples(0..1_500)), begin(&bob, samples(0..1_500)));
    assert_eq!(counts(&ann.ended(&hers).await), (1_500, 0));
    assert_eq!(counts(&bob.ended(&his).await), (1_500, 0));
    assert_eq!(bed.number("SELECT count(*) FROM event").await, 3_000);
    assert!(ann.import(&his).await.is_null());
}

async fn files_that_overlap_in_opposite_order_end_as_one(bed: &Bed) {
    let client = bed.client("ann");
    let backwards: Vec<u8> = (1_000..4_000).rev().flat_map(|n| samples(n..n + 1)).collect();
    let (one, other) = tokio::join!(begin(&client, samples(0..3_000)), begin(&client, backwards));
    let (one, other) = (counts(&client.ended(&one).await), counts(&client.ended(&other).await));
    assert_eq!((one.0 + other.0, one.1 + other.1), (4_000, 2_000));
    assert_eq!(bed.number("SELECT count(DISTINCT external_id) FROM event").await, 4_000);
}
