//! One answer over HTTP, and what a refusal looks like in every transport.

use async_graphql::{Response as Answer, ServerError, Value};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::media::Media;
use crate::error::{ApiError, complete};
use crate::graphql::written;
use crate::http::explain;
use crate::limiter::seconds;

/// Nothing was executed: neither data nor any error of a field.
pub(in crate::http) fn is_refused(answer: &Answer) -> bool {
    !answer.errors.is_empty()
        && answer.data == Value::Null
        && answer.errors.iter().all(|error| error.path.is_empty())
}

/// An answer as its bytes: without `data` when nothing was executed.
pub(in crate::http) fn text(answer: &Answer) -> String {
    if is_refused(answer) { json!({ "errors": answer.errors }).to_string() } else { written::answer(answer) }
}

/// An error as an answer of GraphQL. `told` is the status in its problem.
pub(in crate::http) fn refusal(error: &ApiError, told: u16, request_id: &str) -> Answer {
    let mut answer = Answer::from_errors(vec![error.to_server_error()]);
    complete(&mut answer, request_id);
    let mut problem = error.problem(request_id);
    problem["status"] = told.into();
    for error in &mut answer.errors {
        let problem = Value::from_json(problem.clone()).unwrap_or_default();
        error.extensions.get_or_insert_default().set("problem", problem);
    }
    answer
}

pub(super) fn write(answer: &Answer, media: Media) -> Response {
    let kind = match media {
        Media::Response => "application/graphql-response+json; charset=utf-8",
        _ => "application/json; charset=utf-8",
    };
    let is_bad = is_refused(answer) && media == Media::Response;
    let status = match () {
        () if is_not_now(answer) => StatusCode::SERVICE_UNAVAILABLE,
        () if is_bad => StatusCode::BAD_REQUEST,
        () => StatusCode::OK,
    };
    let mut response = (status, [(header::CONTENT_TYPE, kind)], text(answer)).into_response();
    explain(&mut response);
    response
}

/// Nothing was done, and all that was asked for may work later: a client that retries by the status alone
/// comes back.
fn is_not_now(answer: &Answer) -> bool {
    let code = Value::from("UNAVAILABLE");
    let is_it =
        |error: &ServerError| error.extensions.as_ref().and_then(|values| values.get("code")) == Some(&code);
    answer.data == Value::Null && !answer.errors.is_empty() && answer.errors.iter().all(is_it)
}

pub(super) fn refuse(
    error: &ApiError,
    status: Option<StatusCode>,
    media: Media,
    request_id: &str,
) -> Response {
    let own = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let status = status.unwrap_or(own);
    // RFC 9457: the status of a problem is that of its answer. In plain JSON a refused document is 200,
    // which no problem is.
    let told = if status.is_success() { own } else { status };
    let mut response = write(&refusal(error, told.as_u16(), request_id), media);
    *response.status_mut() = status;
    explain(&mut response);
    if let ApiError::RateLimited { retry_after_ms, level } = error {
        response.headers_mut().insert(header::RETRY_AFTER, seconds(*retry_after_ms).into());
        level.write(response.headers_mut());
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}
