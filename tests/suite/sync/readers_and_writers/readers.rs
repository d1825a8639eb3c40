//! Readers that tail a feed by one transport each, and begin again from their cursor when they are cut.

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Known, fold};
use crate::harness::{CHANGES, Client, Feed, Socket};

/// Pages that a connection lives for.
const PAGES: usize = 7;

/// How a reader reads.
#[derive(Debug, Clone, Copy)]
pub enum Reader {
    Query,
    Socket,
    Events,
    Parts,
}

/// One connection.
enum Connection {
    Query,
    Socket(Box<Socket>),
    Events(Feed),
    Parts(Feed),
}

impl Reader {
    /// Reads until the head that is told at the end; what is known then, and how often it was cut.
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
                fold(&mut known, page["changes"].as_array().unwrap_or_else(|| panic!("{page}")));
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
            Self::Events => Connection::Events(Feed::open(client, "text/event-stream", CHANGES, after).await),
            Self::Parts => {
                let accept = "multipart/mixed;subscriptionSpec=1.0";
                let mut feed = Feed::open(client, accept, CHANGES, after).await;
                feed.until("--graphql").await;
                Connection::Parts(feed)
            }
        }
    }
}

impl Connection {
    /// The next page. Dropped in the middle, nothing of it is lost: the next call reads on.
    async fn page(&mut self, client: &Client, cursor: &str) -> Value {
        match self {
            Self::Query => client.page(Some(cursor), 3).await,
            Self::Socket(socket) => socket.next().await["payload"]["data"]["changes"].take(),
            Self::Events(feed) => feed.event().await.1["data"]["changes"].take(),
            Self::Parts(feed) => loop {
                // Heartbeats are empty parts.
                let mut part = feed.part().await;
                if part["payload"].is_object() {
                    break part["payload"]["data"]["changes"].take();
                }
            },
        }
    }
}
