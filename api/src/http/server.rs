//! Accepts connections and serves HTTP on them.
//!
//! The number of connections and the time for the request headers are bounded. At shutdown, requests that
//! have already begun are completed.

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
use super::{App, build_router};
use crate::auth::Keys;
use crate::graphql::Services;

/// The most connections to the port of the metrics at the same time. Only a few monitoring systems read them.
const METRICS_CONNECTIONS_MAX: usize = 100;
/// How long a client may take to send the request headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server waits at shutdown until all HTTP connections have ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(7);
/// The most connections above the maximum that are answered with 503 at the same time. Further ones are
/// closed without a response.
const REFUSED_AT_ONCE_MAX: usize = 256;
/// How long a connection above the maximum may take to send its request and to read the response 503.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The HTTP response on a connection above the maximum.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The permit of one client connection, which counts as open while a copy of the permit exists. A WebSocket
/// keeps the permit of its connection.
#[derive(Clone)]
pub(super) struct ConnectionPermit(
    #[expect(dead_code, reason = "it is held, not read")] Arc<OwnedSemaphorePermit>,
);

/// The parts and settings of a server.
pub struct Server {
    /// The database and the other services that the GraphQL resolvers use.
    pub services: Services,
    /// The keys that tokens are verified with.
    pub keys: Keys,
    /// The web origins whose pages may use the API (CORS).
    pub cors_origins: Vec<String>,
    /// Request headers that pages of other origins may send, in addition to the built-in ones (CORS).
    pub cors_headers: Vec<String>,
    /// The most client connections at the same time. Further ones are answered with 503 and `Retry-After`.
    pub connections_max: usize,
    /// The rate limit of each user. `None`: there is no limit.
    pub rate_limit: Option<RateLimit>,
    /// Whether GraphQL error messages suggest similar names of the schema.
    pub hints: bool,
    /// The health checks of the process.
    pub probes: Probes,
}

/// The health checks that `/readyz` and `/livez` run.
#[derive(Clone)]
pub struct Probes {
    /// `/readyz`: whether the server can serve requests. This depends on its database and its migrations.
    pub is_ready: Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
    /// `/livez`: false if the process must be restarted.
    pub is_alive: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Probes {
    /// Checks that always succeed.
    #[must_use]
    pub fn always_passing() -> Self {
        Self { is_ready: Arc::new(|| Box::pin(async { true })), is_alive: Arc::new(|| true) }
    }
}

/// Serves the API until `shutdown`. Then stops accepting connections, and completes the requests that have
/// begun. Returns when the WebSockets and mutations have ended, and the HTTP connections have ended or took
/// too long.
pub async fn serve(listener: TcpListener, server: Server, shutdown: CancellationToken) {
    let connections_max = server.connections_max;
    let app = Arc::new(App::new(server, shutdown.clone()));
    let tracker = app.tracker.clone();
    accept_and_serve_connections(listener, build_router(app), connections_max, shutdown).await;
    tracker.close();
    tracker.wait().await;
}

/// Serves the text that `render` returns as `GET /metrics`, on a port of its own, until `shutdown`.
pub async fn serve_metrics(
    listener: TcpListener,
    render: Arc<dyn Fn() -> String + Send + Sync>,
    shutdown: CancellationToken,
) {
    let router = Router::new().route("/metrics", get(move || async move { render() }));
    accept_and_serve_connections(listener, router, METRICS_CONNECTIONS_MAX, shutdown).await;
}

async fn accept_and_serve_connections(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    shutdown: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let connections = Arc::new(Semaphore::new(connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSED_AT_ONCE_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // The process has no free file descriptor. One may become free shortly.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            metrics::counter!("idem_connections_refused_total").increment(1);
            if let Ok(refusal_permit) = Arc::clone(&refusals).try_acquire_owned() {
                tokio::spawn(async move {
                    let _is_best_effort = timeout(REFUSAL_TIMEOUT, refuse_connection(stream)).await;
                    drop(refusal_permit);
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
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended with an error");
            }
        }));
    }
    drop(listener);
    tasks.close();
    if timeout(DRAIN_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time at shutdown");
    }
}

/// Waits until a request begins, responds with 503, and waits until the client closes the connection. A
/// response that arrives before the request would look like a broken connection to clients.
async fn refuse_connection(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    if stream.read(&mut bytes).await? == 0 {
        return Ok(());
    }
    stream.write_all(REFUSAL).await?;
    stream.shutdown().await?;
    // Read the rest of the request. If the connection were closed with unread bytes, the kernel would reset
    // it, and the client could lose the response.
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}
