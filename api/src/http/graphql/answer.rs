//! One answer over HTTP, and what a refusal looks like in every transport.

use std::convert::Infallible;

use async_graphql::{Response as Answer, ServerError, Value};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::json;

use super::media::Media;
use crate::error::{ApiError, complete};
use crate::graphql::json_writer;
use crate::http::{explain, explain_level};

/// Nothing was executed: neither data nor any error of a field.
pub(in crate::http) fn is_refused(answer: &Answer) -> bool {
    !answer.errors.is_empty()
        && answer.data == Value::Null
        && answer.errors.iter().all(|error| error.path.is_empty())
}

/// The text of an answer in pieces: without `data` when nothing was executed.
pub(super) fn pieces(answer: &Answer) -> Vec<Bytes> {
    if is_refused(answer) {
        vec![json!({ "errors": answer.errors }).to_string().into()]
    } else {
        json_writer::answer::pieces(answer)
    }
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
    let pieces = pieces(answer);
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
    let mut response = (status, headers, body).into_response();
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
    explain_level(error, &mut response);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}
