//! Handles `/graphql` by the GraphQL over HTTP specification, with one operation per request.
//!
//! The handlers here also start the streams and the WebSockets of subscriptions.

mod execute;
mod media;
mod response;
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
use super::observe::RequestTrace;
use super::persisted::Extensions;
use super::server::ConnectionPermit;
use super::variables::{Body, parse_variables};
use super::{App, RequestId, body, socket};
use crate::auth::{Caller, bearer_token};
use crate::error::ApiError;
use media::{Accepted, Media};
use response::{refusal_response, to_http_response};
use stream::Framing;

pub(super) use execute::{Operation, prepare_operation, take_points_and_execute_as_stream};
pub(super) use response::{graphql_error_response, is_request_error};
pub(super) use stream::to_timer_duration;

/// `POST /graphql`: executes any operation.
pub(super) async fn post_graphql(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    Extension(trace): Extension<RequestTrace>,
    headers: HeaderMap,
    http_body: HttpBody,
) -> Response {
    let accepted = Accepted::from_headers(&headers);
    let error_media = media::error_media_or_json(accepted);
    let caller = match authenticate_caller(&app, &headers).await {
        Ok(caller) => caller,
        Err(error) => {
            body::drain_start_of_refused_body(http_body).await;
            return refusal_response(&error, None, error_media, &id);
        }
    };
    let accepted = match accepted.ok_or_else(|| not_acceptable_response(&id)) {
        Ok(accepted) if has_json_content_type(&headers) => accepted,
        refused => {
            body::drain_body(http_body, BODY_BYTES_MAX).await;
            return refused.err().unwrap_or_else(|| {
                let error = bad_user_input("Content-Type must be application/json in UTF-8");
                refusal_response(&error, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), error_media, &id)
            });
        }
    };
    let encoding = match Encoding::from_headers(&headers) {
        Ok(encoding) => encoding,
        Err(detail) => {
            body::drain_body(http_body, BODY_BYTES_MAX).await;
            let status = Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            return refusal_response(&bad_user_input(&detail), status, error_media, &id);
        }
    };
    let (bytes, memory_permit) =
        match body::read_and_decode_body(&app.bodies, &headers, encoding, http_body).await {
            Ok(read) => read,
            Err(error) => return refusal_response(&error, None, error_media, &id),
        };
    match Body::parse_body(&bytes) {
        Ok(body) => {
            let received = ReceivedRequest { body, permits: vec![memory_permit], trace, is_get: false };
            respond_to_request(&app, caller, received, accepted, &id).await
        }
        Err(error) => refusal_response(&error, None, error_media, &id),
    }
}

/// Verifies the token of the request. Returns its user, whom it creates at the first request, and the expiry.
async fn authenticate_caller(app: &App, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let token = bearer_token(headers).ok_or(ApiError::Unauthenticated)?;
    app.keys.authenticate_token(token, &app.services.store).await
}

fn bad_user_input(detail: &str) -> ApiError {
    ApiError::BadUserInput(detail.to_owned())
}

fn not_acceptable_response(request_id: &str) -> Response {
    let error = bad_user_input(
        "Accept must name one of application/json, application/graphql-response+json, text/event-stream or \
         multipart/mixed;subscriptionSpec=1.0",
    );
    refusal_response(&error, Some(StatusCode::NOT_ACCEPTABLE), Media::Json, request_id)
}

/// Whether the body is JSON in UTF-8. Without `charset`, JSON is in UTF-8 (RFC 8259, section 8.1).
fn has_json_content_type(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json"));
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

/// `GET /graphql`: opens a WebSocket if the client requests an upgrade. Otherwise executes anything but
/// mutations.
pub(super) async fn get_graphql(
    State(app): State<Arc<App>>,
    Extension(request_id): Extension<RequestId>,
    Extension(trace): Extension<RequestTrace>,
    Extension(connection_permit): Extension<ConnectionPermit>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Response {
    let id = &request_id.0;
    let accepted = Accepted::from_headers(&headers);
    let error_media = media::error_media_or_json(accepted);
    if requests_websocket(&headers) {
        let refused = match upgrade {
            _ if !is_socket_origin_allowed(&app, &headers) => ApiError::Forbidden,
            Ok(upgrade) => return socket::start_session(app, upgrade, &headers, connection_permit, id),
            Err(_) => bad_user_input("the upgrade must be to a WebSocket of version 13 (RFC 6455)"),
        };
        return refusal_response(&refused, None, error_media, id);
    }
    let caller = match authenticate_caller(&app, &headers).await {
        Ok(caller) => caller,
        Err(error) => return refusal_response(&error, None, error_media, id),
    };
    let Some(accepted) = accepted else {
        return not_acceptable_response(id);
    };
    let parameters = parameters.map_err(|_| bad_user_input("the parameters of the URL cannot be read"));
    match parameters.and_then(|Query(parameters)| parameters.into_body()) {
        Ok(body) => {
            let received = ReceivedRequest { body, permits: Vec::new(), trace, is_get: true };
            respond_to_request(&app, caller, received, accepted, id).await
        }
        Err(error) => refusal_response(&error, None, error_media, id),
    }
}

/// Whether the client requests an upgrade to a WebSocket. A server may ignore an upgrade to anything else
/// (RFC 9110, section 7.8).
fn requests_websocket(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = offers.flat_map(|offers| offers.split(',')).map(str::trim);
    protocols.any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

impl Parameters {
    /// Parses the parameters into the same form as a body of `POST`.
    ///
    /// # Errors
    /// [`ApiError::BadUserInput`] if a parameter is malformed or there is no document; [`ApiError::Limit`] if
    /// the variables are too deep.
    fn into_body(self) -> Result<Body, ApiError> {
        let variables = self
            .variables
            .as_deref()
            .map(|text| parse_variables(text, false))
            .transpose()?
            .unwrap_or_default();
        let extensions = self.extensions.as_deref().map(serde_json::from_str::<Extensions>).transpose();
        let extensions = extensions.map_err(|_| bad_user_input("extensions must be a JSON object"))?;
        let hash = extensions.unwrap_or_default().into_document_hash()?;
        Body { query: self.query, hash, operation_name: self.operation_name, variables }.require_document()
    }
}

/// Whether the origin may open a WebSocket, or there is no `Origin`. Browsers send no preflight request
/// before they open one, so CORS does not protect it.
fn is_socket_origin_allowed(app: &App, headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_none_or(|origin| app.origins.allows_origin(origin))
}

/// Refuses a request to `/graphql` with another method than GET, HEAD or POST: status 405.
pub(super) async fn refuse_other_method(
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
) -> Response {
    let error_media = media::error_media_or_json(Accepted::from_headers(&headers));
    let error = bad_user_input("send the request with POST, or a query with GET");
    refusal_response(&error, Some(StatusCode::METHOD_NOT_ALLOWED), error_media, &id)
}

/// A GraphQL request that was parsed, but not yet checked against the limits or executed.
struct ReceivedRequest {
    body: Body,
    /// Permits for the memory that the body occupies.
    permits: Vec<OwnedSemaphorePermit>,
    trace: RequestTrace,
    is_get: bool,
}

/// Prepares the request, takes its points and executes it. Writes the response in the media type that the
/// client prefers.
async fn respond_to_request(
    app: &Arc<App>,
    caller: Caller,
    received: ReceivedRequest,
    accepted: Accepted,
    request_id: &str,
) -> Response {
    let ReceivedRequest { body, permits, trace, is_get } = received;
    let error_media = accepted.error_media();
    // GraphQL over HTTP: in plain JSON, a well-formed request whose document is refused has the status 200.
    // An unknown hash has it too, because it is not a failure: the client sends the document next.
    let refused = |error: &ApiError| {
        let is_ok = error_media == Media::Json || *error == ApiError::PersistedQueryNotFound;
        refusal_response(error, is_ok.then_some(StatusCode::OK), error_media, request_id)
    };
    let operation = match prepare_operation(app, caller.actor, body) {
        Ok(operation) => operation.with_permits(permits).with_trace(trace),
        Err(error) => return refused(&error),
    };
    if is_get && operation.operation_type == OperationType::Mutation {
        let error = bad_user_input("send mutations with POST, not with GET");
        return refusal_response(&error, Some(StatusCode::METHOD_NOT_ALLOWED), error_media, request_id);
    }
    let Some(media) = accepted.operation_media(operation.operation_type) else {
        return refused(&bad_user_input(
            "a subscription needs graphql-transport-ws, text/event-stream or \
             multipart/mixed;subscriptionSpec=1.0",
        ));
    };
    let operation = match operation.take_points(app).await {
        Ok(operation) => operation,
        Err(error) => return refusal_response(&error, None, error_media, request_id),
    };
    let charge = operation.charge;
    let stream = |operation, framing| {
        stream::respond_with_stream(app, operation, caller.expires_at_ms, framing, error_media, request_id)
    };
    let mut response = match media {
        Media::Json | Media::GraphqlResponse => {
            to_http_response(&execute::execute_operation(app, operation, request_id).await, media)
        }
        Media::EventStream => stream(operation, Framing::EventStream).await,
        Media::Multipart => stream(operation, Framing::Multipart).await,
    };
    charge.add_rate_limit_headers(response.headers_mut());
    response
}

#[cfg(test)]
mod tests;
