//! A way to a server that hears what is asked on it, and on which no connection lives long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes bytes on, and cuts each connection after a while.
pub struct Proxy {
    pub url: String,
    heard: Arc<Mutex<Vec<u8>>>,
    cuts: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn open(server: &str, life: Duration) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heard, cuts) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (hears, counts) = (Arc::clone(&heard), Arc::clone(&cuts));
        let accepting = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let to = TcpStream::connect(&server).await.unwrap();
                let (hears, counts) = (Arc::clone(&hears), Arc::clone(&counts));
                tokio::spawn(async move {
                    if tokio::time::timeout(life, pass(from, to, &hears)).await.is_err() {
                        counts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { url, heard, cuts, accepting }
    }

    /// How often these words were said to the server.
    pub fn heard(&self, words: &str) -> usize {
        self.heard.lock().unwrap().windows(words.len()).filter(|part| *part == words.as_bytes()).count()
    }

    /// Connections that were cut while they lived.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Passes bytes on, both ways, until one side ends.
async fn pass(mut from: TcpStream, mut to: TcpStream, hears: &Mutex<Vec<u8>>) {
    let ((mut asks, mut is_answered), (mut answers, mut is_asked)) = (from.split(), to.split());
    let asking = async {
        let mut piece = vec![0; 1 << 16];
        while let Ok(count @ 1..) = asks.read(&mut piece).await {
            hears.lock().unwrap().extend_from_slice(&piece[..count]);
            if is_asked.write_all(&piece[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = asking => {}
        _ = copy(&mut answers, &mut is_answered) => {}
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
