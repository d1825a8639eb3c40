//! `/imports/{id}/…`: the bytes that go into an import, and the report that comes out.

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

use super::body::{PROGRESS_TIMEOUT, drain_anonymous, pass_over};
use super::encoding::Encoding;
use super::{App, Caller, RequestId, plain, refused};
use crate::error::{ApiError, problem};

/// How many bytes of the payload are stored.
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// How long it may take to look how far an upload is that was refused.
const OFFSET_MAX: Duration = Duration::from_secs(2);
/// Of a payload that is not taken, so much is passed over before the answer.
const LEFT_OVER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// `PUT /imports/{id}/payload`
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let actor = match app.keys.authenticate(&headers, &app.services.store).await {
        Ok(actor) => actor,
        Err(error) => {
            drain_anonymous(body).await;
            return refused(&error, &request_id);
        }
    };
    let id = event_id::parse(&id).unwrap_or_default();
    let mut response = take(&app, &actor, id, &headers, body, &request_id).await;
    if !response.headers().contains_key(&UPLOAD_OFFSET) {
        // The client resumes from this offset after any refusal. The timeout keeps a database that is down from
        // delaying the answer a second time.
        let looked = timeout(OFFSET_MAX, service::payload_offset(&app.services.store, &actor, id)).await;
        if let Ok(Ok(Receipt { offset: Some(offset), .. })) = looked {
            response.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(offset));
        }
    }
    response
}

/// Takes the bytes for an import.
async fn take(
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
            pass_over(body.into_data_stream(), LEFT_OVER_BYTES_MAX).await;
            let error = ApiError::BadUserInput("Upload-Offset must be a number".to_owned());
            return refused(&error, request_id);
        }
    };
    let encoding = match Encoding::of(headers) {
        Ok(encoding) => encoding,
        Err(detail) => {
            drain_anonymous(body).await;
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return plain(problem("BAD_USER_INPUT", status.as_u16(), &detail, request_id), status);
        }
    };
    let Ok(_room) = Arc::clone(&app.uploads).try_acquire_owned() else {
        drain_anonymous(body).await;
        return refused(&ApiError::Unavailable, request_id);
    };
    let mut bytes = Box::pin(with_pause_limit(body).fuse().peekable());
    // What goes on in the middle tells nothing of its encoding.
    let is_asked = encoding != Encoding::Identity && offset.unwrap_or_default() == 0;
    let first = if is_asked { bytes.as_mut().peek().await } else { None };
    let services = &app.services;
    if first.is_some_and(|piece| piece.as_ref().is_ok_and(|piece| !encoding.fits(piece))) {
        pass_over(bytes, LEFT_OVER_BYTES_MAX).await;
        let error = ApiError::BadUserInput("the payload is not what its Content-Encoding says".to_owned());
        return refused(&error, request_id);
    }
    let (store, payloads, notifier) = (&services.store, &services.payloads, services.notifier.as_ref());
    let received = service::receive_payload(store, payloads, notifier, actor, id, offset, &mut bytes).await;
    // What was not taken is passed over: a sender that is still writing would not read the answer.
    pass_over(bytes, LEFT_OVER_BYTES_MAX).await;
    match received {
        Ok(receipt) => show(receipt, request_id),
        Err(error) => refused(&error.into(), request_id),
    }
}

/// A body that ends in an error when it makes no progress.
fn with_pause_limit(body: Body) -> impl Stream<Item = Result<Bytes, ()>> + Send {
    stream::unfold(body.into_data_stream(), |mut stream| async move {
        let next = timeout(PROGRESS_TIMEOUT, stream.next()).await.unwrap_or(None)?;
        Some((next.map_err(|_| ()), stream))
    })
}

/// `HEAD /imports/{id}/payload`
pub(super) async fn head(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    Caller(actor): Caller,
) -> Response {
    let store = &app.services.store;
    match service::payload_offset(store, &actor, event_id::parse(&id).unwrap_or_default()).await {
        Ok(receipt) => show(receipt, &request_id),
        Err(error) => refused(&error.into(), &request_id),
    }
}

fn show(receipt: Receipt, request_id: &str) -> Response {
    let mut response = match receipt.problem {
        None => StatusCode::OK.into_response(),
        Some(problem) => show_problem(&problem, request_id),
    };
    if let Some(offset) = receipt.offset {
        response.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(offset));
    }
    response
}

pub(super) fn no_import(request_id: &str) -> Response {
    let detail = "no import is known by this id";
    plain(problem("NOT_FOUND", 404, detail, request_id), StatusCode::NOT_FOUND)
}

pub(super) fn show_problem(fault: &Problem, request_id: &str) -> Response {
    let status = StatusCode::from_u16(fault.code.status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    let detail = fault.detail.as_deref().unwrap_or_default();
    plain(problem(fault.code.name(), status.as_u16(), detail, request_id), status)
}

/// `GET /imports/{id}/report`: a refused or differing record a line.
pub(super) async fn report(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    Caller(actor): Caller,
) -> Response {
    let store = app.services.store.clone();
    let id = event_id::parse(&id).unwrap_or_default();
    match import_job::find(&store, actor.user_id, id).await {
        Ok(Some(row)) => {
            let lines = Body::from_stream(lines(store, actor.user_id, id));
            let kind = HeaderValue::from_static("application/x-ndjson");
            let headers =
                [(header::CONTENT_TYPE, kind), (UPLOAD_OFFSET, HeaderValue::from(row.bytes_received))];
            (headers, lines).into_response()
        }
        Ok(None) => no_import(&request_id),
        Err(error) => refused(&error.into(), &request_id),
    }
}

/// The report page by page: it never stands in memory as a whole.
fn lines(store: Store, user_id: Uuid, id: Uuid) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::try_unfold(Some(0), move |after: Option<i64>| {
        let store = store.clone();
        async move {
            let Some(after) = after else {
                return Ok(None);
            };
            let size = u64::try_from(PAGE_FIRST_MAX).unwrap_or_default();
            let window = Window { after: Some(after), before: None, size, from_end: false };
            let page =
                import_rejection::page(&store, user_id, id, &window).await.map_err(std::io::Error::other)?;
            let next = page.rows.last().map(|row| row.record).filter(|_| page.has_next);
            let text: String = page.rows.iter().map(line).collect();
            Ok(Some((Bytes::from(text), next)))
        }
    })
}

fn line(row: &Rejection) -> String {
    let line = serde_json::json!({
        "record": row.record, "line": row.line, "pointer": row.pointer,
        "code": row.code.name(), "detail": row.detail, "excerpt": row.excerpt,
    });
    format!("{line}\n")
}
