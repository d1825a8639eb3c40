//! A TCP proxy that records what clients send, and closes each connection after a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A proxy to one server.
pub struct Proxy {
    pub url: String,
    /// All bytes that clients sent.
    sent: Arc<Mutex<Vec<u8>>>,
    cuts: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy whose connections are closed after `lifetime`.
    pub async fn open(server: &str, lifetime: Duration) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sent, cuts) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (all_sent, all_cuts) = (Arc::clone(&sent), Arc::clone(&cuts));
        let accepting = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let to = TcpStream::connect(&server).await.unwrap();
                let (sent, cuts) = (Arc::clone(&all_sent), Arc::clone(&all_cuts));
                tokio::spawn(async move {
                    if tokio::time::timeout(lifetime, forward(from, to, &sent)).await.is_err() {
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { url, sent, cuts, accepting }
    }

    /// Counts how often clients sent this text.
    pub fn count_sent(&self, text: &str) -> usize {
        self.sent.lock().unwrap().windows(text.len()).filter(|part| *part == text.as_bytes()).count()
    }

    /// The number of connections that the proxy closed while they were in use.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Forwards bytes both ways until one side ends.
async fn forward(mut client: TcpStream, mut server: TcpStream, sent: &Mutex<Vec<u8>>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.split(), server.split());
    let upstream = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            sent.lock().unwrap().extend_from_slice(&buffer[..count]);
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = upstream => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
