//! Tests the limit of stored rejections, and the file of rejected records.

use serde_json::json;

use crate::harness::{Client, TestServer, eventually, new_id, on_both};

on_both!(the_first_rejections_are_stored_up_to_a_limit_and_all_are_counted);

async fn the_first_rejections_are_stored_up_to_a_limit_and_all_are_counted(server: &TestServer) {
    let client = server.client("ann");
    let (kept, more) = (100_000, 700);
    let id = new_id();
    let payload = [b"x\n".repeat(kept + more), super::manual_slices::samples(0..1)].concat();
    let job = client.import_all(&id, payload).await;
    assert_eq!(job["state"], "COMPLETED", "{job}");
    let counts = (&job["counts"]["records"], &job["counts"]["rejected"], &job["counts"]["inserted"]);
    assert_eq!(counts, (&json!(kept + more + 1), &json!(kept + more), &json!(1)));
    assert_eq!(job["rejections"]["totalCount"], json!(kept));
    let report = client.http.get(format!("{}/imports/{id}/report", client.url)).bearer_auth(&client.token);
    let report = report.send().await.unwrap().text().await.unwrap();
    assert_eq!(report.lines().count(), kept);
    // While this user has not read the large file of rejected records, a second request is refused. Another
    // user gets their own file.
    let rejected = |client: &Client, id: &str| {
        client.http.get(format!("{}/imports/{id}/rejected", client.url)).bearer_auth(&client.token)
    };
    let first = rejected(&client, &id).send().await.unwrap();
    let second = rejected(&client, &id).send().await.unwrap();
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 503));
    let (bob, id_of_bob) = (server.client("bob"), new_id());
    bob.import_all(&id_of_bob, b"x\n".to_vec()).await;
    assert_eq!(rejected(&bob, &id_of_bob).send().await.unwrap().text().await.unwrap().lines().count(), 1);
    assert_eq!(first.text().await.unwrap().lines().count(), kept);
    eventually("the file can be requested again", || async {
        rejected(&client, &id).send().await.unwrap().status() == 200
    })
    .await;
    let last: serde_json::Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    assert_eq!(last["record"], json!(kept));
}
