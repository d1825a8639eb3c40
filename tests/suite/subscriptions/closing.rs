//! Tests the close codes of WebSockets, which tell the client whether and how to reconnect, and the end of
//! streams.

use std::time::Duration;

use serde_json::json;
use service::Clock;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::harness::{CHANGES, DatabaseKind, SECRET, Socket, StreamedResponse, TestServer, keys};

const GOOD: &str = "graphql-transport-ws";

async fn server() -> TestServer {
    TestServer::open(DatabaseKind::Sqlite).await
}

/// Returns a token that is accepted for so many more seconds, including the leeway of 30 s.
fn token(left_s: i64) -> String {
    let (ttl, now_ms) = (Duration::from_secs(60), Clock::System.now_ms());
    idem::sign_token(SECRET, "ann", None, None, ttl, now_ms + (left_s - 30 - 60) * 1_000).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_another_protocol_is_closed_4406() {
    let server = server().await;
    let mut none = Socket::connect(&server.url, &[]).await.unwrap();
    assert_eq!(none.close_code().await, 4406);
    for other in ["graphql-ws", "mqtt, graphql-ws"] {
        let mut socket = Socket::connect(&server.url, &[("sec-websocket-protocol", other)]).await.unwrap();
        assert_eq!(socket.close_code().await, 4406, "{other}");
    }
    let several = format!("graphql-ws, {GOOD}");
    let mut socket = Socket::connect(&server.url, &[("sec-websocket-protocol", &several)]).await.unwrap();
    socket.init(json!({ "authorization": token(60) })).await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    drop(socket);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_accepted_in_each_supported_place_and_all_others_are_closed_4403() {
    let server = server().await;
    let good = server.client("ann").token;
    let bearer = format!("Bearer {good}");
    let forged = idem::sign_token(&"x".repeat(32), "ann", None, None, Duration::from_secs(60), 0).unwrap();
    // The header, the payload of `connection_init`, and whether the token is accepted.
    let cases = [
        (None, json!({ "authorization": bearer }), true),
        (None, json!({ "authorization": good }), true),
        (None, json!({ "Authorization": bearer }), true),
        (None, json!({ "headers": { "authorization": bearer } }), true),
        (Some(&bearer), json!(null), true),
        (Some(&bearer), json!({}), true),
        (None, json!(null), false),
        (None, json!({ "authorization": "" }), false),
        (None, json!({ "authorization": 7 }), false),
        (None, json!({ "authorization": null }), false),
        (None, json!({ "authorization": { "token": good } }), false),
        (None, json!({ "authorization": forged }), false),
        (None, json!({ "authorization": token(-5) }), false),
        (None, json!({ "token": good }), false),
        (Some(&bearer), json!({ "authorization": 7 }), false),
        (Some(&forged), json!(null), false),
    ];
    for (header, payload, is_accepted) in cases {
        let mut headers = vec![("sec-websocket-protocol", GOOD)];
        headers.extend(header.map(|header| ("authorization", header.as_str())));
        let mut socket = Socket::connect(&server.url, &headers).await.unwrap();
        socket.init(payload.clone()).await;
        if is_accepted {
            assert_eq!(socket.next().await["type"], "connection_ack", "{payload}");
        } else {
            assert_eq!(socket.close_code().await, 4403, "{payload}");
        }
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_the_wrong_order_are_closed_with_the_code_of_the_protocol() {
    let server = server().await;
    let client = server.client("ann");
    let mut early = Socket::raw(&server.url).await;
    early.ask("1", "{ viewer { userId } }", json!({})).await;
    assert_eq!(early.close_code().await, 4401);

    let started_at = std::time::Instant::now();
    let mut silent = Socket::raw(&server.url).await;
    silent.ping().await;
    assert_eq!(silent.close_code().await, 4408);
    assert!(started_at.elapsed() >= Duration::from_millis(2_900), "{:?}", started_at.elapsed());

    let mut twice = Socket::open(&client).await;
    twice.init(json!({ "authorization": client.token })).await;
    assert_eq!(twice.close_code().await, 4429);

    let mut same = Socket::open(&client).await;
    same.ask("1", CHANGES, json!({})).await;
    same.ask("1", "{ viewer { userId } }", json!({})).await;
    assert_eq!(same.close_code().await, 4409);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_message_is_closed_4400_and_one_that_is_too_long_1009() {
    let server = server().await;
    let client = server.client("ann");
    let binary = Message::binary(b"{\"type\":\"ping\"}".to_vec());
    let bad = [
        Message::text("hello"),
        Message::text("{\"type\":\"start\",\"id\":\"1\"}"),
        Message::text("{\"type\":\"subscribe\",\"payload\":{\"query\":\"{ viewer { userId } }\"}}"),
        Message::text("{\"type\":\"subscribe\",\"id\":\"1\"}"),
        Message::text("{\"type\":\"complete\"}"),
        binary,
    ];
    for message in bad {
        let mut socket = Socket::open(&client).await;
        futures::SinkExt::send(&mut socket.0, message.clone()).await.unwrap();
        assert_eq!(socket.close_code().await, 4400, "{message}");
    }
    let mut longest = Socket::open(&client).await;
    let frame = json!({ "type": "ping", "payload": { "a": "" } }).to_string().len();
    longest.send(json!({ "type": "ping", "payload": { "a": "x".repeat(256 * 1024 - frame) } })).await;
    assert_eq!(longest.next().await["type"], "pong");
    for length in [256 * 1024 - frame + 1, 1024 * 1024] {
        let mut socket = Socket::open(&client).await;
        socket.send(json!({ "type": "ping", "payload": { "a": "x".repeat(length) } })).await;
        assert_eq!(socket.close_code().await, 1009, "{length}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_streams_end_with_their_token() {
    let server = server().await;
    let mut client = server.client("ann");
    client.token = token(4);
    let mut socket = Socket::open(&client).await;
    socket.ask("1", CHANGES, json!({})).await;
    let events = StreamedResponse::open(&client, "text/event-stream", CHANGES, json!({})).await;
    let parts =
        StreamedResponse::open(&client, "multipart/mixed;subscriptionSpec=1.0", CHANGES, json!({})).await;
    assert_eq!(socket.close_code().await, 4403);
    assert!(events.rest().await.ends_with("event: complete\ndata:\n\n"));
    let rest = parts.rest().await;
    let (_, last) = rest.strip_suffix("\r\n--graphql--\r\n").unwrap().rsplit_once("\r\n\r\n").unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(last["payload"].is_null(), "{last}");
    assert_eq!(last["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{last}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_sockets_are_closed_1001_and_streams_are_completed() {
    let server = server().await;
    let client = server.client("ann");
    let mut socket = Socket::open(&client).await;
    socket.ask("1", CHANGES, json!({})).await;
    socket.ping().await;
    let mut idle = Socket::raw(&server.url).await;
    let events = StreamedResponse::open(&client, "text/event-stream", CHANGES, json!({})).await;
    let parts =
        StreamedResponse::open(&client, "multipart/mixed;subscriptionSpec=1.0", CHANGES, json!({})).await;
    let ends = tokio::spawn(async move {
        assert_eq!(socket.close_code().await, 1001);
        assert_eq!(idle.close_code().await, 1001);
        // The client reads the close frames before it drops the sockets.
        drop((socket, idle));
        (events.rest().await, parts.rest().await)
    });
    let started_at = std::time::Instant::now();
    server.end().await;
    assert!(started_at.elapsed() < Duration::from_secs(8), "{:?}", started_at.elapsed());
    let (events, parts) = ends.await.unwrap();
    assert!(events.ends_with("event: complete\ndata:\n\n"), "{events}");
    assert!(parts.contains("UNAVAILABLE") && parts.ends_with("\r\n--graphql--\r\n"), "{parts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_gets_no_socket() {
    let origins = ["https://app.example", "http://localhost:*"];
    let server =
        TestServer::open_as(DatabaseKind::Sqlite, keys().await, Clock::System, &origins, |notifier| notifier)
            .await;
    let connect = async |origin: &str| {
        Socket::connect(&server.url, &[("sec-websocket-protocol", GOOD), ("origin", origin)]).await
    };
    for origin in ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"] {
        match connect(origin).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403, "{origin}"),
            other => panic!("{origin}: {:?}", other.err()),
        }
    }
    for origin in ["https://app.example", "http://localhost:5173"] {
        let mut socket = connect(origin).await.unwrap();
        socket.ping().await;
    }
    server.end().await;
}
