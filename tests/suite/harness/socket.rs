//! Clients of subscriptions: a WebSocket that speaks graphql-transport-ws, and a response that is a stream.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::Client;

/// The longest wait for a message that must come.
const WAIT: Duration = Duration::from_secs(30);

/// The subscription that most tests use.
pub const CHANGES: &str = "subscription($after: Cursor) { changes(after: $after) { cursor reset \
    changes { entity entityId version deleted event { id notes } } } }";

/// A WebSocket of one client.
pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Opens a WebSocket with these headers, and sends no message.
    pub async fn connect(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = format!("{}/graphql", url.replace("http", "ws")).into_client_request().unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        connect_async(request).await.map(|(stream, _)| Self(stream))
    }

    /// Opens a WebSocket with the subprotocol, and does not send `connection_init`.
    pub async fn raw(url: &str) -> Self {
        Self::connect(url, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.unwrap()
    }

    /// Opens a WebSocket and waits for its `connection_ack`.
    pub async fn open(client: &Client) -> Self {
        let mut socket = Self::raw(&client.url).await;
        socket.init(json!({ "authorization": format!("Bearer {}", client.token) })).await;
        assert_eq!(socket.next().await, json!({ "type": "connection_ack" }));
        socket
    }

    pub async fn init(&mut self, payload: Value) {
        self.send(json!({ "type": "connection_init", "payload": payload })).await;
    }

    pub async fn send(&mut self, message: Value) {
        self.text(&message.to_string()).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Starts an operation with this id.
    pub async fn ask(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({ "query": query, "variables": variables });
        self.send(json!({ "id": id, "type": "subscribe", "payload": payload })).await;
    }

    /// Subscribes to the changes after a cursor. Returns once the server has read the request.
    pub async fn follow(&mut self, id: &str, after: &str) {
        self.ask(id, CHANGES, json!({ "after": after })).await;
        self.ping().await;
    }

    /// Sends a ping and waits for its pong, so that the server has read all messages before it. No other
    /// message may come first.
    pub async fn ping(&mut self) {
        self.send(json!({ "type": "ping", "payload": { "number": 1 } })).await;
        assert_eq!(self.next().await, json!({ "type": "pong", "payload": { "number": 1 } }));
    }

    /// Waits for the next message of the subprotocol.
    pub async fn next(&mut self) -> Value {
        // The timeout covers the whole loop, so WebSocket pings do not prolong the wait.
        let message = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("expected a message, got {other:?}"),
                }
            }
        };
        timeout(WAIT, message).await.expect("a message comes")
    }

    /// Receives at least `count` changes. Returns them and the last cursor.
    pub async fn changes(&mut self, count: usize) -> (Vec<Value>, String) {
        let (mut changes, mut cursor) = (Vec::new(), String::new());
        while changes.len() < count {
            let message = self.next().await;
            let page = &message["payload"]["data"]["changes"];
            changes.extend(page["changes"].as_array().unwrap_or_else(|| panic!("{message}")).iter().cloned());
            cursor = page["cursor"].as_str().unwrap().to_owned();
        }
        (changes, cursor)
    }

    /// Waits until the server closes the WebSocket. Returns the close code and ignores messages before it.
    pub async fn close_code(&mut self) -> u16 {
        let code = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                    Some(Ok(Message::Close(None)) | Err(_)) | None => panic!("it was closed without a code"),
                    Some(Ok(_)) => {}
                }
            }
        };
        timeout(WAIT, code).await.expect("the socket is closed")
    }
}

/// A response whose body is a stream of events or parts.
pub struct StreamedResponse {
    response: reqwest::Response,
    read: String,
}

impl StreamedResponse {
    /// Sends a request whose response is a stream.
    pub async fn open(client: &Client, accept: &str, query: &str, variables: Value) -> Self {
        let request = client.http.post(format!("{}/graphql", client.url)).bearer_auth(&client.token);
        let body = json!({ "query": query, "variables": variables });
        let response = request.header("accept", accept).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, read: String::new() }
    }

    pub fn content_type(&self) -> &str {
        self.response.headers()["content-type"].to_str().unwrap()
    }

    /// Reads up to the next `end`. Returns the text before it.
    ///
    /// The server must send `end` at once: this does not wait for the bytes that follow it.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some((before, rest)) = self.read.split_once(end) {
                let before = before.to_owned();
                self.read = rest.to_owned();
                return before;
            }
            let chunk = timeout(WAIT, self.response.chunk()).await.expect("more comes").unwrap();
            let chunk = chunk.unwrap_or_else(|| panic!("the stream ended after {:?}", self.read));
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Reads the rest of the stream until it ends.
    pub async fn rest(mut self) -> String {
        while let Some(chunk) = timeout(WAIT, self.response.chunk()).await.expect("it ends").unwrap() {
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        self.read
    }

    /// Reads the next event of graphql-sse and skips comments. Returns its name and its data.
    pub async fn event(&mut self) -> (String, Value) {
        loop {
            let event = self.until("\n\n").await;
            if !event.starts_with(':') {
                let (name, data) = event.split_once('\n').unwrap();
                let data = data.strip_prefix("data:").unwrap().trim();
                let data = if data.is_empty() { Value::Null } else { serde_json::from_str(data).unwrap() };
                return (name.strip_prefix("event: ").unwrap().to_owned(), data);
            }
        }
    }

    /// Reads the next part of a multipart response.
    pub async fn part(&mut self) -> Value {
        let part = self.until("\r\n--graphql").await;
        let json = part.strip_prefix("\r\ncontent-type: application/json\r\n\r\n");
        serde_json::from_str(json.unwrap_or_else(|| panic!("{part:?}"))).unwrap()
    }
}
