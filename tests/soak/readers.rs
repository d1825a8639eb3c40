//! Devices that read: one pulls, and one subscribes. Each keeps a replica, which at the end must equal the
//! table.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::api::Api;

const PAGE: &str = "cursor hasMore reset changes { entity entityId version deleted event { notes } }";

/// The events that a device has received.
#[derive(Debug, Default)]
pub struct Replica {
    pub user: usize,
    pub transport: &'static str,
    /// The version and the notes of each event by its id. The notes of a deleted event are `None`.
    pub events: BTreeMap<String, (i64, Option<String>)>,
    cursor: Option<String>,
}

impl Replica {
    fn new(api: &Api, transport: &'static str) -> Self {
        Self { user: api.user, transport, ..Self::default() }
    }

    /// Applies a page of changes. Returns whether more follow.
    fn apply(&mut self, page: &Value, api: &Api) -> bool {
        if !page["reset"].is_null() {
            api.log.wrong(format!("a reader was reset: {page}"));
        }
        for change in page["changes"].as_array().into_iter().flatten().filter(|it| it["entity"] == "EVENT") {
            let id = change["entityId"].as_str().unwrap().to_owned();
            let version = change["version"].as_i64().unwrap();
            let notes = change["event"]["notes"].as_str().map(str::to_owned);
            if notes.as_ref().is_some_and(|notes| !notes.starts_with(&api.canary())) {
                api.log.wrong(format!("user {} received {notes:?}", api.user));
            }
            if self.events.get(&id).is_some_and(|(before, _)| *before > version) {
                api.log.wrong(format!("{id} went back to version {version}"));
            }
            self.events.insert(id, (version, notes.filter(|_| change["deleted"] != true)));
        }
        self.cursor = page["cursor"].as_str().map(str::to_owned);
        page["hasMore"] == true
    }
}

/// Pulls until nothing changes any more. Returns the replica.
pub async fn pull(mut api: Api) -> Replica {
    let mut replica = Replica::new(&api, "pull");
    loop {
        let is_last = api.log.is_reading_over();
        let first = 1 + api.rng.below(700);
        let query = format!("query($c: Cursor, $n: Int!) {{ changes(after: $c, first: $n) {{ {PAGE} }} }}");
        let Some(data) = api.ask_until_answered(&query, &json!({ "c": replica.cursor, "n": first })).await
        else {
            return replica;
        };
        let has_more = replica.apply(&data["changes"], &api);
        if !has_more && is_last {
            return replica;
        }
        if !has_more {
            tokio::time::sleep(Duration::from_millis(100 + api.rng.below(400) as u64)).await;
        }
    }
}

/// Subscribes over a WebSocket, and reconnects from the last cursor whenever it ends. Returns the replica.
pub async fn subscribe(mut api: Api) -> Replica {
    let mut replica = Replica::new(&api, "socket");
    // It pulls first, because a subscription without a cursor has only the changes from now on.
    pull_to_head(&mut api, &mut replica).await;
    while !api.log.is_reading_over() {
        let _ended = subscribe_once(&mut api, &mut replica).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    pull_to_head(&mut api, &mut replica).await;
    replica
}

/// Pulls until the feed has no more changes.
async fn pull_to_head(api: &mut Api, replica: &mut Replica) {
    let query = format!("query($c: Cursor) {{ changes(after: $c) {{ {PAGE} }} }}");
    while let Some(data) = api.ask_until_answered(&query, &json!({ "c": replica.cursor })).await {
        if !replica.apply(&data["changes"], api) {
            return;
        }
    }
}

/// The longest time that the opening of a socket may take.
const CONNECT_MAX: Duration = Duration::from_secs(40);

/// Subscribes on one socket for 5 to 35 s. Returns `None` if the socket ends before that.
async fn subscribe_once(api: &mut Api, replica: &mut Replica) -> Option<()> {
    let server = api.server();
    let mut request = format!("{}/graphql", server.url.replace("http", "ws")).into_client_request().ok()?;
    let protocol = HeaderValue::from_static("graphql-transport-ws");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let opened = tokio::time::timeout(CONNECT_MAX, connect_async(request)).await.ok()?;
    let (mut socket, _) = opened.ok()?;
    let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {}", server.token) } });
    socket.send(Message::text(init.to_string())).await.ok()?;
    let subscription = format!("subscription($c: Cursor) {{ changes(after: $c) {{ {PAGE} }} }}");
    let payload = json!({ "query": subscription, "variables": { "c": replica.cursor } });
    let subscribe = json!({ "type": "subscribe", "id": "1", "payload": payload });
    let started_at = Instant::now();
    let lifetime = Duration::from_secs(5 + api.rng.below(30) as u64);
    while !api.log.is_reading_over() && started_at.elapsed() < lifetime {
        let Ok(next) = tokio::time::timeout(Duration::from_secs(1), socket.next()).await else { continue };
        let Message::Text(text) = next?.ok()? else { continue };
        let message: Value = serde_json::from_str(&text).ok()?;
        match message["type"].as_str()? {
            "connection_ack" => socket.send(Message::text(subscribe.to_string())).await.ok()?,
            "next" if message["payload"]["errors"].is_null() => {
                replica.apply(&message["payload"]["data"]["changes"], api);
            }
            "ping" => socket.send(Message::text(json!({ "type": "pong" }).to_string())).await.ok()?,
            _ => return None,
        }
    }
    Some(())
}
