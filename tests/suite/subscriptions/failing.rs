//! Tests subscriptions whose queries fail. A client never skips a page that it did not receive.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Client, Socket, StreamedResponse, TestServer, event, new_id, on_both};

on_both!(
    a_page_whose_event_type_cannot_be_read_is_sent_later,
    a_subscription_ends_with_the_first_response_that_has_errors,
);

async fn a_page_whose_event_type_cannot_be_read_is_sent_later(server: &TestServer) {
    let client = server.client("ann");
    let kind = client.event_type("run").await;
    let (_, cursor) = client.pull(None, 100).await;
    let made = event(&kind);
    client.create(std::slice::from_ref(&made)).await;
    // A reader sees this if the event and its type are deleted between two of its statements.
    server.execute("UPDATE event_type SET name = NULL").await;
    let query = "subscription($after: Cursor) { changes(after: $after) { \
        changes { entityId event { eventType { name } } } } }";
    let mut socket = Socket::open(&client).await;
    socket.ask("1", query, json!({ "after": cursor })).await;
    socket.ping().await;
    let early = timeout(Duration::from_secs(1), socket.next()).await;
    assert!(early.is_err(), "{early:?}");
    let pull =
        "query($after: Cursor) { changes(after: $after) { changes { event { eventType { name } } } } }";
    let refused = client.send(pull, json!({ "after": cursor })).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{refused}");
    server.execute("UPDATE event_type SET name = 'run'").await;
    let page = socket.next().await;
    let expected = json!([{ "entityId": made["id"], "event": { "eventType": { "name": "run" } } }]);
    assert_eq!(page["payload"]["data"]["changes"]["changes"], expected, "{page}");
}

const PROGRESS: &str =
    "subscription($id: ID!) { importProgress(id: $id) { name rejections { totalCount } } }";

/// Creates an import without a payload. Returns its id.
async fn create_import(client: &Client) -> Value {
    let id = new_id();
    client.create_import(&id, 1_000, None).await;
    json!(id)
}

async fn a_subscription_ends_with_the_first_response_that_has_errors(server: &TestServer) {
    let client = server.client("ann");
    let id = create_import(&client).await;
    let mut socket = Socket::open(&client).await;
    socket.ask("1", PROGRESS, json!({ "id": id })).await;
    assert_eq!(socket.next().await["type"], "next");
    let mut events = StreamedResponse::open(&client, super::SSE, PROGRESS, json!({ "id": id })).await;
    assert!(events.event().await.1["errors"].is_null());
    let mut parts = StreamedResponse::open(&client, super::MULTIPART, PROGRESS, json!({ "id": id })).await;
    assert_eq!(parts.until("--graphql").await, "");
    assert!(parts.part().await["payload"]["errors"].is_null());

    server.execute("ALTER TABLE import_rejection RENAME TO gone").await;
    server.execute("UPDATE import_job SET name = 'a'").await;
    let failed = socket.next().await;
    assert_eq!((&failed["type"], &failed["id"]), (&json!("error"), &json!("1")), "{failed}");
    assert_eq!(failed["payload"][0]["extensions"]["code"], "UNAVAILABLE", "{failed}");
    let (name, response) = events.event().await;
    assert_eq!((name.as_str(), &response["data"]), ("next", &Value::Null), "{response}");
    assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
    assert_eq!(events.rest().await, "event: complete\ndata:\n\n");
    let mut part = parts.part().await;
    while part == json!({}) {
        part = parts.part().await;
    }
    assert_eq!(part["payload"]["data"], Value::Null, "{part}");
    assert_eq!(parts.rest().await, "--\r\n");

    // The operation has ended, and the socket is still open: its id can be used again.
    server.execute("ALTER TABLE gone RENAME TO import_rejection").await;
    server.execute("UPDATE import_job SET name = 'b'").await;
    socket.ask("1", PROGRESS, json!({ "id": id })).await;
    let again = socket.next().await;
    assert_eq!(again["payload"]["data"]["importProgress"]["name"], "b", "{again}");
}
