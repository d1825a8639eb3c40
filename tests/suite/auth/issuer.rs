//! Serves an issuer's key set over HTTP, and counts how often it is fetched.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio_util::task::AbortOnDropHandle;

/// An HTTP server that gives every request the same response, until [`Issuer::respond_with`] changes it.
pub struct Issuer {
    pub url: String,
    fetches: Arc<AtomicUsize>,
    not_modified: Arc<AtomicUsize>,
    response: Arc<Mutex<String>>,
    /// Responses wait while a writer holds it.
    hold: Arc<RwLock<()>>,
    _server: AbortOnDropHandle<()>,
}

impl Issuer {
    pub async fn start(set: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let (fetches, not_modified) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (response, hold) = (Arc::new(Mutex::new(String::new())), Arc::new(RwLock::new(())));
        let issuer_fetches = Arc::clone(&fetches);
        let issuer_not_modified = Arc::clone(&not_modified);
        let (issuer_response, issuer_hold) = (Arc::clone(&response), Arc::clone(&hold));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                fetches.fetch_add(1, Ordering::SeqCst);
                drop(hold.read().await);
                let text = response.lock().unwrap().clone();
                if respond(stream, &text).await {
                    not_modified.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let issuer = Self {
            url,
            fetches: issuer_fetches,
            not_modified: issuer_not_modified,
            response: issuer_response,
            hold: issuer_hold,
            _server: AbortOnDropHandle::new(server),
        };
        issuer.respond_with(200, &set.to_string());
        issuer
    }

    /// How often the key set was requested.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// How often the response was 304 Not Modified.
    pub fn not_modified(&self) -> usize {
        self.not_modified.load(Ordering::SeqCst)
    }

    /// Delays all responses until the guard is dropped.
    pub async fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.hold.write().await
    }

    /// Sets the response from now on.
    pub fn respond_with(&self, status: u16, body: &str) {
        let etag = etag_of(body);
        let head = format!(
            "HTTP/1.1 {status} status\r\ncontent-length: {}\r\netag: {etag}\r\nconnection: close",
            body.len()
        );
        *self.response.lock().unwrap() = format!("{head}\r\n\r\n{body}");
    }
}

/// Returns an entity tag that depends on the body.
fn etag_of(body: &str) -> String {
    let sum = body.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("\"{sum:x}\"")
}

/// Reads a request and responds to it. Returns whether the response was 304 Not Modified, because the client
/// had this entity tag.
async fn respond(stream: TcpStream, text: &str) -> bool {
    let etag = text.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default().to_owned();
    let mut stream = BufReader::new(stream);
    let (mut line, mut is_known) = (String::new(), false);
    while stream.read_line(&mut line).await.unwrap() > "\r\n".len() {
        is_known |= line.to_lowercase().starts_with("if-none-match:") && line.contains(&etag);
        line.clear();
    }
    let not_modified = "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n";
    // The client may close the connection before it has read all of a long body.
    let _written = stream.write_all(if is_known { not_modified.as_bytes() } else { text.as_bytes() }).await;
    is_known
}
