//! Tests digests, which find differences between a device and the server, and restored backups.

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
    a_digest_shows_the_month_that_differs_and_its_events_can_be_fetched,
    a_restored_backup_resets_every_cursor_and_devices_send_again_what_they_have,
    a_user_who_is_missing_in_a_restored_backup_can_go_on,
);

/// Loads the digest of an entity type: the count and the hash of each month.
async fn digest(client: &Client, entity: &str) -> BTreeMap<String, (i64, String)> {
    let query = "query($e: EntityType!) { syncDigest(entity: $e) { entity buckets { month count hash } } }";
    let digest = client.ask(query, json!({ "e": entity })).await["syncDigest"].take();
    assert_eq!(digest["entity"], entity);
    let buckets = digest["buckets"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    buckets.map(|b| (text(&b["month"]), (b["count"].as_i64().unwrap(), text(&b["hash"])))).collect()
}

/// Returns an id whose time is so many days before 2026-02-10.
fn id_of(days_before: i64, tail: u8) -> String {
    domain::event_id::compose_uuid_v7(1_770_681_600_000 - days_before * 86_400_000, [tail; 10]).to_string()
}

async fn a_digest_shows_the_month_that_differs_and_its_events_can_be_fetched(test_server: &TestServer) {
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
    // A copy that is made from the feed has the same digest.
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
    // After one edit one month differs. Its events are fetched by the time in their ids.
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

/// Returns the month of a line `id:version`, from the milliseconds in the id.
fn month(line: &str) -> String {
    let ms = i64::from_str_radix(&line.replace('-', "")[..12], 16).unwrap();
    domain::instant::format(ms)[..7].to_owned()
}

async fn a_restored_backup_resets_every_cursor_and_devices_send_again_what_they_have(
    test_server: &TestServer,
) {
    let client = test_server.client("ann");
    let kind = client.event_type("run").await;
    let kept = event(&kind);
    client.create(std::slice::from_ref(&kept)).await;
    // The backup has the state at this point. The event `lost` below is not in it.
    let (_, cursor) = client.pull(None, 100).await;
    account::renew_generation(&test_server.store).await.unwrap();
    let page = client.page(Some(&cursor), 100).await;
    assert_eq!((&page["reset"], &page["changes"]), (&json!("EPOCH_CHANGED"), &json!([])));
    assert_eq!(page["hasMore"], true);
    let status = "query($after: Cursor) { syncStatus(after: $after) { state pending headCursor } }";
    let reset = client.ask(status, json!({ "after": cursor })).await["syncStatus"].take();
    assert_eq!((&reset["state"], &reset["pending"]), (&json!("RESET_REQUIRED"), &Value::Null));
    // The device sends everything that it has, and then pulls from the cursor of the reset.
    let lost = event(&kind);
    let again = client.create(&[kept.clone(), lost.clone()]).await;
    assert_eq!((&again["duplicates"], &again["created"]), (&json!(1), &json!(1)));
    let (all, now) = client.pull(page["cursor"].as_str(), 1).await;
    let ids: Vec<_> = all.iter().map(|change| &change["entityId"]).collect();
    assert!(ids.contains(&&kept["id"]) && ids.contains(&&lost["id"]) && ids.len() == 3, "{all:?}");
    let current = client.ask(status, json!({ "after": now })).await["syncStatus"].take();
    assert_eq!(
        (&current["state"], &current["pending"], &current["headCursor"]),
        (&json!("UP_TO_DATE"), &json!(0), &json!(now))
    );
}

async fn a_user_who_is_missing_in_a_restored_backup_can_go_on(test_server: &TestServer) {
    let client = test_server.client("ann");
    let restore = async || {
        for table in ["event", "event_type", "account"] {
            test_server.execute(&format!("DELETE FROM {table}")).await;
        }
    };
    let kind = client.event_type("run").await;
    client.create(&[event(&kind)]).await;
    let (_, cursor) = client.pull(None, 100).await;
    // The server still has the user in its cache. First a write finds no account row, and then a read.
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
fn the_command_after_a_restore_says_what_devices_will_do() {
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
        "all change feeds are reset: each device sends what it has once more and then syncs from the start\n"
    );
}
