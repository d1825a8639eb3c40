//! Writers of every kind and readers of every transport, cut again and again: each reader's fold is the
//! table, and nothing came twice.

mod readers;
mod writers;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::{Client, TestServer, on_both};
use readers::Reader;

on_both!(every_reader_ends_with_the_table_however_it_reads_and_however_often_it_is_cut);

/// What a reader knows: entity to version and what it says; none once it was deleted.
type Known = BTreeMap<String, (i64, Option<Value>)>;

/// Folds changes into what is known. A reader that keeps its cursor is told of no version twice.
fn fold(known: &mut Known, changes: &[Value]) {
    for change in changes {
        let id = change["entityId"].as_str().unwrap().to_owned();
        let version = change["version"].as_i64().unwrap();
        let says = (change["deleted"] == false).then(|| change["event"]["notes"].clone());
        let before = known.insert(id, (version, says));
        assert!(before.is_none_or(|before| before.0 < version), "told twice: {change}");
    }
}

fn living(known: &Known) -> Known {
    known
        .iter()
        .filter(|(_, entry)| entry.1.is_some())
        .map(|(id, entry)| (id.clone(), entry.clone()))
        .collect()
}

async fn head(client: &Client) -> String {
    let status = client.ask("{ syncStatus { headCursor } }", json!({})).await;
    status["syncStatus"]["headCursor"].as_str().unwrap().to_owned()
}

async fn every_reader_ends_with_the_table_however_it_reads_and_however_often_it_is_cut(server: &TestServer) {
    let client = server.client("ann");
    let (tell, end) = watch::channel(None);
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
    tell.send(Some(head(&client).await)).unwrap();
    let (table, _) = client.pull(None, 1_000).await;
    let mut truth = Known::new();
    fold(&mut truth, &table);
    assert!(truth.len() > 300, "the writers wrote {} rows", truth.len());
    for (reader, following) in readers {
        let followed = tokio::time::timeout(Duration::from_secs(60), following).await;
        let (known, cuts) = followed.unwrap_or_else(|_| panic!("{reader:?} never got to the head")).unwrap();
        assert!(cuts > 1, "{reader:?} was cut {cuts} times");
        assert_eq!(living(&known), truth, "{reader:?}");
    }
    let alive = "SELECT (SELECT count(*) FROM event WHERE deleted_at IS NULL) + \
        (SELECT count(*) FROM event_type WHERE deleted_at IS NULL)";
    assert_eq!(server.number(alive).await, i64::try_from(truth.len()).unwrap());
}
