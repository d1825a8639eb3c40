//! What a device asks of its sync: digests that find a difference, and what a restored backup costs.

mod feed;
pub mod readers_and_writers;
mod slow_commit;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use store::account;
use tempfile::TempDir;

use crate::harness::{Client, TestServer, event, on_both, sha256};

on_both!(
    a_digest_tells_the_month_that_differs_and_its_rows_can_be_fetched,
    a_restored_backup_resets_every_cursor_and_brings_back_what_devices_have,
    a_user_whom_a_restored_backup_does_not_know_goes_on,
);

/// The digest of events as the server tells it: month to count and hash.
async fn digest(client: &Client, entity: &str) -> BTreeMap<String, (i64, String)> {
    let query = "query($e: EntityType!) { syncDigest(entity: $e) { entity buckets { month count hash } } }";
    let told = client.ask(query, json!({ "e": entity })).await["syncDigest"].take();
    assert_eq!(told["entity"], entity);
    let buckets = told["buckets"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    buckets.map(|b| (text(&b["month"]), (b["count"].as_i64().unwrap(), text(&b["hash"])))).collect()
}

/// An id whose time is so many days before 2026-02-10.
fn id_of(days_before: i64, tail: u8) -> String {
    domain::event_id::compose(1_770_681_600_000 - days_before * 86_400_000, [tail; 10]).to_string()
}

async fn a_digest_tells_the_month_that_differs_and_its_rows_can_be_fetched(test_server: &TestServer) {
    let client = test_server.client("ann");
    assert!(digest(&client, "EVENT").await.is_empty());
    let kind = client.event_type("run").await;
    let mut events = Vec::new();
    for n in 0..90_u8 {
        let mut one = event(&kind);
        one["id"] = json!(id_of(i64::from(n), n));
        events.push(one);
    }
    client.create(&events).await;
    // A copy made of the feed has the same digest.
    let (changes, _) = client.pull(None, 40).await;
    let mut lines: Vec<String> = changes
        .iter()
        .filter(|change| change["entity"] == "EVENT")
        .map(|change| format!("{}:{}\n", change["entityId"].as_str().unwrap(), change["version"]))
        .collect();
    lines.sort();
    let before = digest(&client, "EVENT").await;
    let total: i64 = before.values().map(|(count, _)| count).sum();
    assert_eq!((before.len(), total), (4, 90), "{before:?}");
    let january: Vec<_> = lines.iter().filter(|line| month(line) == "2026-01").map(String::as_str).collect();
    let hash = sha256(january.concat());
    assert_eq!(before["2026-01"], (31, hash));
    // One edit: one month differs, and its rows come by the time inside their ids.
    let edit = "mutation($id: ID!) { updateEvent(input: { id: $id, patch: { notes: \"new\" } }) { result { outcome } } }";
    let edited = id_of(35, 35);
    assert_eq!(
        client.ask(edit, json!({ "id": edited })).await["updateEvent"]["result"]["outcome"],
        "UPDATED"
    );
    let after = digest(&client, "EVENT").await;
    let differ: Vec<_> = before.keys().filter(|month| before[*month] != after[*month]).collect();
    assert_eq!(differ, ["2026-01"]);
    let rows = "{ events(first: 1000, filter: { idFrom: \"2026-01-01T00:00:00Z\", idTo: \"2026-02-01T00:00:00Z\" }) \
        { nodes { id version } } }";
    let rows = client.ask(rows, json!({})).await["events"]["nodes"].take();
    assert_eq!(rows.as_array().unwrap().len(), 31);
    assert!(rows.as_array().unwrap().contains(&json!({ "id": edited, "version": 2 })));
    assert_eq!(digest(&client, "EVENT_TYPE").await.values().map(|(count, _)| count).sum::<i64>(), 1);
    assert!(digest(&test_server.client("bob"), "EVENT").await.is_empty());
}

/// The month of a line `id:version`, by the milliseconds at its begin.
fn month(line: &str) -> String {
    let ms = i64::from_str_radix(&line.replace('-', "")[..12], 16).unwrap();
    domain::instant::format(ms)[..7].to_owned()
}

async fn a_restored_backup_resets_every_cursor_and_brings_back_what_devices_have(test_server: &TestServer) {
    let client = test_server.client("ann");
    let kind = client.event_type("run").await;
    let kept = event(&kind);
    client.create(std::slice::from_ref(&kept)).await;
    // The backup is of here: what follows is lost with the disk.
    let (_, cursor) = client.pull(None, 100).await;
    account::renew_all(&test_server.store).await.unwrap();
    let page = client.page(Some(&cursor), 100).await;
    assert_eq!((&page["reset"], &page["changes"]), (&json!("EPOCH_CHANGED"), &json!([])));
    assert_eq!(page["hasMore"], true);
    let status = "query($after: Cursor) { syncStatus(after: $after) { state pending headCursor } }";
    let told = client.ask(status, json!({ "after": cursor })).await["syncStatus"].take();
    assert_eq!((&told["state"], &told["pending"]), (&json!("RESET_REQUIRED"), &Value::Null));
    // The device sends all it has, then starts over where the reset told it to.
    let lost = event(&kind);
    let again = client.create(&[kept.clone(), lost.clone()]).await;
    assert_eq!((&again["duplicates"], &again["created"]), (&json!(1), &json!(1)));
    let (all, now) = client.pull(page["cursor"].as_str(), 1).await;
    let ids: Vec<_> = all.iter().map(|change| &change["entityId"]).collect();
    assert!(ids.contains(&&kept["id"]) && ids.contains(&&lost["id"]) && ids.len() == 3, "{all:?}");
    let told = client.ask(status, json!({ "after": now })).await["syncStatus"].take();
    assert_eq!(
        (&told["state"], &told["pending"], &told["headCursor"]),
        (&json!("UP_TO_DATE"), &json!(0), &json!(now))
    );
}

async fn a_user_whom_a_restored_backup_does_not_know_goes_on(test_server: &TestServer) {
    let client = test_server.client("ann");
    let restore = async || {
        for table in ["event", "event_type", "account"] {
            test_server.execute(&format!("DELETE FROM {table}")).await;
        }
    };
    let kind = client.event_type("run").await;
    client.create(&[event(&kind)]).await;
    let (_, cursor) = client.pull(None, 100).await;
    // The server runs on, and has seen the user: first a write finds no row, then a read.
    restore().await;
    let kind = client.event_type("run").await;
    assert_eq!(client.create(&[event(&kind)]).await["created"], 1);
    assert_eq!(client.page(Some(&cursor), 100).await["reset"], "EPOCH_CHANGED");
    let (_, cursor) = client.pull(None, 100).await;
    restore().await;
    assert_eq!(client.page(Some(&cursor), 100).await["reset"], "EPOCH_CHANGED");
    assert!(client.pull(None, 100).await.0.is_empty());
    client.event_type("run").await;
}

#[test]
fn the_command_that_renews_all_feeds_says_how_many_there_are() {
    let dir = TempDir::new().unwrap();
    let run = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
            .arg(command)
            .current_dir(dir.path())
            .env("IDEM_DATA_DIR", dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("migrate");
    assert_eq!(
        run("restored"),
        "all feeds begin anew: devices send what they have once more, then read all\n"
    );
}
