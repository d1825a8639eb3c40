//! What an import keeps and reads at most.

use serde_json::json;

use crate::harness::{Bed, new_id, on_both};

on_both!(of_so_many_rejections_the_first_are_kept_and_all_are_counted);

async fn of_so_many_rejections_the_first_are_kept_and_all_are_counted(bed: &Bed) {
    let client = bed.client("ann");
    let (kept, more) = (100_000, 700);
    let id = new_id();
    let payload = [b"x\n".repeat(kept + more), super::by_hand::samples(0..1)].concat();
    let job = client.import_all(&id, payload).await;
    assert_eq!(job["state"], "COMPLETED", "{job}");
    let counts = (&job["counts"]["records"], &job["counts"]["rejected"], &job["counts"]["inserted"]);
    assert_eq!(counts, (&json!(kept + more + 1), &json!(kept + more), &json!(1)));
    assert_eq!(job["rejections"]["totalCount"], json!(kept));
    let report = client.http.get(format!("{}/imports/{id}/report", client.url)).bearer_auth(&client.token);
    let report = report.send().await.unwrap().text().await.unwrap();
    assert_eq!(report.lines().count(), kept);
    let last: serde_json::Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    assert_eq!(last["record"], json!(kept));
}
