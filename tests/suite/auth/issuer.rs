//! An issuer's key set behind a URL, and how often it is asked for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio_util::task::AbortOnDropHandle;

/// Answers every request with the same, until told otherwise.
pub struct Issuer {
    pub url: String,
    fetches: Arc<AtomicUsize>,
    unchanged: Arc<AtomicUsize>,
    answer: Arc<Mutex<String>>,
    gate: Arc<RwLock<()>>,
    _server: AbortOnDropHandle<()>,
}

impl Issuer {
    pub async fn start(set: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let (fetches, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let gate = Arc::new(RwLock::new(()));
        let is_unchanged = Arc::new(AtomicUsize::new(0));
        let unchanged = Arc::clone(&is_unchanged);
        let (count, told, open) = (Arc::clone(&fetches), Arc::clone(&answer), Arc::clone(&gate));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                drop(open.read().await);
                let text = told.lock().unwrap().clone();
                if reply(stream, &text).await {
                    unchanged.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let issuer = Self {
            url,
            fetches,
            unchanged: is_unchanged,
            answer,
            gate,
            _server: AbortOnDropHandle::new(server),
        };
        issuer.answer(200, &set.to_string());
        issuer
    }

    /// How often it was asked.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// How often it could say that nothing has changed.
    pub fn unchanged(&self) -> usize {
        self.unchanged.load(Ordering::SeqCst)
    }

    /// Lets whoever asks wait for the end of the guard.
    pub async fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// What it answers from now on.
    pub fn answer(&self, status: u16, body: &str) {
        let etag = hex_of(body);
        let head = format!(
            "HTTP/1.1 {status} told\r\ncontent-length: {}\r\netag: {etag}\r\nconnection: close",
            body.len()
        );
        *self.answer.lock().unwrap() = format!("{head}\r\n\r\n{body}");
    }
}

/// A name for what is answered, as a server of files has one.
fn hex_of(body: &str) -> String {
    let sum = body.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("\"{sum:x}\"")
}

/// Whether whoever asks has this answer already, and is told so.
async fn reply(stream: TcpStream, text: &str) -> bool {
    let etag = text.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default().to_owned();
    let mut stream = BufReader::new(stream);
    let (mut line, mut is_known) = (String::new(), false);
    while stream.read_line(&mut line).await.unwrap() > "\r\n".len() {
        is_known |= line.to_lowercase().starts_with("if-none-match:") && line.contains(&etag);
        line.clear();
    }
    let unchanged = "HTTP/1.1 304 told\r\nconnection: close\r\n\r\n";
    // Who hangs up has seen enough.
    let _written = stream.write_all(if is_known { unchanged.as_bytes() } else { text.as_bytes() }).await;
    is_known
}
