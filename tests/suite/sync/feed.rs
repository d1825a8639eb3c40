//! Tests the feed: a reader misses no change, whatever is written while it reads.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::events::tombstones::delete_directly;
use crate::events::{flush, head, patch, write};
use crate::harness::{Client, TestServer, event, is_postgres, new_id, on_both};

on_both!(
    a_reader_of_a_busy_feed_misses_no_change,
    a_row_and_its_position_are_stored_together_or_not_at_all,
    a_bootstrap_misses_nothing_that_is_written_meanwhile,
    a_page_says_exactly_whether_more_follow,
    a_bootstrap_ends_at_the_feed_head,
    an_invalid_cursor_is_answered_with_a_reset,
    every_row_has_exactly_one_change_in_the_feed,
);

/// What a device has: the notes of each living event.
#[derive(Default)]
struct Device(HashMap<String, Value>);

impl Device {
    /// Applies a page of changes.
    fn apply(&mut self, changes: &[Value]) {
        for change in changes.iter().filter(|change| change["entity"] == "EVENT") {
            let id = change["entityId"].as_str().unwrap().to_owned();
            if change["deleted"] == true {
                self.0.remove(&id);
            } else {
                self.0.insert(id, change["event"]["notes"].clone());
            }
        }
    }
}

/// Loads the notes of each living event from the server.
async fn stored(client: &Client) -> HashMap<String, Value> {
    let data = client.ask("{ events(first: 1000) { nodes { id notes } } }", json!({})).await;
    let nodes = data["events"]["nodes"].as_array().unwrap().iter();
    nodes.map(|node| (node["id"].as_str().unwrap().to_owned(), node["notes"].clone())).collect()
}

async fn a_reader_of_a_busy_feed_misses_no_change(test_server: &TestServer) {
    let client = test_server.client("ann");
    let kind = client.event_type("run").await;
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (client, kind) = (client.clone(), kind.clone());
            tokio::spawn(async move {
                for _ in 0..25 {
                    assert_eq!(client.create(&[event(&kind)]).await["created"], 1);
                }
            })
        })
        .collect();
    let (mut seen, mut cursor) = (Device::default(), None);
    loop {
        let is_over = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let (changes, end) = client.pull(cursor.as_deref(), 2).await;
        seen.apply(&changes);
        cursor = Some(end);
        if is_over {
            break;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!((seen.0.len(), seen.0), (100, stored(&client).await));
}

/// Makes the database refuse all statements of this kind on a table.
async fn refuse(test_server: &TestServer, statement: &str, table: &str) {
    if is_postgres(&test_server.sql) {
        test_server
            .execute(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused'; END $$",
            )
            .await;
        test_server
            .execute(&format!(
                "CREATE TRIGGER refuse BEFORE {statement} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
            ))
            .await;
    } else {
        test_server.execute(&format!(
            "CREATE TRIGGER refuse BEFORE {statement} ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ))
        .await;
    }
}

/// Makes the database accept the statements again.
async fn permit(test_server: &TestServer, table: &str) {
    let of = if is_postgres(&test_server.sql) { format!(" ON {table}") } else { String::new() };
    test_server.execute(&format!("DROP TRIGGER refuse{of}")).await;
}

async fn a_row_and_its_position_are_stored_together_or_not_at_all(test_server: &TestServer) {
    let client = test_server.client("ann");
    let kind = client.event_type("run").await;
    let (_, mut cursor) = client.pull(None, 500).await;
    for (statement, table) in [("UPDATE", "account"), ("INSERT", "event")] {
        let before = test_server.number("SELECT count(*) FROM event").await;
        let sent = event(&kind);
        refuse(test_server, statement, table).await;
        let query =
            "mutation($event: EventInput!) { createEvent(input: { event: $event }) { result { outcome } } }";
        let failed = client.send(query, json!({ "event": sent })).await;
        assert_eq!(failed["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{failed}");
        permit(test_server, table).await;
        assert_eq!(test_server.number("SELECT count(*) FROM event").await, before, "the row stayed: {table}");
        assert_eq!(head(&client).await, json!(cursor), "the feed moved: {table}");
        // When it is sent again, both are stored.
        assert_eq!(client.create(std::slice::from_ref(&sent)).await["created"], 1);
        let (changes, end) = client.pull(Some(&cursor), 500).await;
        assert_eq!((changes.len(), &changes[0]["entityId"]), (1, &sent["id"]));
        cursor = end;
    }
}

async fn a_bootstrap_misses_nothing_that_is_written_meanwhile(test_server: &TestServer) {
    let client = test_server.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..24).map(|_| event(&kind)).collect();
    client.create(&events).await;
    let (mut device, mut cursor) = (Device::default(), None);
    for step in 0..4 {
        let page = client.page(cursor.as_deref(), 5).await;
        assert_eq!((&page["reset"], &page["hasMore"]), (&Value::Null, &json!(true)));
        device.apply(page["changes"].as_array().unwrap());
        cursor = page["cursor"].as_str().map(str::to_owned);
        // One event is created. One that was read is deleted. One that was read and one that was not are
        // updated.
        client.create(&[event(&kind)]).await;
        write(&client, "deleteEvent", json!({ "id": events[step]["id"] })).await;
        patch(&client, &events[4]["id"], json!({ "notes": format!("early {step}") })).await;
        patch(&client, &events[23 - step]["id"], json!({ "notes": format!("late {step}") })).await;
    }
    device.apply(&client.pull(cursor.as_deref(), 5).await.0);
    assert_eq!((device.0.len(), device.0), (24, stored(&client).await));
}

async fn a_page_says_exactly_whether_more_follow(test_server: &TestServer) {
    let client = test_server.client("ann");
    let kind = client.event_type("run").await;
    client.create(&(0..9).map(|_| event(&kind)).collect::<Vec<_>>()).await;
    for (first, entries, more) in [(9, 9, true), (10, 10, false), (11, 10, false)] {
        let page = client.page(None, first).await;
        assert_eq!((page["changes"].as_array().unwrap().len(), &page["hasMore"]), (entries, &json!(more)));
    }
    for (first, more) in [(8, true), (9, false)] {
        let query = "query($first: Int) { events(first: $first) { pageInfo { hasNextPage } } }";
        let data = client.ask(query, json!({ "first": first })).await;
        assert_eq!(data["events"]["pageInfo"]["hasNextPage"], more, "{first}");
    }
}

async fn a_bootstrap_ends_at_the_feed_head(test_server: &TestServer) {
    let client = test_server.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..30).map(|_| event(&kind)).collect();
    client.create(&events).await;
    delete_directly(test_server, events[3]["id"].as_str().unwrap(), "user").await;
    let first = client.page(None, 10).await;
    assert_eq!((first["changes"].as_array().unwrap().len(), &first["hasMore"]), (10, &json!(true)));
    // A deletion after the first page arrives. An event that was deleted before the bootstrap does not.
    delete_directly(test_server, events[20]["id"].as_str().unwrap(), "user").await;
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

async fn an_invalid_cursor_is_answered_with_a_reset(test_server: &TestServer) {
    let (ann, bob) = (test_server.client("ann"), test_server.client("bob"));
    ann.event_type("run").await;
    bob.event_type("run").await;
    let (_, cursor_of_ann) = ann.pull(None, 500).await;
    for bad in ["", "garbage", "AAAA", &cursor_of_ann] {
        let page = bob.page(Some(bad), 500).await;
        assert_eq!((&page["reset"], &page["hasMore"]), (&json!("CURSOR_INVALID"), &json!(true)));
    }
    // After a restored backup her cursor is beyond the feed head. The feed gets a new epoch, and she starts a
    // bootstrap.
    test_server.execute("UPDATE account SET feed_head = 0 WHERE subject = 'ann'").await;
    let page = ann.page(Some(&cursor_of_ann), 500).await;
    assert_eq!(page["reset"], "EPOCH_CHANGED");
    test_server.execute("UPDATE account SET feed_head = 1 WHERE subject = 'ann'").await;
    assert_eq!(ann.page(Some(&cursor_of_ann), 500).await["reset"], "EPOCH_CHANGED");
    assert_eq!(ann.pull(None, 500).await.0.len(), 1);
}

async fn every_row_has_exactly_one_change_in_the_feed(test_server: &TestServer) {
    let client = test_server.client("ann");
    client.event_type("run").await;
    // Only pages after a bootstrap have tombstones.
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
