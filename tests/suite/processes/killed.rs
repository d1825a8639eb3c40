//! Tests a server that is killed under load. All writes that it had acknowledged are stored.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::Database;
use serde_json::json;
use tempfile::TempDir;

use super::is_full;
use crate::harness::{Client, SECRET, assert_feeds_are_whole, event, eventually, new_id, number, servers};

/// The number of concurrent writers. Every fourth one sends batches.
const WRITERS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_by_a_kill_on_sqlite() {
    let dir = TempDir::new().unwrap();
    let url = format!("sqlite://{}/idem.db", dir.path().display());
    no_acknowledged_write_is_lost(&url, dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_by_a_kill_on_postgres() {
    let dir = TempDir::new().unwrap();
    no_acknowledged_write_is_lost(&servers().database().await, dir.path()).await;
}

async fn no_acknowledged_write_is_lost(database: &str, dir: &Path) {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let kills = if is_full() { 40 } else { 4 };
    for kill in 0..kills {
        let (mut server, url) = spawn(database, dir).await;
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| tokio::spawn(write(url.clone(), number, acknowledged.clone())))
            .collect();
        let before = acknowledged.lock().unwrap().len();
        // Each kill comes after another number of writes.
        let enough = before + 50 + 37 * kill;
        eventually("the server is under load", || async { acknowledged.lock().unwrap().len() > enough })
            .await;
        server.kill().unwrap();
        server.wait().unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let sql = Database::connect(database).await.unwrap();
    let ids = acknowledged.lock().unwrap().clone();
    let mut stored = 0;
    for ids in ids.chunks(500) {
        let ids: Vec<String> = ids
            .iter()
            .map(|id: &String| {
                if database.starts_with("sqlite") {
                    format!("x'{}'", id.replace('-', ""))
                } else {
                    format!("'{id}'")
                }
            })
            .collect();
        stored += number(&sql, &format!("SELECT count(*) FROM event WHERE id IN ({})", ids.join(","))).await;
    }
    assert_eq!(stored, i64::try_from(ids.len()).unwrap(), "acknowledged writes are lost");
    assert_feeds_are_whole(&sql).await;
}

/// Starts a server and waits until it is ready. Returns its process and its URL.
async fn spawn(database: &str, dir: &Path) -> (Child, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
        .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
        .current_dir(dir)
        .env("IDEM_DATABASE_URL", database)
        .env("IDEM_DATA_DIR", dir)
        .env("IDEM_METRICS_LISTEN", "127.0.0.1:0")
        .env("IDEM_JWT_SECRET", SECRET)
        .env("IDEM_RATE_LIMIT", "0")
        .env("IDEM_LOG", "warn")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}");
    eventually("the server is ready", || async {
        reqwest::get(format!("{url}/readyz")).await.is_ok_and(|response| response.status() == 200)
    })
    .await;
    (child, url)
}

/// Creates events until the server is killed, and records the ids of those that it acknowledged.
async fn write(url: String, number: usize, acknowledged: Arc<Mutex<Vec<String>>>) {
    let client = Client::new(&url, &format!("user {}", number % 5));
    let kind = "019b7000-0000-7000-8000-0000000000aa";
    let make_type = "mutation($id: ID!) { createEventType(input: { eventType: { id: $id, name: \"run\" } }) { result { outcome } } }";
    let one = "mutation($e: EventInput!) { createEvent(input: { event: $e }) { result { outcome } } }";
    let many = "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }";
    if send(&client, make_type, json!({ "id": kind })).await.is_none() {
        return;
    }
    loop {
        let events: Vec<_> = (0..if number.is_multiple_of(4) { 7 } else { 1 }).map(|_| event(kind)).collect();
        let ids = events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let response = match &events[..] {
            [event] => send(&client, one, json!({ "e": event })).await,
            events => send(&client, many, json!({ "e": events })).await,
        };
        let Some(response) = response else { return };
        let data = &response["data"];
        let created = data["createEvent"]["result"]["outcome"] == "CREATED"
            || data["createEvents"]["created"] == events.len();
        assert!(created, "{response}");
        acknowledged.lock().unwrap().extend(ids);
    }
}

/// Sends a request. Returns the response, or `None` if there was no complete one.
async fn send(client: &Client, query: &str, variables: serde_json::Value) -> Option<serde_json::Value> {
    let body = json!({ "query": query, "variables": variables });
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token).json(&body);
    let request = request.timeout(Duration::from_secs(20)).header("x-request-id", new_id());
    request.send().await.ok()?.json().await.ok()
}
