//! The streams over HTTP, byte by byte, and how they refuse.

use serde_json::{Value, json};

use crate::harness::{CHANGES, Client, Column, Feed, TestServer, event, new_id};
use crate::imports::manual_slices::samples;

const SSE: &str = "text/event-stream";
const MULTIPART: &str = "multipart/mixed;subscriptionSpec=1.0";

async fn post(client: &Client, accept: &str, query: &str) -> (u16, Value) {
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
    let answer = request.header("accept", accept).json(&json!({ "query": query })).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_and_a_mutation_are_one_event_and_the_end() {
    let server = TestServer::open(Column::Sqlite).await;
    let client = server.client("ann");
    let mut query = Feed::open(&client, SSE, "{ viewer { userId } }", json!({})).await;
    assert_eq!(query.content_type(), "text/event-stream; charset=utf-8");
    let (name, data) = query.event().await;
    assert_eq!(name, "next");
    assert!(data["data"]["viewer"]["userId"].is_string(), "{data}");
    assert_eq!(query.rest().await, "event: complete\ndata:\n\n");
    let mutation =
        "mutation { createEventType(input: { eventType: { name: \"run\" } }) { result { outcome } } }";
    let mut made = Feed::open(&client, SSE, mutation, json!({})).await;
    assert_eq!(made.event().await.1["data"]["createEventType"]["result"]["outcome"], "CREATED");
    assert_eq!(made.event().await, ("complete".to_owned(), Value::Null));
    let mut part = Feed::open(&client, MULTIPART, "{ viewer { userId } }", json!({})).await;
    assert_eq!(part.content_type(), "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0");
    assert_eq!(part.until("--graphql").await, "");
    assert!(part.part().await["payload"]["data"]["viewer"]["userId"].is_string());
    assert_eq!(part.rest().await, "--\r\n");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_streams_queries_and_subscriptions_and_no_mutations() {
    let server = TestServer::open(Column::Sqlite).await;
    let client = server.client("ann");
    let get = async |query: &str| {
        let request = client.http.get(format!("{}/graphql", server.url)).query(&[("query", query)]);
        request.bearer_auth(&client.token).header("accept", SSE).send().await.unwrap()
    };
    let query = get("{ viewer { userId } }").await.text().await.unwrap();
    assert!(query.contains("event: next\ndata: {\"data\":{\"viewer\""), "{query}");
    let reset = get("subscription { changes(after: \"x\") { reset } }").await.text().await.unwrap();
    assert!(reset.contains("CURSOR_INVALID") && reset.ends_with("event: complete\ndata:\n\n"), "{reset}");
    let mutation = "mutation { createEvent(input: { event: {} }) { result { outcome } } }";
    assert_eq!(get(mutation).await.status(), 405);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_refused_before_a_stream_begins() {
    let server = TestServer::open(Column::Sqlite).await;
    let client = server.client("ann");
    let cases = [
        (SSE, 400),
        (MULTIPART, 400),
        ("multipart/mixed;subscriptionSpec=1.0, application/graphql-response+json", 400),
        ("multipart/mixed;subscriptionSpec=1.0, application/json", 200),
    ];
    for (accept, expected) in cases {
        for query in ["subscription { nothing }", "{ nothing }", "{ viewer ", "subscription { changes { } }"]
        {
            let (status, answer) = post(&client, accept, query).await;
            assert_eq!(status, expected, "{accept}, {query}: {answer}");
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{accept}: {answer}");
        }
    }
    let nobody = Client { token: "x.y.z".to_owned(), ..client.clone() };
    for accept in [SSE, MULTIPART] {
        assert_eq!(post(&nobody, accept, CHANGES).await.0, 401);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_without_a_transport_for_it_is_refused() {
    let server = TestServer::open(Column::Sqlite).await;
    let client = server.client("ann");
    let cases = [
        ("application/graphql-response+json", 400),
        ("application/json", 200),
        ("*/*", 200),
        ("multipart/mixed;deferSpec=20220824, application/json", 200),
    ];
    for (accept, expected) in cases {
        let (status, answer) = post(&client, accept, CHANGES).await;
        assert_eq!(status, expected, "{accept}: {answer}");
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{accept}: {answer}");
        assert!(answer.get("data").is_none(), "{answer}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_beats_and_each_part_is_whole_at_once() {
    let server = TestServer::open(Column::Sqlite).await;
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (_, cursor) = client.pull(None, 100).await;
    let mut parts = Feed::open(&client, MULTIPART, CHANGES, json!({ "after": cursor })).await;
    let mut events = Feed::open(&client, SSE, CHANGES, json!({ "after": cursor })).await;
    assert_eq!(parts.until("--graphql").await, "");
    assert_eq!(events.until("\n\n").await, ":");
    let began = std::time::Instant::now();
    assert_eq!(parts.part().await, json!({}));
    assert!((4..9).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    client.create(&[event(&kind)]).await;
    let sent = std::time::Instant::now();
    assert!(parts.part().await["payload"]["data"]["changes"]["cursor"].is_string());
    // With the boundary before the next part it would take until the next beat.
    assert!(sent.elapsed().as_secs() < 3, "{:?}", sent.elapsed());
    assert_eq!(events.event().await.0, "next");
    assert_eq!(events.until("\n\n").await, ":");
    assert!((9..20).contains(&sent.elapsed().as_secs()), "{:?}", sent.elapsed());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_does_not_move_tells_its_cursor_every_thirty_seconds() {
    let server = TestServer::open(Column::Sqlite).await;
    let client = server.client("ann");
    client.event_type("run").await;
    let (_, cursor) = client.pull(None, 100).await;
    let mut events = Feed::open(&client, SSE, CHANGES, json!({ "after": cursor })).await;
    let began = std::time::Instant::now();
    let (name, page) = events.event().await;
    assert!((29..45).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let page = &page["data"]["changes"];
    assert_eq!(
        (name.as_str(), &page["changes"], &page["reset"]),
        ("next", &json!([]), &Value::Null),
        "{page}"
    );
    assert_eq!(page["cursor"], json!(cursor), "it stands where it stood");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_an_import_is_told_once_a_second_at_most() {
    let server = TestServer::open(Column::Sqlite).await;
    let client = server.client("ann");
    let (id, payload) = (new_id(), samples(0..25_000));
    client.create_import(&id, payload.len(), None).await;
    let progress = "subscription($id: ID!) { importProgress(id: $id) { state counts { records } } }";
    let began = std::time::Instant::now();
    let mut events = Feed::open(&client, SSE, progress, json!({ "id": id })).await;
    assert_eq!(client.put(&id, None, payload).await.status(), 200);
    let mut told = 0;
    loop {
        let (name, page) = events.event().await;
        if name == "complete" {
            break;
        }
        told += 1;
        // One at once, then one after each second.
        assert!(told <= 1 + began.elapsed().as_secs(), "{told} in {:?}: {page}", began.elapsed());
    }
    assert!(told >= 3, "it took {:?} and was told of {told} times", began.elapsed());
    server.end().await;
}
