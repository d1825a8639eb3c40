//! Tests the shutdown of a server: it exits in time whatever its clients and its database do, and
//! acknowledges nothing that is not stored. Also tests the limits of connections and the timeouts of slow
//! clients.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Database, TransactionTrait};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::process::{Launch, Process};
use crate::harness::{event, eventually, number, servers};

/// The longest time that a server may take to exit, after the drain delay.
const EXIT_MAX: Duration = Duration::from_secs(10);

async fn connect(process: &Process) -> TcpStream {
    TcpStream::connect(process.url.trim_start_matches("http://")).await.unwrap()
}

/// Returns the head of a request whose body has this length.
fn head(token: &str, length: usize) -> String {
    format!(
        "POST /graphql HTTP/1.1\r\nHost: idem\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_half_a_request_exits_in_time() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = Launch::default().start(&database, dir.path()).await;
    let token = process.client("ann").token;
    let mut half = connect(&process).await;
    half.write_all(format!("{}{{\"query\": \"{{", head(&token, 1_000)).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (status, took) = process.terminate().await;
    assert!(status.success() && took < EXIT_MAX, "{status} after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_database_is_blocked_exits_in_time_and_has_acknowledged_nothing() {
    let (dir, database) = (TempDir::new().unwrap(), servers().database().await);
    let process = Launch::default().start(&database, dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    let sql = Database::connect(&database).await.unwrap();
    let held = sql.begin().await.unwrap();
    held.execute_unprepared("LOCK TABLE event IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let writes: Vec<_> = (0..6)
        .map(|n| {
            let (client, events) = (client.clone(), vec![event(&kind); 1 + n % 2]);
            tokio::spawn(async move {
                let query =
                    "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created } }";
                let body = json!({ "query": query, "variables": { "e": events } });
                let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
                request.json(&body).send().await.ok()?.json::<serde_json::Value>().await.ok()
            })
        })
        .collect();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'idem' AND wait_event_type = 'Lock'";
    eventually("the writes wait", || async { number(&sql, waits).await > 0 }).await;
    let (status, took) = process.terminate().await;
    assert!(status.success() && took < EXIT_MAX, "{status} after {took:?}");
    let mut acknowledged = 0;
    for write in writes {
        if let Some(response) = write.await.unwrap() {
            acknowledged += response["data"]["createEvents"]["created"].as_i64().unwrap_or_default();
        }
    }
    assert_eq!(acknowledged, 0);
    held.rollback().await.unwrap();
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_served_during_the_drain_delay_while_readiness_fails() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = Launch::default().env("IDEM_DRAIN_DELAY", "3s").start(&database, dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    process.signal("TERM");
    eventually("it is not ready", || async { process.status("/readyz").await == 503 }).await;
    let started_at = Instant::now();
    let mut served = 0;
    while started_at.elapsed() < Duration::from_secs(2) {
        assert_eq!(client.create(&[event(&kind)]).await["created"], 1);
        served += 1;
    }
    assert!(served > 10, "{served}");
    let (status, took) = process.wait_for_exit().await;
    assert!(status.success() && took < Duration::from_secs(3) + EXIT_MAX, "{status} after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_the_limit_is_answered_503_with_retry_after() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = Launch::default().env("IDEM_CONNECTIONS_MAX", "20").start(&database, dir.path()).await;
    let token = process.client("ann").token;
    let body = json!({ "query": "{ viewer { userId } }" }).to_string();
    let request = format!("{}{body}", head(&token, body.len()));
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut stream = connect(&process).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = vec![0; 4096];
        let length = stream.read(&mut response).await.unwrap();
        let response = String::from_utf8_lossy(&response[..length]).into_owned();
        if response.starts_with("HTTP/1.1 503") {
            assert!(response.to_lowercase().contains("retry-after: 1"), "{response}");
            refused += 1;
        } else {
            assert!(response.starts_with("HTTP/1.1 200"), "{response}");
            kept.push(stream);
        }
    }
    assert!(kept.len() <= 20 && refused >= 20, "{} kept, {refused} refused", kept.len());
    // A connection over the limit that sends nothing is closed at once.
    let mut silent = connect(&process).await;
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0);
    drop(kept);
    eventually("new connections are accepted", || async { process.status("/readyz").await == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_raises_its_limit_of_open_files_to_the_hard_limit() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let launch = Launch::default().wrap(&["prlimit", "--nofile=64:1000"]);
    let process = launch.start(&database, dir.path()).await;
    let mut open = Vec::new();
    let started_at = Instant::now();
    for _ in 0..300 {
        let mut connection = connect(&process).await;
        connection.write_all(b"GET /livez HTTP/1.1\r\nHost: idem\r\n\r\n").await.unwrap();
        open.push(connection);
    }
    for connection in &mut open {
        let mut response = [0; 12];
        connection.read_exact(&mut response).await.unwrap();
        assert_eq!(&response, b"HTTP/1.1 200");
    }
    assert!(started_at.elapsed() < Duration::from_secs(9), "a connection waited until idle ones were closed");
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("LimitNOFILE") && log.contains("\"open_files_max\":1000"), "{log}");
}

/// A connection is closed if its request does not arrive in time, or if its response is not read.
#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_and_stalled_responses_end_their_connections() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = Launch::default().start(&database, dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    let mut large: Vec<_> = (0..100).map(|_| event(&kind)).collect();
    for event in &mut large {
        event["notes"] = "x".repeat(9_900).into();
    }
    for _ in 0..4 {
        for event in &mut large {
            event["id"] = crate::harness::new_id().into();
        }
        client.create(&large).await;
    }
    let slow_headers = async {
        let mut slow = connect(&process).await;
        let started_at = Instant::now();
        slow.write_all(b"GET /livez HTTP/1.1\r\nHost: idem\r\nX-Slow: ").await.unwrap();
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.ok();
        let took = started_at.elapsed();
        assert!((8..13).contains(&took.as_secs()), "slow headers ended after {took:?}");
    };
    let stalled_response = async {
        // The client reads nothing of its responses, which are larger than all buffers between the two ends.
        let body = json!({ "query": "{ events(first: 400) { nodes { id notes } } }" }).to_string();
        let mut stalled = connect(&process).await;
        let started_at = Instant::now();
        let request = format!("{}{body}", head(&client.token, body.len()));
        for _ in 0..20 {
            stalled.write_all(request.as_bytes()).await.unwrap();
        }
        // A buffer may still accept writes until the server has closed the connection.
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if stalled.write_all(b"\r\n").await.is_err() {
                break;
            }
            assert!(started_at.elapsed() < Duration::from_secs(60), "the connection is not closed");
        }
        assert!(
            started_at.elapsed() > Duration::from_secs(25),
            "it was closed after {:?}",
            started_at.elapsed()
        );
    };
    tokio::join!(slow_headers, stalled_response);
    assert_eq!(process.status("/readyz").await, 200);
}
