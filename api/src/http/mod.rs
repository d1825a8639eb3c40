//! The routes, and what every request goes through: an id, a span, a token, limits.

mod body;
mod cors;
mod encoding;
mod graphql;
mod observe;
mod payload;
mod persisted;
mod preview;
mod rejected;
mod self_wake;
pub mod server;
mod socket;
pub(crate) mod variables;
mod write_timeout;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use async_graphql::parser::types::ExecutableDocument;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use domain::limits::{
    BODIES_IN_MEMORY_BYTES_MAX, DOCUMENT_CACHE_ENTRIES_MAX, PREVIEWS_AT_ONCE_MAX, UPLOADS_AT_ONCE_MAX,
};
use lru::LruCache;
use service::Actor;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keys;
use crate::error::{ApiError, problem};
use crate::graphql::{Schema, Services, schema};
use crate::limiter::{Limiter, seconds};
use cors::Origins;
use persisted::Persisted;
use server::{Probes, Server};

/// RFC 9457
const PROBLEM_JSON: &str = "application/problem+json";

/// What the handlers share.
pub(crate) struct App {
    pub services: Services,
    pub schema: Schema,
    pub keys: Keys,
    pub probes: Probes,
    /// Mutations that run to their end even if the client hangs up, and sockets.
    pub tracker: TaskTracker,
    /// Ends what would go on by itself: sockets and streams.
    pub shutdown: CancellationToken,
    /// Pages that may call.
    pub origins: Origins,
    /// Headers that they may send beside the usual ones.
    pub cors_headers: Vec<HeaderName>,
    /// What users may ask for; none means anything.
    pub limiter: Option<Limiter>,
    /// Room for bodies, in KiB.
    pub bodies: Arc<Semaphore>,
    /// Payloads that arrive at once: each holds up to 8 MiB.
    pub uploads: Arc<Semaphore>,
    /// Previews that are made at once.
    pub previews: Arc<Semaphore>,
    /// Payloads that are read at once for their rejected records.
    pub payload_readers: Arc<rejected::Readers>,
    /// Parsed documents by their text.
    pub documents: Mutex<LruCache<String, Arc<ExecutableDocument>>>,
    /// Documents by their hash, for clients that send the hash alone.
    pub persisted: Persisted,
}

impl App {
    fn new(server: Server, shutdown: CancellationToken) -> Self {
        let Server {
            services,
            keys,
            cors_origins,
            cors_headers,
            rate_limit,
            hints,
            probes,
            connections_max: _,
        } = server;
        let schema = schema(services.clone(), hints);
        let entries = NonZeroUsize::new(DOCUMENT_CACHE_ENTRIES_MAX).expect("not zero");
        Self {
            services,
            schema,
            keys,
            probes,
            tracker: TaskTracker::new(),
            shutdown,
            origins: Origins::new(cors_origins),
            cors_headers: cors_headers.iter().filter_map(|name| name.parse().ok()).collect(),
            limiter: rate_limit.map(Limiter::new),
            bodies: Arc::new(Semaphore::new(BODIES_IN_MEMORY_BYTES_MAX / 1024)),
            uploads: Arc::new(Semaphore::new(UPLOADS_AT_ONCE_MAX)),
            previews: Arc::new(Semaphore::new(PREVIEWS_AT_ONCE_MAX)),
            payload_readers: Arc::default(),
            documents: Mutex::new(LruCache::new(entries)),
            persisted: Persisted::new(),
        }
    }
}

/// The id of a request, taken from the client or made.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub String);

fn router(app: Arc<App>) -> Router {
    let cors = cors::layer(app.origins.clone(), &app.cors_headers);
    let routes = Router::new()
        .route("/graphql", get(graphql::get).post(graphql::post).fallback(graphql::other_method))
        .route("/imports/{id}/payload", put(payload::put).head(payload::head))
        .route("/imports/{id}/report", get(payload::report))
        .route("/imports/{id}/rejected", get(rejected::get))
        .route("/imports/preview", post(preview::post))
        .route("/schema.graphql", get(|| async { ([(header::CONTENT_TYPE, "text/plain")], crate::sdl()) }))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .with_state(app);
    let observed = routes.layer(middleware::from_fn(observe::observe));
    // Refusals of a preflight have the id of their request as well.
    observed.layer(cors).layer(middleware::from_fn(with_request_id))
}

async fn with_request_id(mut request: Request, next: Next) -> Response {
    let sent = request.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let fits = |id: &&str| (1..=64).contains(&id.len()) && id.chars().all(allowed);
    let id =
        sent.filter(fits).map_or_else(|| service::Clock::System.new_id().simple().to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let is_graphql = request.uri().path() == "/graphql";
    let mut response = next.run(request).await;
    if !is_graphql && is_bare(&response) {
        response = explained(response, &id);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// Whether a refusal says nothing of itself: one of the router or of a layer, and not of a handler.
fn is_bare(response: &Response) -> bool {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    (status.is_client_error() || status.is_server_error()) && kind != Some(PROBLEM_JSON.as_bytes())
}

/// The same refusal with a problem as its body. What else its headers say, as to pages of other origins, stays.
fn explained(response: Response, request_id: &str) -> Response {
    let status = response.status();
    let (code, detail) = match status {
        StatusCode::SERVICE_UNAVAILABLE => ("UNAVAILABLE", "not available for the moment"),
        status if status.is_server_error() => ("INTERNAL", "something went wrong on our side"),
        _ => ("BAD_USER_INPUT", "the request cannot be read: look at its path and its headers"),
    };
    let (mut headers, _) = response.into_parts();
    let mut explained = plain(problem(code, status.as_u16(), detail, request_id), status);
    headers.headers.remove(header::CONTENT_LENGTH);
    headers.headers.extend(std::mem::take(explained.headers_mut()));
    Response::from_parts(headers, explained.into_body())
}

/// The user who calls a route that reads no body. A request without a valid token is refused.
pub(crate) struct Caller(pub Actor);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let actor = app.keys.authenticate(&parts.headers, &app.services.store).await;
        actor.map(Self).map_err(|error| {
            let request_id = parts.extensions.get::<RequestId>().map_or("", |id| id.0.as_str());
            refused(&error, request_id)
        })
    }
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    told((app.probes.is_ready)().await)
}

async fn livez(State(app): State<Arc<App>>) -> Response {
    told((app.probes.is_alive)())
}

fn told(is_good: bool) -> Response {
    if is_good { "ok".into_response() } else { StatusCode::SERVICE_UNAVAILABLE.into_response() }
}

async fn not_found(Extension(RequestId(id)): Extension<RequestId>) -> Response {
    plain(problem("NOT_FOUND", 404, "there is nothing at this path", &id), StatusCode::NOT_FOUND)
}

async fn method_not_allowed(Extension(RequestId(id)): Extension<RequestId>) -> Response {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    plain(problem("BAD_USER_INPUT", 405, "this path does not take this method", &id), status)
}

/// A refusal outside `/graphql`: RFC 9457.
fn refused(error: &ApiError, request_id: &str) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = plain(error.problem(request_id), status);
    explain_level(error, &mut response);
    response
}

fn plain(problem: serde_json::Value, status: StatusCode) -> Response {
    let mut response = (status, Json(problem)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    explain(&mut response);
    response
}

/// How long a user has to wait who has no points left, and how they stand.
fn explain_level(error: &ApiError, response: &mut Response) {
    if let ApiError::RateLimited { retry_after_ms, level } = error {
        response.headers_mut().insert(header::RETRY_AFTER, seconds(*retry_after_ms).into());
        level.write(response.headers_mut());
    }
}

/// What the headers of a refusal must say (RFC 9110): when to come back, and what to come with.
fn explain(response: &mut Response) {
    let (name, value) = match response.status() {
        StatusCode::SERVICE_UNAVAILABLE => (header::RETRY_AFTER, "1"),
        StatusCode::UNAUTHORIZED => (header::WWW_AUTHENTICATE, "Bearer realm=\"idem\""),
        _ => return,
    };
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}
