//! Tests the memory that all request bodies share. A request reserves its share as its bytes arrive, and
//! keeps it until its work has ended.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Client, DatabaseKind, Socket, TestServer, event, eventually};

const CREATE: &str = "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }";

async fn status(client: &Client) -> u16 {
    let body = json!({ "query": "{ viewer { userId } }" });
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
    request.json(&body).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn mutations_whose_clients_have_disconnected_keep_their_memory_until_they_end() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    // An open transaction blocks all other writes on SQLite.
    let held = server.store.begin().await.unwrap();
    for _ in 0..16 {
        let mut body = json!({ "query": CREATE, "variables": { "e": [event(&kind)] } }).to_string();
        body.push_str(&" ".repeat(4 * 1024 * 1024 - 1 - body.len()));
        let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
        let request = request.header("content-type", "application/json").body(body);
        let cut = timeout(Duration::from_millis(400), request.send()).await;
        assert!(cut.is_err(), "it waits for the open transaction: {cut:?}");
    }
    assert_eq!(status(&client).await, 503);
    drop(held);
    eventually("each has ended", || async { server.number("SELECT count(*) FROM event").await == 16 }).await;
    eventually("the memory is free", || async { status(&client).await == 200 }).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_stops_reading_while_too_many_completed_mutations_still_run() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let mut socket = Socket::open(&client).await;
    let held = server.store.begin().await.unwrap();
    for id in 0..19 {
        socket.ask(&id.to_string(), CREATE, json!({ "e": [event(&kind)] })).await;
        // The mutation has started by the time of the second pong.
        socket.ping().await;
        socket.ping().await;
        socket.send(json!({ "type": "complete", "id": id.to_string() })).await;
    }
    socket.ask("last", CREATE, json!({ "e": [event(&kind)] })).await;
    assert!(timeout(Duration::from_secs(1), socket.ping()).await.is_err(), "the socket still reads");
    drop(held);
    let mut types =
        [socket.next().await, socket.next().await, socket.next().await].map(|m| m["type"].to_string());
    types.sort();
    assert_eq!(types, [r#""complete""#, r#""next""#, r#""pong""#]);
    socket.ask("1", "{ viewer { userId } }", json!({})).await;
    assert!(socket.next().await["payload"]["data"]["viewer"]["userId"].is_string());
    eventually("each has ended", || async { server.number("SELECT count(*) FROM event").await == 20 }).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_arrive_reserve_no_memory() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let address = server.url.strip_prefix("http://").unwrap();
    let mut slow = Vec::new();
    for size in ["transfer-encoding: chunked", "content-length: 4194304"] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /graphql HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
                 content-type: application/json\r\n{size}\r\n\r\n1\r\n \r\n",
                client.token
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    // The server has read the heads by now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(status(&client).await, 200);
    drop(slow);
    server.end().await;
}
