//! The accept loop: connections within bounds, headers within a time, and an end that nobody notices.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures::future::BoxFuture;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{App, router};
use crate::auth::Keys;
use crate::graphql::{Services, schema};

const CONNECTIONS_MAX: usize = 10_000;
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// What a server is made of.
pub struct Server {
    /// What its resolvers work with.
    pub services: Services,
    /// What its tokens are verified with.
    pub keys: Keys,
    /// Origins whose pages may call it.
    pub cors_origins: Vec<String>,
    /// Whether errors suggest what may have been meant.
    pub hints: bool,
    /// Whether it can serve.
    pub ready: Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
}

/// Serves until `shutdown`; then what has begun is finished.
pub async fn serve(listener: TcpListener, server: Server, shutdown: CancellationToken) {
    let tracker = TaskTracker::new();
    let schema = schema(server.services.clone(), server.hints);
    let app = App::new(server.services, schema, server.keys, server.ready, tracker.clone());
    accept(listener, router(app, &server.cors_origins), shutdown).await;
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
    accept(listener, router, shutdown).await;
}

async fn accept(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
            continue;
        };
        let _disabled_where_unsupported = stream.set_nodelay(true);
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
}
