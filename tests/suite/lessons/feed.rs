//! The feed: nothing is lost to a reader, however writes and reads fall together.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::edits::{head, patch, write};
use crate::harness::{Bed, Client, event, is_postgres, on_both};

on_both!(
    a_reader_of_a_busy_feed_misses_no_change,
    a_row_and_its_entry_are_stored_together_or_not_at_all,
    a_full_resync_loses_nothing_that_is_written_meanwhile,
    a_page_says_exactly_whether_more_follows,
);

/// What a device knows: the notes of each living event.
#[derive(Default)]
struct Device(HashMap<String, Value>);

impl Device {
    /// Takes a page in.
    fn take(&mut self, changes: &[Value]) {
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

/// The notes of each living event as the server has them.
async fn stored(client: &Client) -> HashMap<String, Value> {
    let data = client.ask("{ events(first: 1000) { nodes { id notes } } }", json!({})).await;
    let nodes = data["events"]["nodes"].as_array().unwrap().iter();
    nodes.map(|node| (node["id"].as_str().unwrap().to_owned(), node["notes"].clone())).collect()
}

async fn a_reader_of_a_busy_feed_misses_no_change(bed: &Bed) {
    let client = bed.client("ann");
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
        seen.take(&changes);
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

/// Makes the database refuse each statement of a kind on a table.
async fn refuse(bed: &Bed, statement: &str, table: &str) {
    if is_postgres(&bed.sql) {
        bed.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused'; END $$",
        )
        .await;
        bed.execute(&format!(
            "CREATE TRIGGER refuse BEFORE {statement} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        ))
        .await;
    } else {
        bed.execute(&format!(
            "CREATE TRIGGER refuse BEFORE {statement} ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ))
        .await;
    }
}

/// Lets them through again.
async fn permit(bed: &Bed, table: &str) {
    let of = if is_postgres(&bed.sql) { format!(" ON {table}") } else { String::new() };
    bed.execute(&format!("DROP TRIGGER refuse{of}")).await;
}

async fn a_row_and_its_entry_are_stored_together_or_not_at_all(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let (_, mut cursor) = client.pull(None, 500).await;
    for (statement, table) in [("UPDATE", "account"), ("INSERT", "event")] {
        let before = bed.number("SELECT count(*) FROM event").await;
        let sent = event(&kind);
        refuse(bed, statement, table).await;
        let query =
            "mutation($event: EventInput!) { createEvent(input: { event: $event }) { result { outcome } } }";
        let failed = client.send(query, json!({ "event": sent })).await;
        assert_eq!(failed["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{failed}");
        permit(bed, table).await;
        assert_eq!(bed.number("SELECT count(*) FROM event").await, before, "the row stayed: {table}");
        assert_eq!(head(&client).await, json!(cursor), "the feed moved: {table}");
        // Sent again, both are there.
        assert_eq!(client.create(std::slice::from_ref(&sent)).await["created"], 1);
        let (changes, end) = client.pull(Some(&cursor), 500).await;
        assert_eq!((changes.len(), &changes[0]["entityId"]), (1, &sent["id"]));
        cursor = end;
    }
}

async fn a_full_resync_loses_nothing_that_is_written_meanwhile(bed: &Bed) {
    let client = bed.client("ann");
    let kind = client.event_type("run").await;
    let events: Vec<Value> = (0..24).map(|_| event(&kind)).collect();
    client.create(&events).await;
    let (mut device, mut cursor) = (Device::default(), None);
    for step in 0..4 {
        let page = client.page(cursor.as_deref(), 5).await;
        assert_eq!((&page["reset"], &page["hasMore"]), (&Value::Null, &json!(true)));
        device.take(page["changes"].as_array().unwrap());
        cursor = page["cursor"].as_str().map(str::to_owned);
        // One new, one gone that was read, one changed that was read, one changed that was not.
        client.create(&[event(&kind)]).await;
        write(&client, "deleteEvent", json!({ "id": events[step]["id"] })).await;
        patch(&client, &events[4]["id"], json!({ "notes": format!("early {step}") })).await;
        patch(&client, &events[23 - step]["id"], json!({ "notes": format!("late {step}") })).await;
    }
    device.take(&client.pull(cursor.as_deref(), 5).await.0);
    assert_eq!((device.0.len(), device.0), (24, stored(&client).await));
}

async fn a_page_says_exactly_whether_more_follows(bed: &Bed) {
    let client = bed.client("ann");
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
