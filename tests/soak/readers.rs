//! Devices that read: one pulls, one is told. Each keeps what it was told; in the end that is the table.

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

/// What a device was told.
#[derive(Debug, Default)]
pub struct Fold {
    pub user: usize,
    pub how: &'static str,
    /// Events by their ids: version, and notes unless deleted.
    pub events: BTreeMap<String, (i64, Option<String>)>,
    cursor: Option<String>,
}

impl Fold {
    fn new(api: &Api, how: &'static str) -> Self {
        Self { user: api.user, how, ..Self::default() }
    }

    /// Takes a page; whether more follow.
    fn take(&mut self, page: &Value, api: &Api) -> bool {
        if !page["reset"].is_null() {
            api.log.wrong(format!("a reader was reset: {page}"));
        }
        for change in page["changes"].as_array().into_iter().flatten().filter(|it| it["entity"] == "EVENT") {
            let id = change["entityId"].as_str().unwrap().to_owned();
            let version = change["version"].as_i64().unwrap();
            let notes = change["event"]["notes"].as_str().map(str::to_owned);
            if notes.as_ref().is_some_and(|notes| !notes.starts_with(&api.canary())) {
                api.log.wrong(format!("user {} was told {notes:?}", api.user));
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

/// Pulls until nothing changes any more.
pub async fn pull(mut api: Api) -> Fold {
    let mut fold = Fold::new(&api, "pull");
    loop {
        let is_last = api.log.is_reading_over();
        let first = 1 + api.dice.below(700);
        let query = format!("query($c: Cursor, $n: Int!) {{ changes(after: $c, first: $n) {{ {PAGE} }} }}");
        let Some(data) = api.insist(&query, &json!({ "c": fold.cursor, "n": first })).await else {
            return fold;
        };
        let has_more = fold.take(&data["changes"], &api);
        if !has_more && is_last {
            return fold;
        }
        if !has_more {
            tokio::time::sleep(Duration::from_millis(100 + api.dice.below(400) as u64)).await;
        }
    }
}

/// Follows by a socket, which is opened again from the cursor whenever it ends.
pub async fn follow(mut api: Api) -> Fold {
    let mut fold = Fold::new(&api, "socket");
    // A subscription without a cursor begins now.
    to_the_end(&mut api, &mut fold).await;
    while !api.log.is_reading_over() {
        let _ended = follow_once(&mut api, &mut fold).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    to_the_end(&mut api, &mut fold).await;
    fold
}

/// Pulls until nothing follows.
async fn to_the_end(api: &mut Api, fold: &mut Fold) {
    let query = format!("query($c: Cursor) {{ changes(after: $c) {{ {PAGE} }} }}");
    while let Some(data) = api.insist(&query, &json!({ "c": fold.cursor })).await {
        if !fold.take(&data["changes"], api) {
            return;
        }
    }
}

/// A socket that says nothing for longer than this has lost its server.
const SILENCE_MAX: Duration = Duration::from_secs(40);

async fn follow_once(api: &mut Api, fold: &mut Fold) -> Option<()> {
    let server = api.server();
    let mut request = format!("{}/graphql", server.url.replace("http", "ws")).into_client_request().ok()?;
    let protocol = HeaderValue::from_static("graphql-transport-ws");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let opened = tokio::time::timeout(SILENCE_MAX, connect_async(request)).await.ok()?;
    let (mut socket, _) = opened.ok()?;
    let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {}", server.token) } });
    socket.send(Message::text(init.to_string())).await.ok()?;
    let subscription = format!("subscription($c: Cursor) {{ changes(after: $c) {{ {PAGE} }} }}");
    let payload = json!({ "query": subscription, "variables": { "c": fold.cursor } });
    let subscribe = json!({ "type": "subscribe", "id": "1", "payload": payload });
    let begun = Instant::now();
    let life = Duration::from_secs(5 + api.dice.below(30) as u64);
    while !api.log.is_reading_over() && begun.elapsed() < life {
        let Ok(next) = tokio::time::timeout(Duration::from_secs(1), socket.next()).await else { continue };
        let Message::Text(text) = next?.ok()? else { continue };
        let message: Value = serde_json::from_str(&text).ok()?;
        match message["type"].as_str()? {
            "connection_ack" => socket.send(Message::text(subscribe.to_string())).await.ok()?,
            "next" if message["payload"]["errors"].is_null() => {
                fold.take(&message["payload"]["data"]["changes"], api);
            }
            "ping" => socket.send(Message::text(json!({ "type": "pong" }).to_string())).await.ok()?,
            _ => return None,
        }
    }
    Some(())
}
