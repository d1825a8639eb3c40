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
        let (count, told, open) = (Arc::clone(&fetches), Arc::clone(&answer), Arc::clone(&gate));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                drop(open.read().await);
                let text = told.lock().unwrap().clone();
                reply(stream, &text).await;
            }
        });
        let issuer = Self { url, fetches, answer, gate, _server: AbortOnDropHandle::new(server) };
        issuer.answer(200, &set.to_string());
        issuer
    }

    /// How often it was asked.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// Lets whoever asks wait for the end of the guard.
    pub async fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// What it answers from now on.
    pub fn answer(&self, status: u16, body: &str) {
        let head = format!("HTTP/1.1 {status} told\r\ncontent-length: {}\r\nconnection: close", body.len());
        *self.answer.lock().unwrap() = format!("{head}\r\n\r\n{body}");
    }
}

async fn reply(stream: TcpStream, text: &str) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.unwrap() > "\r\n".len() {
        line.clear();
    }
    // Who hangs up has seen enough.
    let _written = stream.write_all(text.as_bytes()).await;
}
