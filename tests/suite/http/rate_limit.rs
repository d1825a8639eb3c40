//! Tests the rate limit: a user is refused while the bucket has too few points, and no longer.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use domain::limits::RateLimit;
use reqwest::{Response, header::HeaderMap};
use serde_json::{Value, json};
use service::Clock;

use crate::harness::{CHANGES, Client, DatabaseKind, Socket, StreamedResponse, TestServer, event, keys};

const CREATE: &str =
    "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created rejected } }";
const STATE: &str = "{ rateLimit { limit cost remaining resetAt } }";

/// Starts a server whose users have so many points, and regain so many in a second.
async fn server(database_kind: DatabaseKind, points: u32, per_second: u32) -> TestServer {
    let [points, per_second] = [points, per_second].map(|number| NonZeroU32::new(number).unwrap());
    TestServer::open_for(database_kind, Some(RateLimit { points, per_second })).await
}

async fn post(client: &Client, accept: &str, query: &str, variables: Value) -> Response {
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
    let body = json!({ "query": query, "variables": variables });
    request.header("accept", accept).json(&body).send().await.unwrap()
}

/// Spends so many points on a write that stores nothing, because each of its events lacks a type.
async fn spend(client: &Client, points: usize) -> Response {
    post(client, "application/json", CREATE, json!({ "e": vec![json!({}); points] })).await
}

/// Returns the value of a header.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// Checks a refusal. Returns its `retryAfterMs`.
async fn wait_ms(refused: Response) -> u64 {
    let (status, headers) = (refused.status(), refused.headers().clone());
    let response: Value = refused.json().await.unwrap();
    assert_eq!((status.as_u16(), response.get("data")), (429, None), "{response}");
    let extensions = &response["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "RATE_LIMITED", "{response}");
    let problem = &extensions["problem"];
    assert_eq!((&problem["status"], &problem["retryable"]), (&json!(429), &json!(true)), "{response}");
    assert_eq!(
        (&problem["code"], &problem["type"]),
        (&json!("RATE_LIMITED"), &json!("urn:idem:problem:rate-limited"))
    );
    let wait_ms = problem["retryAfterMs"].as_u64().unwrap();
    assert!(wait_ms > 0, "{response}");
    assert_eq!(header(&headers, "retry-after"), Some(wait_ms.div_ceil(1_000).to_string().as_str()));
    assert!(header(&headers, "ratelimit").unwrap().starts_with("\"user\";r="), "{headers:?}");
    wait_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_pauses_is_admitted_as_soon_as_the_bucket_has_refilled() {
    for database_kind in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
        let server = server(database_kind, 200, 100).await;
        let (ann, bob) = (server.client("ann"), server.client("bob"));
        let started_at = Instant::now();
        assert_eq!(spend(&ann, 200).await.status(), 200);
        let (mut refused, mut last_ms) = (0, u64::MAX);
        // She never waits, and the 100 points are there after a second nevertheless.
        let admitted = loop {
            let response = spend(&ann, 100).await;
            if response.status() == 200 {
                break response;
            }
            let wait_ms = wait_ms(response).await;
            assert!(wait_ms <= last_ms, "the wait grew: {wait_ms} after {last_ms}");
            (refused, last_ms) = (refused + 1, wait_ms);
            if refused == 1 {
                assert!((1..=1_000).contains(&wait_ms), "{wait_ms}");
                assert_eq!(spend(&bob, 200).await.status(), 200, "another user has points of their own");
            }
        };
        let took = started_at.elapsed();
        assert!(refused > 3, "she was refused {refused} times");
        assert!((1_000..5_000).contains(&took.as_millis()), "admitted after {took:?}");
        let response: Value = admitted.json().await.unwrap();
        assert_eq!(response["data"]["createEvents"], json!({ "created": 0, "rejected": 100 }));
        assert_eq!(response["extensions"], json!({ "cost": 100 }));
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_of_a_refusal_is_long_enough_and_nothing_was_executed() {
    for database_kind in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
        let server = server(database_kind, 100, 50).await;
        let client = server.client("ann");
        let kind = client.event_type("run").await;
        let events: Vec<Value> = (0..100).map(|_| event(&kind)).collect();
        assert_eq!(spend(&client, 99).await.status(), 200);
        let refused =
            post(&client, "application/graphql-response+json", CREATE, json!({ "e": events })).await;
        assert!(
            header(refused.headers(), "content-type")
                .unwrap()
                .starts_with("application/graphql-response+json")
        );
        let wait_ms = wait_ms(refused).await;
        assert_eq!(server.number("SELECT count(*) FROM event").await, 0);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        assert_eq!(client.create(&events).await["created"], 100);
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_comes_back_after_a_week_is_refused_nothing() {
    for database_kind in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
        // Only one point a second is regained, which does not matter here.
        let server = server(database_kind, RateLimit::default().points.get(), 1).await;
        let client = server.client("ann");
        let kind = client.event_type("run").await;
        let flush = "mutation($m: [MutationInput!]!) { applyMutations(input: { clientId: \"phone\", mutations: $m }) \
            { results { outcome } } }";
        for _ in 0..10 {
            let outbox: Vec<Value> = (0..500).map(|_| json!({ "createEvent": event(&kind) })).collect();
            let results = client.ask(flush, json!({ "m": outbox })).await["applyMutations"]["results"].take();
            assert!(results.as_array().unwrap().iter().all(|result| result["outcome"] == "CREATED"));
        }
        // The phone pulls the whole feed in pages of the default size.
        assert_eq!(client.pull(None, 500).await.0.len(), 5_001);
        let state = client.ask(STATE, json!({})).await["rateLimit"].take();
        assert!(state["remaining"].as_u64().unwrap() > 14_900, "{state}");
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_response_has_its_cost_and_the_points_that_are_left() {
    let server = server(DatabaseKind::Sqlite, 1_000, 1).await;
    let client = server.client("ann");
    let response = spend(&client, 10).await;
    assert_eq!(header(response.headers(), "ratelimit-policy"), Some("\"user\";q=1000;w=1000"));
    assert_eq!(header(response.headers(), "ratelimit"), Some("\"user\";r=990;t=10"));
    let response: Value = response.json().await.unwrap();
    assert_eq!(response["extensions"], json!({ "cost": 10 }));
    // A document that validation refuses is not executed and has no cost.
    let refused: Value =
        post(&client, "application/json", "{ nothing }", json!({})).await.json().await.unwrap();
    assert_eq!(refused.get("extensions"), None);
    let response =
        client.send("{ a: viewer { userId } rateLimit { limit cost remaining resetAt } }", json!({})).await;
    let state = &response["data"]["rateLimit"];
    assert_eq!((&state["limit"], &state["cost"]), (&json!(1_000), &json!(2)), "{response}");
    assert!((987..=990).contains(&state["remaining"].as_u64().unwrap()), "{response}");
    assert!(state["resetAt"].as_str().unwrap() > "2025", "{response}");
    assert_eq!(response["extensions"]["cost"], 2);
    // A stream has the headers too, and a response inside a stream has its cost as any other.
    let parts = post(&client, "text/event-stream", CHANGES, json!({})).await;
    assert!(
        header(parts.headers(), "ratelimit").is_some()
            && header(parts.headers(), "ratelimit-policy").is_some()
    );
    drop(parts);
    let mut one =
        StreamedResponse::open(&client, "text/event-stream", "{ viewer { userId } }", json!({})).await;
    assert_eq!(one.event().await.1["extensions"], json!({ "cost": 1 }));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_a_browser_may_read_the_headers_of_the_rate_limit() {
    let origin = "https://app.example";
    let server =
        TestServer::open_as(DatabaseKind::Sqlite, keys().await, Clock::System, &[origin], |notifier| {
            notifier
        })
        .await;
    let client = server.client("ann");
    let request = client.http.post(format!("{}/graphql", server.url)).bearer_auth(&client.token);
    let response = request.header("origin", origin).json(&json!({ "query": STATE })).send().await.unwrap();
    let exposed = header(response.headers(), "access-control-expose-headers").unwrap();
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name}: {exposed}");
        assert_eq!(header(response.headers(), name).is_some(), name != "retry-after", "{name}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_no_user_is_refused_and_no_response_has_its_headers() {
    let server = TestServer::open_for(DatabaseKind::Sqlite, None).await;
    let client = server.client("ann");
    for _ in 0..45 {
        let response = spend(&client, 500).await;
        assert_eq!(response.status(), 200);
        let names = ["ratelimit", "ratelimit-policy", "retry-after"];
        assert!(
            names.iter().all(|name| header(response.headers(), name).is_none()),
            "{:?}",
            response.headers()
        );
    }
    let state = client.ask(STATE, json!({})).await["rateLimit"].take();
    let any = json!(i32::MAX);
    assert_eq!((&state["limit"], &state["remaining"], &state["cost"]), (&any, &any, &json!(1)), "{state}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_and_an_operation_of_a_socket_are_refused_alone_and_start_when_there_are_points() {
    // One point a second is regained.
    let server = server(DatabaseKind::Sqlite, 10, 1).await;
    let accepts = ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0, application/json"];
    for (name, accept) in ["ann", "bob"].into_iter().zip(accepts) {
        let client = server.client(name);
        assert_eq!(spend(&client, 10).await.status(), 200);
        let refused = post(&client, accept, CHANGES, json!({})).await;
        let kind = header(refused.headers(), "content-type").unwrap().to_owned();
        assert!(kind.starts_with("application/"), "{kind}");
        wait_ms(refused).await;
    }
    for (name, query) in [("cid", CHANGES), ("dot", "{ viewer { userId } }")] {
        let client = server.client(name);
        let mut socket = Socket::open(&client).await;
        assert_eq!(spend(&client, 10).await.status(), 200);
        socket.ask("1", query, json!({})).await;
        let refused = socket.next().await;
        assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("1")), "{refused}");
        let extensions = &refused["payload"][0]["extensions"];
        let problem = &extensions["problem"];
        assert_eq!(extensions["code"], "RATE_LIMITED", "{refused}");
        assert_eq!((&problem["status"], &problem["retryable"]), (&json!(429), &json!(true)), "{refused}");
        let wait_ms = problem["retryAfterMs"].as_u64().unwrap();
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        // The socket stays open, and the same operation is admitted.
        socket.ask("1", query, json!({})).await;
        if query == CHANGES {
            socket.ping().await;
        } else {
            let response = socket.next().await;
            assert_eq!(response["payload"]["extensions"], json!({ "cost": 1 }), "{response}");
        }
    }
    server.end().await;
}
