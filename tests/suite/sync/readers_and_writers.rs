//! Tests writers of every kind together with readers of every transport, which reconnect again and again.
//! Each reader ends with the content of the table, and receives no version twice.

mod readers;
mod writers;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::{Client, TestServer, on_both};
use readers::Reader;

on_both!(every_reader_ends_with_the_content_of_the_table_however_often_it_is_cut);

/// What a reader has: for each id the version and the notes, or `None` instead of the notes of a deleted
/// entity.
type Known = BTreeMap<String, (i64, Option<Value>)>;

/// Applies changes to what a reader has. Fails if a version arrives twice.
fn apply(known: &mut Known, changes: &[Value]) {
    for change in changes {
        let id = change["entityId"].as_str().unwrap().to_owned();
        let version = change["version"].as_i64().unwrap();
        let notes = (change["deleted"] == false).then(|| change["event"]["notes"].clone());
        let before = known.insert(id, (version, notes));
        assert!(before.is_none_or(|before| before.0 < version), "received twice: {change}");
    }
}

/// Returns the entities that are not deleted.
fn living(known: &Known) -> Known {
    known
        .iter()
        .filter(|(_, entry)| entry.1.is_some())
        .map(|(id, entry)| (id.clone(), entry.clone()))
        .collect()
}

/// Returns the cursor of the feed head.
async fn head(client: &Client) -> String {
    let status = client.ask("{ syncStatus { headCursor } }", json!({})).await;
    status["syncStatus"]["headCursor"].as_str().unwrap().to_owned()
}

async fn every_reader_ends_with_the_content_of_the_table_however_often_it_is_cut(server: &TestServer) {
    let client = server.client("ann");
    let (end_sender, end) = watch::channel(None);
    let begin = head(&client).await;
    let all = [Reader::Query, Reader::Socket, Reader::Events, Reader::Parts];
    let readers: Vec<_> = all
        .into_iter()
        .map(|reader| {
            let (client, begin, end) = (client.clone(), begin.clone(), end.clone());
            (reader, tokio::spawn(async move { reader.follow(&client, begin, end).await }))
        })
        .collect();
    writers::write(&client).await;
    end_sender.send(Some(head(&client).await)).unwrap();
    let (table, _) = client.pull(None, 1_000).await;
    let mut expected = Known::new();
    apply(&mut expected, &table);
    assert!(expected.len() > 300, "the writers wrote {} rows", expected.len());
    for (reader, following) in readers {
        let followed = tokio::time::timeout(Duration::from_secs(60), following).await;
        let (known, cuts) = followed.unwrap_or_else(|_| panic!("{reader:?} never reached the head")).unwrap();
        assert!(cuts > 1, "{reader:?} was cut {cuts} times");
        assert_eq!(living(&known), expected, "{reader:?}");
    }
    let alive = "SELECT (SELECT count(*) FROM event WHERE deleted_at IS NULL) + \
        (SELECT count(*) FROM event_type WHERE deleted_at IS NULL)";
    assert_eq!(server.number(alive).await, i64::try_from(expected.len()).unwrap());
}
