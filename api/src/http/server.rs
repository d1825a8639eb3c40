//! The accept loop: connections within bounds, headers within a time, and an end that nobody notices.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::routing::get;
use domain::limits::RateLimit;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::self_wake::SelfWake;
use super::write_timeout::WriteTimeout;
use super::{App, router};
use crate::auth::Keys;
use crate::graphql::Services;

/// Whoever asks for metrics: few.
const METRICS_CONNECTIONS_MAX: usize = 100;
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(7);
/// Connections beyond the most that are told so at once; more are closed without a word.
const TURNED_AWAY_MAX: usize = 256;
/// How long such a connection may take to say what it wants.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(2);
/// What it is told.
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A place among the connections. Whoever takes a connection over takes its place along.
#[derive(Clone)]
pub(super) struct ConnectionPermit(
    #[expect(dead_code, reason = "it is held, not read")] Arc<OwnedSemaphorePermit>,
);

/// What a server is made of.
pub struct Server {
    /// What its resolvers work with.
    pub services: Services,
    /// What its tokens are verified with.
    pub keys: Keys,
    /// Origins whose pages may call it.
    pub cors_origins: Vec<String>,
    /// Headers that those pages may send beside the usual ones.
    pub cors_headers: Vec<String>,
    /// Connections at once; more are told to come back.
    pub connections_max: usize,
    /// What each of its users may ask for; none means anything.
    pub rate_limit: Option<RateLimit>,
    /// Whether errors suggest what may have been meant.
    pub hints: bool,
    /// What it tells its supervisor.
    pub probes: Probes,
}

/// What a server tells its supervisor of itself.
#[derive(Clone)]
pub struct Probes {
    /// `/readyz`: whether it can serve, by its database and its migrations.
    pub is_ready: Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
    /// `/livez`: whether it need not be started anew.
    pub is_alive: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Probes {
    /// Always ready and alive.
    #[must_use]
    pub fn good() -> Self {
        Self { is_ready: Arc::new(|| Box::pin(async { true })), is_alive: Arc::new(|| true) }
    }
}

/// Serves until `shutdown`; then what has begun is finished.
pub async fn serve(listener: TcpListener, server: Server, shutdown: CancellationToken) {
    let connections_max = server.connections_max;
    let app = Arc::new(App::new(server, shutdown.clone()));
    let tracker = app.tracker.clone();
    accept(listener, router(app), connections_max, shutdown).await;
    tracker.close();
    tracker.wait().await;
}

/// Serves the metrics, on a port of their own.
pub async fn serve_metrics(
    listener: TcpListener,
    render: Arc<dyn Fn() -> String + Send + Sync>,
    shutdown: CancellationToken,
) {
    let router = Router::new().route("/metrics", get(move || async move { render() }));
    accept(listener, router, METRICS_CONNECTIONS_MAX, shutdown).await;
}

async fn accept(listener: TcpListener, router: Router, connections_max: usize, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let connections = Arc::new(Semaphore::new(connections_max));
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors: the next one may be free in a moment.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            metrics::counter!("idem_connections_refused_total").increment(1);
            if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
                tokio::spawn(async move {
                    let _gone = timeout(TURN_AWAY_TIMEOUT, turn_away(stream)).await;
                    drop(place);
                });
            }
            continue;
        };
        let _disabled_where_unsupported = stream.set_nodelay(true);
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
        let (connection_permit, router) =
            (ConnectionPermit(Arc::new(permit)), TowerToHyperService::new(router.clone()));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(connection_permit.clone());
            router.call(request)
        });
        let connection =
            http.serve_connection(TokioIo::new(WriteTimeout::new(stream)), service).with_upgrades();
        let stop = shutdown.clone();
        tasks.spawn(SelfWake::new(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        }));
    }
    drop(listener);
    tasks.close();
    if timeout(DRAIN_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
}

/// Waits for a request and answers that there is no room. Clients take an answer that comes before their request for a
/// broken connection.
async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    if stream.read(&mut bytes).await? == 0 {
        return Ok(());
    }
    stream.write_all(TURNED_AWAY).await?;
    stream.shutdown().await?;
    // What is still on its way is read: closed before that, the connection would take its answer back.
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}
