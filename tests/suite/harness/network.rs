//! A TCP proxy between a server and PostgreSQL or Redis. It can drop all bytes, close connections, delay
//! bytes, or lead to another server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It forwards them.
    Pass,
    /// It accepts connections and forwards nothing, as if the host had vanished.
    Silent,
}

/// A proxy to one server.
pub struct Network {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    server: Arc<Mutex<String>>,
    accepting: AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    mode: Mode,
    /// Nothing is forwarded any more on connections of an earlier generation.
    generation: u64,
    /// Connections that were opened at a lower count are closed.
    cuts: u64,
    /// How long each read waits before it is forwarded.
    delay: Duration,
}

impl Network {
    /// Starts a proxy to `host:port`.
    pub async fn to(server: &str) -> Self {
        let server = Arc::new(Mutex::new(server.to_owned()));
        let current = Arc::clone(&server);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, receiver) =
            watch::channel(State { mode: Mode::Pass, generation: 0, cuts: 0, delay: Duration::ZERO });
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = current.lock().unwrap().clone();
                connections.spawn(proxy_connection(client, server, receiver.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, server, accepting: accepting.abort_handle() }
    }

    /// Returns this URL with the host and port of the proxy.
    pub fn through(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (user, host) = rest.split_once('@').map_or(("", rest), |(user, host)| (user, host));
        let path = host.split_once('/').map_or("", |(_, path)| path);
        let at = if user.is_empty() { "" } else { "@" };
        format!("{scheme}://{user}{at}{}/{path}", self.address)
    }

    /// The host vanishes: nothing comes back, and no connection is closed.
    pub fn vanish(&self) {
        self.state.send_modify(|state| {
            state.mode = Mode::Silent;
            state.generation += 1;
        });
    }

    /// Another host has the same name: new connections work, and those opened before stay silent.
    pub fn appear(&self) {
        self.state.send_modify(|state| {
            state.mode = Mode::Pass;
            state.generation += 1;
        });
    }

    /// Makes new connections lead to another server. Those opened before fall silent.
    pub fn redirect_to(&self, server: &str) {
        *self.server.lock().unwrap() = server.to_owned();
        self.appear();
    }

    /// Delays each read from now on.
    pub fn slow_down(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Closes all open connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn proxy_connection(mut client: TcpStream, server: String, mut state: watch::Receiver<State>) {
    let initial = *state.borrow();
    let is_cut = |state: &State| state.cuts != initial.cuts;
    if initial.mode == Mode::Silent {
        let _cut = state.wait_for(is_cut).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(&server).await else { return };
    let _small = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            biased;
            Ok(()) = state.changed() => {
                let now = *state.borrow();
                if is_cut(&now) {
                    return;
                }
                if now.generation != initial.generation {
                    // Both ends stay open, as when a host loses power.
                    let _cut = state.wait_for(is_cut).await;
                    return;
                }
            }
            Ok(count @ 1..) = client.read(&mut from_client) => {
                wait_for_delay(&state).await;
                if server.write_all(&from_client[..count]).await.is_err() {
                    return;
                }
            }
            Ok(count @ 1..) = server.read(&mut from_server) => {
                wait_for_delay(&state).await;
                if client.write_all(&from_server[..count]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}

async fn wait_for_delay(state: &watch::Receiver<State>) {
    let delay = state.borrow().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The longest time that a client may wait for a response, whatever fails.
pub const RESPONSE_MAX: Duration = Duration::from_secs(35);
