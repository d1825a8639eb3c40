//! How a server ends: within its time, whatever its clients and its database do, and with nothing acknowledged that is
//! not stored. And how it turns away those for whom it has no room.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Database, TransactionTrait};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::process::{Launch, Process};
use crate::harness::{event, eventually, number, servers};

/// After the drain delay.
const END_MAX: Duration = Duration::from_secs(10);

async fn connect(process: &Process) -> TcpStream {
    TcpStream::connect(process.url.trim_start_matches("http://")).await.unwrap()
}

/// The head of a request whose body is to come.
fn head(token: &str, length: usize) -> String {
    format!(
        "POST /graphql HTTP/1.1\r\nHost: idem\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_half_a_request_ends_in_time() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = Launch::default().start(&database, dir.path()).await;
    let token = process.client("ann").token;
    let mut half = connect(&process).await;
    half.write_all(format!("{}{{\"query\": \"{{", head(&token, 1_000)).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (status, took) = process.terminate().await;
    assert!(status.success() && took < END_MAX, "{status} after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_database_is_stuck_ends_in_time_and_has_acknowledged_nothing() {
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
    eventually("they wait", || async { number(&sql, waits).await > 0 }).await;
    let (status, took) = process.terminate().await;
    assert!(status.success() && took < END_MAX, "{status} after {took:?}");
    let mut acknowledged = 0;
    for write in writes {
        if let Some(answer) = write.await.unwrap() {
            acknowledged += answer["data"]["createEvents"]["created"].as_i64().unwrap_or_default();
        }
    }
    assert_eq!(acknowledged, 0);
    held.rollback().await.unwrap();
    sql.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_served_while_load_balancers_are_told_to_look_elsewhere() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let process = Launch::default().env("IDEM_DRAIN_DELAY", "3s").start(&database, dir.path()).await;
    let client = process.client("ann");
    let kind = client.event_type("run").await;
    process.signal("TERM");
    eventually("it is not ready", || async { process.status("/readyz").await == 503 }).await;
    let told = Instant::now();
    let mut served = 0;
    while told.elapsed() < Duration::from_secs(2) {
        assert_eq!(client.create(&[event(&kind)]).await["created"], 1);
        served += 1;
    }
    assert!(served > 10, "{served}");
    let (status, took) = process.ended().await;
    assert!(status.success() && took < Duration::from_secs(3) + END_MAX, "{status} after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_for_which_there_is_no_room_is_told_to_come_back() {
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
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        if answer.starts_with("HTTP/1.1 503") {
            assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
            refused += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            kept.push(stream);
        }
    }
    assert!(kept.len() <= 20 && refused >= 20, "{} kept, {refused} refused", kept.len());
    // One that says nothing is not waited for.
    let mut silent = connect(&process).await;
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0);
    drop(kept);
    eventually("there is room again", || async { process.status("/readyz").await == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_as_many_connections_as_its_hard_limit_lets_it() {
    let dir = TempDir::new().unwrap();
    let database = format!("sqlite://{}/idem.db", dir.path().display());
    let launch = Launch::default().wrap(&["prlimit", "--nofile=64:1000"]);
    let process = launch.start(&database, dir.path()).await;
    let mut open = Vec::new();
    let begun = Instant::now();
    for _ in 0..300 {
        let mut connection = connect(&process).await;
        connection.write_all(b"GET /livez HTTP/1.1\r\nHost: idem\r\n\r\n").await.unwrap();
        open.push(connection);
    }
    for connection in &mut open {
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "nobody waits until idle connections are closed");
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("LimitNOFILE") && log.contains("\"open_files_max\":1000"), "{log}");
}

/// What is not said in time ends a connection, and what is not read.
#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_and_stalled_answers_end_their_connections() {
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
        let begun = Instant::now();
        slow.write_all(b"GET /livez HTTP/1.1\r\nHost: idem\r\nX-Slow: ").await.unwrap();
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.ok();
        let took = begun.elapsed();
        assert!((8..13).contains(&took.as_secs()), "slow headers ended after {took:?}");
    };
    let stalled_answer = async {
        // Many answers of which nothing is read: more than all buffers between the two hold.
        let body = json!({ "query": "{ events(first: 400) { nodes { id notes } } }" }).to_string();
        let mut stalled = connect(&process).await;
        let begun = Instant::now();
        let request = format!("{}{body}", head(&client.token, body.len()));
        for _ in 0..20 {
            stalled.write_all(request.as_bytes()).await.unwrap();
        }
        // Until the server has given it up, a write may still be taken by a buffer.
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if stalled.write_all(b"\r\n").await.is_err() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it is not given up");
        }
        assert!(begun.elapsed() > Duration::from_secs(25), "it was given up after {:?}", begun.elapsed());
    };
    tokio::join!(slow_headers, stalled_answer);
    assert_eq!(process.status("/readyz").await, 200);
}
