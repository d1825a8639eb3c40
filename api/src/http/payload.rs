//! Handles `/imports/{id}/payload`, which receives the bytes of an import, and `/imports/{id}/report`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::event_id;
use domain::import::Rejection;
use domain::limits::PAGE_FIRST_MAX;
use domain::problem::Problem;
use futures::{Stream, StreamExt, stream};
use service::Store;
use service::queries::page::Window;
use service::queries::{import_job, import_rejection};
use service::{Actor, Receipt};
use tokio::time::timeout;
use uuid::Uuid;

use super::body::{PROGRESS_TIMEOUT, discard_stream, drain_start_of_refused_body};
use super::encoding::Encoding;
use super::{App, CurrentUser, RequestId, error_response, problem_response};
use crate::error::{ApiError, problem_json};

/// The header `Upload-Offset`. In a response it is the number of payload bytes that are stored, in a PUT the
/// offset of the payload at which the body begins.
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// How long the database may take to find how much of a payload is stored, after an upload was refused.
const OFFSET_TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes of a refused payload that are discarded before the response.
const DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// `PUT /imports/{id}/payload`: stores the payload of an import, or the rest of it. The import is queued once
/// the payload is complete.
pub(super) async fn put_payload(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let actor = match app.keys.authenticate_request(&headers, &app.services.store).await {
        Ok(actor) => actor,
        Err(error) => {
            drain_start_of_refused_body(body).await;
            return error_response(&error, &request_id);
        }
    };
    let id = event_id::parse(&id).unwrap_or_default();
    let mut response = receive_payload_part(&app, &actor, id, &headers, body, &request_id).await;
    if !response.headers().contains_key(&UPLOAD_OFFSET) {
        // The client resumes from this offset after any refusal. The timeout keeps a database that is down
        // from delaying the response a second time.
        let receipt =
            timeout(OFFSET_TIMEOUT, service::load_payload_offset(&app.services.store, &actor, id)).await;
        if let Ok(Ok(Receipt { offset: Some(offset), .. })) = receipt {
            response.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(offset));
        }
    }
    response
}

/// Checks the headers of a PUT, and stores the bytes of its body as payload. Discards the body if it is
/// refused.
async fn receive_payload_part(
    app: &App,
    actor: &Actor,
    id: Uuid,
    headers: &HeaderMap,
    body: Body,
    request_id: &str,
) -> Response {
    let offset = match headers.get(&UPLOAD_OFFSET).map(|value| value.to_str().ok()?.parse::<i64>().ok()) {
        None => None,
        Some(Some(offset)) => Some(offset),
        Some(None) => {
            discard_stream(body.into_data_stream(), DISCARDED_BYTES_MAX).await;
            let error = ApiError::BadUserInput("Upload-Offset must be a whole number of bytes".to_owned());
            return error_response(&error, request_id);
        }
    };
    let encoding = match Encoding::from_headers(headers) {
        Ok(encoding) => encoding,
        Err(detail) => {
            drain_start_of_refused_body(body).await;
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let problem = problem_json("BAD_USER_INPUT", status.as_u16(), &detail, request_id);
            return problem_response(problem, status);
        }
    };
    let Ok(_upload_permit) = Arc::clone(&app.uploads).try_acquire_owned() else {
        drain_start_of_refused_body(body).await;
        return error_response(&ApiError::Unavailable, request_id);
    };
    let mut bytes = Box::pin(end_body_when_stalled(body).fuse().peekable());
    // Only the first bytes of a payload show its encoding. A request that continues an upload does not have
    // them.
    let is_checked = encoding != Encoding::Identity && offset.unwrap_or_default() == 0;
    let first = if is_checked { bytes.as_mut().peek().await } else { None };
    let services = &app.services;
    if first.is_some_and(|piece| piece.as_ref().is_ok_and(|piece| !encoding.may_match_first_bytes(piece))) {
        discard_stream(bytes, DISCARDED_BYTES_MAX).await;
        let error = ApiError::BadUserInput(
            "the payload does not have the encoding of its Content-Encoding".to_owned(),
        );
        return error_response(&error, request_id);
    }
    let (store, payloads, notifier) = (&services.store, &services.payloads, services.notifier.as_ref());
    let received = service::receive_payload(store, payloads, notifier, actor, id, offset, &mut bytes).await;
    // The rest is discarded, because a sender that is still writing would not read the response.
    discard_stream(bytes, DISCARDED_BYTES_MAX).await;
    match received {
        Ok(receipt) => upload_receipt_response(receipt, request_id),
        Err(error) => error_response(&error.into(), request_id),
    }
}

/// The bytes of the body. If none arrive for [`PROGRESS_TIMEOUT`], the stream ends without an error.
fn end_body_when_stalled(body: Body) -> impl Stream<Item = Result<Bytes, ()>> + Send {
    stream::unfold(body.into_data_stream(), |mut stream| async move {
        let next = timeout(PROGRESS_TIMEOUT, stream.next()).await.unwrap_or(None)?;
        Some((next.map_err(|_| ()), stream))
    })
}

/// `HEAD /imports/{id}/payload`: returns in `Upload-Offset` how many bytes of the payload are stored.
pub(super) async fn head_payload(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    CurrentUser(actor): CurrentUser,
) -> Response {
    let store = &app.services.store;
    match service::load_payload_offset(store, &actor, event_id::parse(&id).unwrap_or_default()).await {
        Ok(receipt) => upload_receipt_response(receipt, &request_id),
        Err(error) => error_response(&error.into(), &request_id),
    }
}

fn upload_receipt_response(receipt: Receipt, request_id: &str) -> Response {
    let mut response = match receipt.problem {
        None => StatusCode::OK.into_response(),
        Some(problem) => import_problem_response(&problem, request_id),
    };
    if let Some(offset) = receipt.offset {
        response.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(offset));
    }
    response
}

pub(super) fn import_not_found_response(request_id: &str) -> Response {
    let detail = "no import is known by this id";
    problem_response(problem_json("NOT_FOUND", 404, detail, request_id), StatusCode::NOT_FOUND)
}

/// The HTTP response for a problem of an import: a problem object with the status of the problem's code.
pub(super) fn import_problem_response(import_problem: &Problem, request_id: &str) -> Response {
    let status =
        StatusCode::from_u16(import_problem.code.http_status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    let detail = import_problem.detail.as_deref().unwrap_or_default();
    problem_response(problem_json(import_problem.code.name(), status.as_u16(), detail, request_id), status)
}

/// `GET /imports/{id}/report`: returns one line of JSON for each rejected or differing record of the import.
pub(super) async fn get_import_report(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    CurrentUser(actor): CurrentUser,
) -> Response {
    let store = app.services.store.clone();
    let id = event_id::parse(&id).unwrap_or_default();
    match import_job::find(&store, actor.user_id, id).await {
        Ok(Some(row)) => {
            let lines = Body::from_stream(stream_report_lines(store, actor.user_id, id));
            let content_type = HeaderValue::from_static("application/x-ndjson");
            let headers = [
                (header::CONTENT_TYPE, content_type),
                (UPLOAD_OFFSET, HeaderValue::from(row.bytes_received)),
            ];
            (headers, lines).into_response()
        }
        Ok(None) => import_not_found_response(&request_id),
        Err(error) => error_response(&error.into(), &request_id),
    }
}

/// Streams the lines of the report page by page, so that the whole report is never in memory.
fn stream_report_lines(
    store: Store,
    user_id: Uuid,
    id: Uuid,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::try_unfold(Some(0), move |after: Option<i64>| {
        let store = store.clone();
        async move {
            let Some(after) = after else {
                return Ok(None);
            };
            let size = u64::try_from(PAGE_FIRST_MAX).unwrap_or_default();
            let window = Window { after: Some(after), before: None, size, from_end: false };
            let page = import_rejection::load_page(&store, user_id, id, &window)
                .await
                .map_err(std::io::Error::other)?;
            let next = page.rows.last().map(|row| row.record).filter(|_| page.has_next);
            let text: String = page.rows.iter().map(report_line).collect();
            Ok(Some((Bytes::from(text), next)))
        }
    })
}

fn report_line(row: &Rejection) -> String {
    let line = serde_json::json!({
        "record": row.record, "line": row.line, "pointer": row.pointer,
        "code": row.code.name(), "detail": row.detail, "excerpt": row.excerpt,
    });
    format!("{line}\n")
}
