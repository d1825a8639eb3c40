//! Readers that follow a feed by one transport each. They reconnect from their cursor after a few pages.

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Known, apply};
use crate::harness::{CHANGES, Client, Socket, StreamedResponse};

/// The number of pages that a reader receives on one connection.
const PAGES: usize = 7;

/// The transport of a reader.
#[derive(Debug, Clone, Copy)]
pub enum Reader {
    Query,
    Socket,
    Events,
    Parts,
}

/// An open connection of a reader.
enum Connection {
    Query,
    Socket(Box<Socket>),
    Events(StreamedResponse),
    Parts(StreamedResponse),
}

impl Reader {
    /// Reads up to the head that `end` gives when all is written. Returns what the reader has then, and how
    /// often it reconnected.
    pub async fn follow(
        self,
        client: &Client,
        mut cursor: String,
        mut end: watch::Receiver<Option<String>>,
    ) -> (Known, usize) {
        let (mut known, mut cuts) = (Known::new(), 0);
        loop {
            let mut connection = self.connect(client, &cursor).await;
            for _ in 0..PAGES {
                if end.borrow_and_update().as_deref() == Some(cursor.as_str()) {
                    return (known, cuts);
                }
                let page = tokio::select! {
                    page = connection.page(client, &cursor) => page,
                    _ = end.changed() => continue,
                };
                assert!(page["reset"].is_null(), "{page}");
                apply(&mut known, page["changes"].as_array().unwrap_or_else(|| panic!("{page}")));
                page["cursor"].as_str().unwrap().clone_into(&mut cursor);
            }
            cuts += 1;
        }
    }

    async fn connect(self, client: &Client, cursor: &str) -> Connection {
        let after = json!({ "after": cursor });
        match self {
            Self::Query => Connection::Query,
            Self::Socket => {
                let mut socket = Socket::open(client).await;
                socket.ask("1", CHANGES, after).await;
                Connection::Socket(Box::new(socket))
            }
            Self::Events => {
                Connection::Events(StreamedResponse::open(client, "text/event-stream", CHANGES, after).await)
            }
            Self::Parts => {
                let accept = "multipart/mixed;subscriptionSpec=1.0";
                let mut feed = StreamedResponse::open(client, accept, CHANGES, after).await;
                feed.until("--graphql").await;
                Connection::Parts(feed)
            }
        }
    }
}

impl Connection {
    /// Waits for the next page. It is cancel safe: if it is dropped, the next call continues to read.
    async fn page(&mut self, client: &Client, cursor: &str) -> Value {
        match self {
            Self::Query => client.page(Some(cursor), 3).await,
            Self::Socket(socket) => socket.next().await["payload"]["data"]["changes"].take(),
            Self::Events(feed) => feed.event().await.1["data"]["changes"].take(),
            Self::Parts(feed) => loop {
                // A heartbeat is an empty part.
                let mut part = feed.part().await;
                if part["payload"].is_object() {
                    break part["payload"]["data"]["changes"].take();
                }
            },
        }
    }
}
