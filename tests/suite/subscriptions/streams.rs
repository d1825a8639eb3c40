//! Tests server-sent events and multipart responses: their exact bytes, their heartbeats, and their refusals.

use serde_json::{Value, json};

use crate::harness::{CHANGES, Client, DatabaseKind, StreamedResponse, TestServer, event, new_id};
use crate::imports::manual_slices::samples;

const SSE: &str = "text/event-stream";
const MULTIPART: &str = "multipart/mixed;subscriptionSpec=1.0";

async fn post(client: &Client, accept: &str, query: &str) -> (u16, Value) {
    let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
    let response = request.header("accept", accept).json(&json!({ "query": query })).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_or_a_mutation_is_answered_by_one_event_and_the_end_of_the_stream() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let mut query = StreamedResponse::open(&client, SSE, "{ viewer { userId } }", json!({})).await;
    assert_eq!(query.content_type(), "text/event-stream; charset=utf-8");
    let (name, data) = query.event().await;
    assert_eq!(name, "next");
    assert!(data["data"]["viewer"]["userId"].is_string(), "{data}");
    assert_eq!(query.rest().await, "event: complete\ndata:\n\n");
    let mutation =
        "mutation { createEventType(input: { eventType: { name: \"run\" } }) { result { outcome } } }";
    let mut made = StreamedResponse::open(&client, SSE, mutation, json!({})).await;
    assert_eq!(made.event().await.1["data"]["createEventType"]["result"]["outcome"], "CREATED");
    assert_eq!(made.event().await, ("complete".to_owned(), Value::Null));
    let mut part = StreamedResponse::open(&client, MULTIPART, "{ viewer { userId } }", json!({})).await;
    assert_eq!(part.content_type(), "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0");
    assert_eq!(part.until("--graphql").await, "");
    assert!(part.part().await["payload"]["data"]["viewer"]["userId"].is_string());
    assert_eq!(part.rest().await, "--\r\n");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_allows_streams_of_queries_and_subscriptions_and_no_mutations() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
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
async fn a_document_is_refused_before_its_stream_begins() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
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
            let (status, response) = post(&client, accept, query).await;
            assert_eq!(status, expected, "{accept}, {query}: {response}");
            assert_eq!(response["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{accept}: {response}");
        }
    }
    let nobody = Client { token: "x.y.z".to_owned(), ..client.clone() };
    for accept in [SSE, MULTIPART] {
        assert_eq!(post(&nobody, accept, CHANGES).await.0, 401);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_refused_if_the_accepted_types_cannot_stream() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let cases = [
        ("application/graphql-response+json", 400),
        ("application/json", 200),
        ("*/*", 200),
        ("multipart/mixed;deferSpec=20220824, application/json", 200),
    ];
    for (accept, expected) in cases {
        let (status, response) = post(&client, accept, CHANGES).await;
        assert_eq!(status, expected, "{accept}: {response}");
        assert_eq!(response["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{accept}: {response}");
        assert!(response.get("data").is_none(), "{response}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_sends_heartbeats_and_each_part_is_sent_with_its_boundary() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (_, cursor) = client.pull(None, 100).await;
    let mut parts = StreamedResponse::open(&client, MULTIPART, CHANGES, json!({ "after": cursor })).await;
    let mut events = StreamedResponse::open(&client, SSE, CHANGES, json!({ "after": cursor })).await;
    assert_eq!(parts.until("--graphql").await, "");
    assert_eq!(events.until("\n\n").await, ":");
    let started_at = std::time::Instant::now();
    assert_eq!(parts.part().await, json!({}));
    assert!((4..9).contains(&started_at.elapsed().as_secs()), "{:?}", started_at.elapsed());
    client.create(&[event(&kind)]).await;
    let sent = std::time::Instant::now();
    assert!(parts.part().await["payload"]["data"]["changes"]["cursor"].is_string());
    // If the boundary were sent with the next part, this part would be complete only at the next heartbeat.
    assert!(sent.elapsed().as_secs() < 3, "{:?}", sent.elapsed());
    assert_eq!(events.event().await.0, "next");
    assert_eq!(events.until("\n\n").await, ":");
    assert!((9..20).contains(&sent.elapsed().as_secs()), "{:?}", sent.elapsed());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_without_changes_sends_its_cursor_every_thirty_seconds() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    client.event_type("run").await;
    let (_, cursor) = client.pull(None, 100).await;
    let mut events = StreamedResponse::open(&client, SSE, CHANGES, json!({ "after": cursor })).await;
    let started_at = std::time::Instant::now();
    let (name, page) = events.event().await;
    assert!((29..45).contains(&started_at.elapsed().as_secs()), "{:?}", started_at.elapsed());
    let page = &page["data"]["changes"];
    assert_eq!(
        (name.as_str(), &page["changes"], &page["reset"]),
        ("next", &json!([]), &Value::Null),
        "{page}"
    );
    assert_eq!(page["cursor"], json!(cursor), "the cursor has not changed");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_an_import_is_sent_at_most_once_a_second() {
    let server = TestServer::open(DatabaseKind::Sqlite).await;
    let client = server.client("ann");
    let (id, payload) = (new_id(), samples(0..100_000));
    client.create_import(&id, payload.len(), None).await;
    let progress = "subscription($id: ID!) { importProgress(id: $id) { state counts { records } } }";
    let started_at = std::time::Instant::now();
    let mut events = StreamedResponse::open(&client, SSE, progress, json!({ "id": id })).await;
    assert_eq!(client.put(&id, None, payload).await.status(), 200);
    let mut sent = 0;
    loop {
        let (name, page) = events.event().await;
        if name == "complete" {
            break;
        }
        sent += 1;
        // The first event is sent at once, and one more after each second.
        assert!(sent <= 1 + started_at.elapsed().as_secs(), "{sent} in {:?}: {page}", started_at.elapsed());
    }
    assert!(sent >= 3, "only {sent} events were sent in {:?}", started_at.elapsed());
    server.end().await;
}
