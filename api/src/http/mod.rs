//! Defines the HTTP routes and the middleware of every request: request id, span, metrics and CORS.

mod body;
mod cors;
mod documents;
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

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use domain::limits::{BODIES_IN_MEMORY_BYTES_MAX, PREVIEWS_AT_ONCE_MAX, UPLOADS_AT_ONCE_MAX};
use service::Actor;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Keys;
use crate::error::{ApiError, problem_json};
use crate::graphql::{Schemas, Services, build_schemas};
use crate::limiter::{Limiter, round_up_to_seconds};
use cors::Origins;
use documents::Documents;
use persisted::PersistedDocuments;
use server::{Probes, Server};

/// The media type of problem objects (RFC 9457).
const PROBLEM_JSON: &str = "application/problem+json";

/// The state that all handlers share.
pub(crate) struct App {
    pub services: Services,
    pub schemas: Schemas,
    pub keys: Keys,
    pub probes: Probes,
    /// The tasks that the server waits for at shutdown: the sockets, and the mutations, which run to their
    /// end even if the client disconnects.
    pub tracker: TaskTracker,
    /// Is cancelled at shutdown. Sockets and streams then end, which they would never do by themselves.
    pub shutdown: CancellationToken,
    /// The origins whose pages may use the API.
    pub origins: Origins,
    /// Request headers that pages of other origins may send, in addition to the built-in ones (CORS).
    pub cors_headers: Vec<HeaderName>,
    /// The rate limit of each user. `None`: there is no limit.
    pub limiter: Option<Limiter>,
    /// The memory for request bodies: one permit for each KiB.
    pub bodies: Arc<Semaphore>,
    /// Limits the import payloads that are uploaded at the same time, one permit for each. An upload holds up
    /// to 8 MiB in memory.
    pub uploads: Arc<Semaphore>,
    /// Limits the previews of import files that are made at the same time, one permit for each.
    pub previews: Arc<Semaphore>,
    /// Limits the payloads that are read again for their rejected records at the same time, in total and for
    /// each user.
    pub payload_readers: Arc<rejected::PayloadReaders>,
    /// The cache of parsed GraphQL documents.
    pub documents: Documents,
    /// The GraphQL documents that clients may name by their hash alone (automatic persisted queries).
    pub persisted: PersistedDocuments,
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
        let schemas = build_schemas(services.clone(), hints);
        let documents = Documents::new(&schemas.strict.sdl());
        Self {
            services,
            schemas,
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
            documents,
            persisted: PersistedDocuments::new(),
        }
    }
}

/// The id of a request: the `X-Request-Id` of the client if it is well-formed, else a new id.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub String);

fn build_router(app: Arc<App>) -> Router {
    let cors = cors::cors_layer(app.origins.clone(), &app.cors_headers);
    let routes = Router::new()
        .route(
            "/graphql",
            get(graphql::get_graphql).post(graphql::post_graphql).fallback(graphql::refuse_other_method),
        )
        .route("/imports/{id}/payload", put(payload::put_payload).head(payload::head_payload))
        .route("/imports/{id}/report", get(payload::get_import_report))
        .route("/imports/{id}/rejected", get(rejected::get_rejected_records))
        .route("/imports/preview", post(preview::post_preview))
        .route("/schema.graphql", get(|| async { ([(header::CONTENT_TYPE, "text/plain")], crate::sdl()) }))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(not_found_response)
        .method_not_allowed_fallback(method_not_allowed_response)
        .layer(DefaultBodyLimit::disable())
        .with_state(app);
    let observed = routes.layer(middleware::from_fn(observe::record_request));
    // The request id is the outermost layer, so that the response to a refused preflight has it too.
    observed.layer(cors).layer(middleware::from_fn(add_request_id_and_problem))
}

/// Middleware that gives each request its [`RequestId`] and returns that in `X-Request-Id`. Replaces the body
/// of an error response by a problem object if it is none yet, except at `/graphql`.
async fn add_request_id_and_problem(mut request: Request, next: Next) -> Response {
    let sent = request.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let fits = |id: &&str| (1..=64).contains(&id.len()) && id.chars().all(allowed);
    let id =
        sent.filter(fits).map_or_else(|| service::Clock::System.new_id().simple().to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let is_graphql = request.uri().path() == "/graphql";
    let mut response = next.run(request).await;
    if !is_graphql && is_error_without_problem(&response) {
        response = replace_body_with_problem(response, &id);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// Whether this is an error response that is no problem object, by its content type. The router and the
/// layers make such responses.
fn is_error_without_problem(response: &Response) -> bool {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    (status.is_client_error() || status.is_server_error()) && content_type != Some(PROBLEM_JSON.as_bytes())
}

/// Replaces the body of an error response by a problem object. The other headers stay, such as those of CORS.
fn replace_body_with_problem(response: Response, request_id: &str) -> Response {
    let status = response.status();
    let (code, detail) = match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            ("UNAVAILABLE", "the server is not available at the moment: retry later")
        }
        status if status.is_server_error() => {
            ("INTERNAL", "an error occurred in the server: if it persists, report the requestId")
        }
        _ => ("BAD_USER_INPUT", "the request cannot be read: check its path and its headers"),
    };
    let (mut head, _) = response.into_parts();
    let mut replacement = problem_response(problem_json(code, status.as_u16(), detail, request_id), status);
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.extend(std::mem::take(replacement.headers_mut()));
    Response::from_parts(head, replacement.into_body())
}

/// Extracts the user of a request from its token. A request without a valid token is refused. It is only for
/// routes that read no body, because a refusal does not drain the body.
pub(crate) struct CurrentUser(pub Actor);

impl FromRequestParts<Arc<App>> for CurrentUser {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let actor = app.keys.authenticate_request(&parts.headers, &app.services.store).await;
        actor.map(Self).map_err(|error| {
            let request_id = parts.extensions.get::<RequestId>().map_or("", |id| id.0.as_str());
            error_response(&error, request_id)
        })
    }
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    probe_response((app.probes.is_ready)().await)
}

async fn livez(State(app): State<Arc<App>>) -> Response {
    probe_response((app.probes.is_alive)())
}

fn probe_response(is_good: bool) -> Response {
    if is_good { "ok".into_response() } else { StatusCode::SERVICE_UNAVAILABLE.into_response() }
}

async fn not_found_response(Extension(RequestId(id)): Extension<RequestId>) -> Response {
    problem_response(problem_json("NOT_FOUND", 404, "this path does not exist", &id), StatusCode::NOT_FOUND)
}

async fn method_not_allowed_response(Extension(RequestId(id)): Extension<RequestId>) -> Response {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    problem_response(
        problem_json("BAD_USER_INPUT", 405, "this path does not support this method", &id),
        status,
    )
}

/// The response to a refused request of any route except `/graphql`: a problem object (RFC 9457) with the
/// status and the headers of the error.
fn error_response(error: &ApiError, request_id: &str) -> Response {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = problem_response(error.to_problem_json(request_id), status);
    add_rate_limit_headers(error, &mut response);
    response
}

fn problem_response(problem: serde_json::Value, status: StatusCode) -> Response {
    let mut response = (status, Json(problem)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    add_headers_for_status(&mut response);
    response
}

/// Adds `Retry-After` and the rate limit headers to a response for [`ApiError::RateLimited`]. Any other error
/// adds nothing.
fn add_rate_limit_headers(error: &ApiError, response: &mut Response) {
    if let ApiError::RateLimited { retry_after_ms, level } = error {
        response.headers_mut().insert(header::RETRY_AFTER, round_up_to_seconds(*retry_after_ms).into());
        level.add_rate_limit_headers(response.headers_mut());
    }
}

/// Adds the header that RFC 9110 recommends for the status 503 (`Retry-After`) or requires for 401
/// (`WWW-Authenticate`). Any other status gets none.
fn add_headers_for_status(response: &mut Response) {
    let (name, value) = match response.status() {
        StatusCode::SERVICE_UNAVAILABLE => (header::RETRY_AFTER, "1"),
        StatusCode::UNAUTHORIZED => (header::WWW_AUTHENTICATE, "Bearer realm=\"idem\""),
        _ => return,
    };
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}
