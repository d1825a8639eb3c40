//! A network between a server and what it depends on: connections go through a proxy that can fall silent, cut them,
//! or refuse them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What the network does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It passes them on.
    Pass,
    /// It takes them and says nothing: the host has vanished. Connections of before stay silent for ever.
    Silent,
}

/// A way to one server.
pub struct Network {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    server: Arc<Mutex<String>>,
    accepting: AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    mode: Mode,
    /// Connections of an earlier generation are silent.
    generation: u64,
    /// Connections of an earlier one are cut.
    cuts: u64,
    /// What each piece waits before it passes.
    delay: Duration,
}

impl Network {
    /// A network in front of `host:port`.
    pub async fn to(server: &str) -> Self {
        let server = Arc::new(Mutex::new(server.to_owned()));
        let current = Arc::clone(&server);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, seen) =
            watch::channel(State { mode: Mode::Pass, generation: 0, cuts: 0, delay: Duration::ZERO });
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = current.lock().unwrap().clone();
                connections.spawn(carry(client, server, seen.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, server, accepting: accepting.abort_handle() }
    }

    /// The URL of a database by way of this network.
    pub fn through(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (user, host) = rest.split_once('@').map_or(("", rest), |(user, host)| (user, host));
        let path = host.split_once('/').map_or("", |(_, path)| path);
        let at = if user.is_empty() { "" } else { "@" };
        format!("{scheme}://{user}{at}{}/{path}", self.address)
    }

    /// The host vanishes: nothing comes back, and nobody is told.
    pub fn vanish(&self) {
        self.state.send_modify(|state| {
            state.mode = Mode::Silent;
            state.generation += 1;
        });
    }

    /// Another host is there under the same name: new connections pass, those of before stay silent.
    pub fn appear(&self) {
        self.state.send_modify(|state| {
            state.mode = Mode::Pass;
            state.generation += 1;
        });
    }

    /// From now on new connections lead to another server; those of before are silent.
    pub fn lead_to(&self, server: &str) {
        *self.server.lock().unwrap() = server.to_owned();
        self.appear();
    }

    /// From now on each piece that passes takes so much longer.
    pub fn slow_down(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, server: String, mut state: watch::Receiver<State>) {
    let begun = *state.borrow();
    let is_cut = |state: &State| state.cuts != begun.cuts;
    if begun.mode == Mode::Silent {
        let _cut = state.wait_for(is_cut).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(&server).await else { return };
    let _small = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            biased;
            Ok(()) = state.changed() => {
                let now = *state.borrow();
                if is_cut(&now) {
                    return;
                }
                if now.generation != begun.generation {
                    // Both ends stay open, as after a host that lost its power.
                    let _cut = state.wait_for(is_cut).await;
                    return;
                }
            }
            Ok(count @ 1..) = client.read(&mut asked) => {
                slowed(&state).await;
                if server.write_all(&asked[..count]).await.is_err() {
                    return;
                }
            }
            Ok(count @ 1..) = server.read(&mut answered) => {
                slowed(&state).await;
                if client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}

async fn slowed(state: &watch::Receiver<State>) {
    let delay = state.borrow().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The longest that anybody may wait for an answer, whatever happens.
pub const ANSWER_MAX: Duration = Duration::from_secs(35);
