//! `/graphql`: GraphQL over HTTP, one request a call; its streams and its sockets begin here.

mod answer;
mod execute;
mod media;
mod stream;

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use axum::Extension;
use axum::body::Body as HttpBody;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use domain::limits::BODY_BYTES_MAX;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::encoding::Encoding;
use super::observe::Traced;
use super::persisted::Extensions;
use super::server::ConnectionPermit;
use super::variables::{Body, variables};
use super::{App, RequestId, body, socket};
use crate::auth::{Caller, bearer};
use crate::error::ApiError;
use answer::{refuse, write};
use media::{Media, Wanted};
use stream::Framing;

pub(super) use answer::{is_refused, refusal};
pub(super) use execute::{Operation, admit, answers};
pub(super) use stream::within_a_year;

/// `POST /graphql`
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    Extension(trace): Extension<Traced>,
    headers: HeaderMap,
    http_body: HttpBody,
) -> Response {
    let wanted = Wanted::of(&headers);
    let media = media::refusal(wanted);
    let caller = match caller(&app, &headers).await {
        Ok(caller) => caller,
        Err(error) => {
            body::drain_anonymous(http_body).await;
            return refuse(&error, None, media, &id);
        }
    };
    let wanted = match wanted.ok_or_else(|| not_acceptable(&id)) {
        Ok(wanted) if is_json(&headers) => wanted,
        refused => {
            body::drain(http_body, BODY_BYTES_MAX).await;
            return refused.err().unwrap_or_else(|| {
                let error = bad("the body must be application/json in UTF-8");
                refuse(&error, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), media, &id)
            });
        }
    };
    let encoding = match Encoding::of(&headers) {
        Ok(encoding) => encoding,
        Err(detail) => {
            body::drain(http_body, BODY_BYTES_MAX).await;
            return refuse(&bad(&detail), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), media, &id);
        }
    };
    let (bytes, room) = match body::read(&app.bodies, &headers, encoding, http_body).await {
        Ok(read) => read,
        Err(error) => return refuse(&error, None, media, &id),
    };
    match Body::read(&bytes) {
        Ok(body) => {
            run(&app, caller, Sent { body, room: vec![room], trace, is_get: false }, wanted, &id).await
        }
        Err(error) => refuse(&error, None, media, &id),
    }
}

async fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let token = bearer(headers).ok_or(ApiError::Unauthenticated)?;
    app.keys.recognize(token, &app.services.store).await
}

fn bad(detail: &str) -> ApiError {
    ApiError::BadUserInput(detail.to_owned())
}

fn not_acceptable(request_id: &str) -> Response {
    let error = bad("answers are application/json, application/graphql-response+json, text/event-stream or \
         multipart/mixed;subscriptionSpec=1.0");
    refuse(&error, Some(StatusCode::NOT_ACCEPTABLE), Media::Json, request_id)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts
        .all(|part| !part.to_lowercase().starts_with("charset=") || part.to_lowercase().contains("utf-8"));
    is_json && is_utf8
}

/// The parameters of `GET /graphql`.
#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<String>,
    extensions: Option<String>,
}

/// `GET /graphql`: a socket where one is asked for; else anything but mutations.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(request_id): Extension<RequestId>,
    Extension(trace): Extension<Traced>,
    Extension(connection_permit): Extension<ConnectionPermit>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Response {
    let id = &request_id.0;
    let wanted = Wanted::of(&headers);
    let media = media::refusal(wanted);
    if asks_for_socket(&headers) {
        let refused = match upgrade {
            _ if !may_come_from(&app, &headers) => ApiError::Forbidden,
            Ok(upgrade) => return socket::open(app, upgrade, &headers, connection_permit, id),
            Err(_) => bad("this is no upgrade to a WebSocket of version 13"),
        };
        return refuse(&refused, None, media, id);
    }
    let caller = match caller(&app, &headers).await {
        Ok(caller) => caller,
        Err(error) => return refuse(&error, None, media, id),
    };
    let Some(wanted) = wanted else {
        return not_acceptable(id);
    };
    match parameters.map_err(|_| bad("the parameters cannot be read")).and_then(|Query(sent)| sent.body()) {
        Ok(body) => run(&app, caller, Sent { body, room: Vec::new(), trace, is_get: true }, wanted, id).await,
        Err(error) => refuse(&error, None, media, id),
    }
}

/// Whether the upgrade is one to a WebSocket; any other may be passed over (RFC 9110, section 7.8).
fn asks_for_socket(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = offers.flat_map(|offers| offers.split(',')).map(str::trim);
    protocols.any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

impl Parameters {
    fn body(self) -> Result<Body, ApiError> {
        let variables =
            self.variables.as_deref().map(|text| variables(text, false)).transpose()?.unwrap_or_default();
        let extensions = self.extensions.as_deref().map(serde_json::from_str::<Extensions>).transpose();
        let extensions = extensions.map_err(|_| bad("extensions must be a JSON object"))?;
        let hash = extensions.unwrap_or_default().hash()?;
        Body { query: self.query, hash, operation_name: self.operation_name, variables }.asking()
    }
}

/// Browsers ask no leave before they open a socket, so the origin is asked here.
fn may_come_from(app: &App, headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_none_or(|origin| app.origins.allow(origin))
}

/// Any other method.
pub(super) async fn other_method(
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
) -> Response {
    let media = media::refusal(Wanted::of(&headers));
    let error = bad("POST a request, or GET a query");
    refuse(&error, Some(StatusCode::METHOD_NOT_ALLOWED), media, &id)
}

/// A request as it was sent.
struct Sent {
    body: Body,
    /// What its bytes take of the memory for bodies.
    room: Vec<OwnedSemaphorePermit>,
    trace: Traced,
    is_get: bool,
}

async fn run(app: &Arc<App>, caller: Caller, sent: Sent, wanted: Wanted, request_id: &str) -> Response {
    let Sent { body, room, trace, is_get } = sent;
    let plain = wanted.refusal();
    // GraphQL over HTTP: a well-formed request whose document is refused is 200 in plain JSON. A hash that
    // is not known is no failure: clients send the document next.
    let refused = |error: &ApiError| {
        let is_ok = plain == Media::Json || *error == ApiError::PersistedQueryNotFound;
        refuse(error, is_ok.then_some(StatusCode::OK), plain, request_id)
    };
    let operation = match admit(app, caller.actor, body) {
        Ok(operation) => operation.with_room(room).within(trace),
        Err(error) => return refused(&error),
    };
    if is_get && operation.kind == OperationType::Mutation {
        let error = bad("GET takes no mutations");
        return refuse(&error, Some(StatusCode::METHOD_NOT_ALLOWED), plain, request_id);
    }
    let Some(media) = wanted.answer(operation.kind) else {
        return refused(&bad("a subscription needs graphql-transport-ws, text/event-stream or \
             multipart/mixed;subscriptionSpec=1.0"));
    };
    let operation = match operation.paid(app) {
        Ok(operation) => operation,
        Err(error) => return refuse(&error, None, plain, request_id),
    };
    let charge = operation.charge;
    let stream =
        |operation, framing| stream::respond(app, operation, caller.ends_at_ms, framing, plain, request_id);
    let mut response = match media {
        Media::Json | Media::Response => write(&execute::answer(app, operation, request_id).await, media),
        Media::Events => stream(operation, Framing::Events).await,
        Media::Parts => stream(operation, Framing::Parts).await,
    };
    charge.write(response.headers_mut());
    response
}

#[cfg(test)]
mod tests;
