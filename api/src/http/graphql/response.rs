//! Writes a GraphQL response as an HTTP response, and errors in the form that every transport uses.

use std::convert::Infallible;

use async_graphql::{Response as GraphqlResponse, ServerError, Value};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::json;

use super::media::Media;
use crate::error::{ApiError, add_problems_to_errors};
use crate::graphql::json_writer;
use crate::http::{add_headers_for_status, add_rate_limit_headers};

/// Whether the response has errors, but neither data nor an error of a field. The GraphQL specification calls
/// this a request error: nothing was executed, except if a mutation took too long.
pub(in crate::http) fn is_request_error(response: &GraphqlResponse) -> bool {
    !response.errors.is_empty()
        && response.data == Value::Null
        && response.errors.iter().all(|error| error.path.is_empty())
}

/// The JSON text of a response in consecutive pieces. A request error has no member `data` (GraphQL, section
/// 7.1.2).
pub(super) fn to_json_pieces(response: &GraphqlResponse) -> Vec<Bytes> {
    if is_request_error(response) {
        vec![json!({ "errors": response.errors }).to_string().into()]
    } else {
        json_writer::response::to_json_pieces(response)
    }
}

/// Returns the GraphQL response for an error, without data. `status` is the HTTP status in its problem
/// object.
pub(in crate::http) fn graphql_error_response(
    error: &ApiError,
    status: u16,
    request_id: &str,
) -> GraphqlResponse {
    let mut response = GraphqlResponse::from_errors(vec![error.to_graphql_error()]);
    add_problems_to_errors(&mut response, request_id);
    let mut problem = error.to_problem_json(request_id);
    problem["status"] = status.into();
    for error in &mut response.errors {
        let problem = Value::from_json(problem.clone()).unwrap_or_default();
        error.extensions.get_or_insert_default().set("problem", problem);
    }
    response
}

/// Returns the HTTP response for one complete GraphQL response. The body is plain JSON, unless `media` is
/// [`Media::GraphqlResponse`]. The status is 200, 400 or 503.
pub(super) fn to_http_response(response: &GraphqlResponse, media: Media) -> Response {
    let content_type = match media {
        Media::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
        _ => "application/json; charset=utf-8",
    };
    // GraphQL over HTTP: only this media type gives a request error the status 400.
    let is_bad = is_request_error(response) && media == Media::GraphqlResponse;
    let status = match () {
        () if has_only_unavailable_errors(response) => StatusCode::SERVICE_UNAVAILABLE,
        () if is_bad => StatusCode::BAD_REQUEST,
        () => StatusCode::OK,
    };
    let pieces = to_json_pieces(response);
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
    let mut response = (status, headers, body).into_response();
    add_headers_for_status(&mut response);
    response
}

/// Whether there is no data and every error is `UNAVAILABLE`. The status 503 then makes clients retry that
/// look only at the status.
fn has_only_unavailable_errors(response: &GraphqlResponse) -> bool {
    let code = Value::from("UNAVAILABLE");
    let has_code =
        |error: &ServerError| error.extensions.as_ref().and_then(|values| values.get("code")) == Some(&code);
    response.data == Value::Null && !response.errors.is_empty() && response.errors.iter().all(has_code)
}

/// Returns the HTTP response to a refused request of `/graphql`. `status` replaces the HTTP status that the
/// error usually has.
pub(super) fn refusal_response(
    error: &ApiError,
    status: Option<StatusCode>,
    media: Media,
    request_id: &str,
) -> Response {
    let own = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let status = status.unwrap_or(own);
    // RFC 9457: the status in a problem is that of its HTTP response. In plain JSON a refused document has
    // the status 200, which is not the status of any problem, so the problem then has that of the error.
    let problem_status = if status.is_success() { own } else { status };
    let mut response =
        to_http_response(&graphql_error_response(error, problem_status.as_u16(), request_id), media);
    *response.status_mut() = status;
    add_headers_for_status(&mut response);
    add_rate_limit_headers(error, &mut response);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}
