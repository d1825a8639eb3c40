//! A user who asks without end: refused for as long as it is too much, and not a moment longer.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use domain::limits::RateLimit;
use reqwest::{Response, header::HeaderMap};
use serde_json::{Value, json};
use service::Clock;

use crate::harness::{CHANGES, Client, Column, Feed, Socket, TestServer, event, keys};

const CREATE: &str =
    "mutation($e: [EventInput!]!) { createEvents(input: { events: $e }) { created rejected } }";
const STATE: &str = "{ rateLimit { limit cost remaining resetAt } }";

/// A server whose users have so many points, and get so many back in a second.
async fn server(column: Column, points: u32, per_second: u32) -> TestServer {
    let [points, per_second] = [points, per_second].map(|number| NonZeroU32::new(number).unwrap());
    TestServer::open_for(column, Some(RateLimit { points, per_second })).await
}

async fn post(client: &Client, accept: &str, query: &str, variables: Value) -> Response {
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
    let body = json!({ "query": query, "variables": variables });
    request.header("accept", accept).json(&body).send().await.unwrap()
}

/// A write of so many points that stores nothing: each of its events lacks its type.
async fn spend(client: &Client, points: usize) -> Response {
    post(client, "application/json", CREATE, json!({ "e": vec![json!({}); points] })).await
}

fn head<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// What a refusal says in milliseconds, once all else that it says was looked at.
async fn wait_ms(refused: Response) -> u64 {
    let (status, headers) = (refused.status(), refused.headers().clone());
    let answer: Value = refused.json().await.unwrap();
    assert_eq!((status.as_u16(), answer.get("data")), (429, None), "{answer}");
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "RATE_LIMITED", "{answer}");
    let problem = &extensions["problem"];
    assert_eq!((&problem["status"], &problem["retryable"]), (&json!(429), &json!(true)), "{answer}");
    assert_eq!(
        (&problem["code"], &problem["type"]),
        (&json!("RATE_LIMITED"), &json!("urn:idem:problem:rate-limited"))
    );
    let wait_ms = problem["retryAfterMs"].as_u64().unwrap();
    assert!(wait_ms > 0, "{answer}");
    assert_eq!(head(&headers, "retry-after"), Some(wait_ms.div_ceil(1_000).to_string().as_str()));
    assert!(head(&headers, "ratelimit").unwrap().starts_with("\"user\";r="), "{headers:?}");
    wait_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_that_never_pauses_is_let_in_as_soon_as_the_bucket_has_refilled() {
    for column in [Column::Sqlite, Column::Postgres] {
        let server = server(column, 200, 100).await;
        let (ann, bob) = (server.client("ann"), server.client("bob"));
        let begun = Instant::now();
        assert_eq!(spend(&ann, 200).await.status(), 200);
        let (mut refused, mut last_ms) = (0, u64::MAX);
        // She never waits: what costs 100 is there after a second all the same.
        let let_in = loop {
            let answer = spend(&ann, 100).await;
            if answer.status() == 200 {
                break answer;
            }
            let wait_ms = wait_ms(answer).await;
            assert!(wait_ms <= last_ms, "each refusal is nearer to the end: {wait_ms} behind {last_ms}");
            (refused, last_ms) = (refused + 1, wait_ms);
            if refused == 1 {
                assert!((1..=1_000).contains(&wait_ms), "{wait_ms}");
                assert_eq!(spend(&bob, 200).await.status(), 200, "another user is not touched");
            }
        };
        let took = begun.elapsed();
        assert!(refused > 3, "she was refused {refused} times");
        assert!((1_000..5_000).contains(&took.as_millis()), "let in after {took:?}");
        let answer: Value = let_in.json().await.unwrap();
        assert_eq!(answer["data"]["createEvents"], json!({ "created": 0, "rejected": 100 }));
        assert_eq!(answer["extensions"], json!({ "cost": 100 }));
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refusal_says_to_wait_is_enough_and_nothing_was_executed() {
    for column in [Column::Sqlite, Column::Postgres] {
        let server = server(column, 100, 50).await;
        let client = server.client("ann");
        let kind = client.event_type("run").await;
        let events: Vec<Value> = (0..100).map(|_| event(&kind)).collect();
        assert_eq!(spend(&client, 99).await.status(), 200);
        let refused =
            post(&client, "application/graphql-response+json", CREATE, json!({ "e": events })).await;
        assert!(
            head(refused.headers(), "content-type").unwrap().starts_with("application/graphql-response+json")
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
    for column in [Column::Sqlite, Column::Postgres] {
        // With nothing back in the meantime, or next to nothing.
        let server = server(column, RateLimit::default().points.get(), 1).await;
        let client = server.client("ann");
        let kind = client.event_type("run").await;
        let flush = "mutation($m: [MutationInput!]!) { applyMutations(input: { clientId: \"phone\", mutations: $m }) \
            { results { outcome } } }";
        for _ in 0..10 {
            let outbox: Vec<Value> = (0..500).map(|_| json!({ "createEvent": event(&kind) })).collect();
            let results = client.ask(flush, json!({ "m": outbox })).await["applyMutations"]["results"].take();
            assert!(results.as_array().unwrap().iter().all(|result| result["outcome"] == "CREATED"));
        }
        // From the start, by the pages that a client takes unless it says otherwise.
        assert_eq!(client.pull(None, 500).await.0.len(), 5_001);
        let state = client.ask(STATE, json!({})).await["rateLimit"].take();
        assert!(state["remaining"].as_u64().unwrap() > 14_900, "{state}");
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_tells_what_it_cost_and_what_is_left() {
    let server = server(Column::Sqlite, 1_000, 1).await;
    let client = server.client("ann");
    let answer = spend(&client, 10).await;
    assert_eq!(head(answer.headers(), "ratelimit-policy"), Some("\"user\";q=1000;w=1000"));
    assert_eq!(head(answer.headers(), "ratelimit"), Some("\"user\";r=990;t=10"));
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["extensions"], json!({ "cost": 10 }));
    // Refused by validation: not executed, and no cost is told.
    let refused: Value =
        post(&client, "application/json", "{ nothing }", json!({})).await.json().await.unwrap();
    assert_eq!(refused.get("extensions"), None);
    let answer =
        client.send("{ a: viewer { userId } rateLimit { limit cost remaining resetAt } }", json!({})).await;
    let state = &answer["data"]["rateLimit"];
    assert_eq!((&state["limit"], &state["cost"]), (&json!(1_000), &json!(2)), "{answer}");
    assert!((987..=990).contains(&state["remaining"].as_u64().unwrap()), "{answer}");
    assert!(state["resetAt"].as_str().unwrap() > "2025", "{answer}");
    assert_eq!(answer["extensions"]["cost"], 2);
    // Streams tell it in their head, and an answer in a stream as any other.
    let parts = post(&client, "text/event-stream", CHANGES, json!({})).await;
    assert!(
        head(parts.headers(), "ratelimit").is_some() && head(parts.headers(), "ratelimit-policy").is_some()
    );
    drop(parts);
    let mut one = Feed::open(&client, "text/event-stream", "{ viewer { userId } }", json!({})).await;
    assert_eq!(one.event().await.1["extensions"], json!({ "cost": 1 }));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_a_browser_may_read_how_its_user_stands() {
    let origin = "https://app.example";
    let server =
        TestServer::open_as(Column::Sqlite, keys().await, Clock::System, &[origin], |notifier| notifier)
            .await;
    let client = server.client("ann");
    let request = client.http.post(format!("{}/graphql", server.url)).bearer_auth(&client.token);
    let answer = request.header("origin", origin).json(&json!({ "query": STATE })).send().await.unwrap();
    let exposed = head(answer.headers(), "access-control-expose-headers").unwrap();
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name}: {exposed}");
        assert_eq!(head(answer.headers(), name).is_some(), name != "retry-after", "{name}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_nobody_is_refused_and_no_header_speaks_of_one() {
    let server = TestServer::open_for(Column::Sqlite, None).await;
    let client = server.client("ann");
    for _ in 0..45 {
        let answer = spend(&client, 500).await;
        assert_eq!(answer.status(), 200);
        let names = ["ratelimit", "ratelimit-policy", "retry-after"];
        assert!(names.iter().all(|name| head(answer.headers(), name).is_none()), "{:?}", answer.headers());
    }
    let state = client.ask(STATE, json!({})).await["rateLimit"].take();
    let any = json!(i32::MAX);
    assert_eq!((&state["limit"], &state["remaining"], &state["cost"]), (&any, &any, &json!(1)), "{state}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_and_an_operation_of_a_socket_are_refused_alone_and_begin_when_there_are_points() {
    // The next point comes a second behind the last.
    let server = server(Column::Sqlite, 10, 1).await;
    let accepts = ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0, application/json"];
    for (name, accept) in ["ann", "bob"].into_iter().zip(accepts) {
        let client = server.client(name);
        assert_eq!(spend(&client, 10).await.status(), 200);
        let refused = post(&client, accept, CHANGES, json!({})).await;
        let kind = head(refused.headers(), "content-type").unwrap().to_owned();
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
        // The socket lives, and the same is let in.
        socket.ask("1", query, json!({})).await;
        if query == CHANGES {
            socket.beat().await;
        } else {
            let answer = socket.next().await;
            assert_eq!(answer["payload"]["extensions"], json!({ "cost": 1 }), "{answer}");
        }
    }
    server.end().await;
}
