//! Handles `GET /imports/{id}/rejected`, which returns the rejected records of an import as they were sent,
//! each with its reason.
//!
//! The records are read from the payload again, so that they need not be stored separately.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::event_id;
use domain::import::{ImportRow, Rejection};
use domain::limits::{BODY_BYTES_A_SECOND_MIN, PAGE_FIRST_MAX, PAYLOADS_READ_AT_ONCE_MAX};
use domain::problem::{Code, Problem};
use formats::rejected::RejectedRecordsWriter;
use formats::{Input, ReadError};
use futures::stream;
use service::Store;
use service::StoredPayload;
use service::queries::page::Window;
use service::queries::{import_job, import_rejection};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::payload::{UPLOAD_OFFSET, import_not_found_response, import_problem_response};
use super::{App, CurrentUser, RequestId, error_response};
use crate::error::ApiError;

/// The points that a request for rejected records costs. Many, because the whole payload may have to be read.
const POINTS: u32 = 50;
/// How long the writer of a response waits for its client in total. Each [`BODY_BYTES_A_SECOND_MIN`] bytes
/// that were sent extend it by one second.
const CLIENT_WAIT_MAX: Duration = Duration::from_secs(60);
/// The most pieces of the response, and the most rejections, that wait in a channel.
const CHANNEL_CAPACITY: usize = 64;

/// A rejected record, which the response must contain.
struct RejectedRecord {
    /// The number of the record in the payload, counted from 1.
    number: i64,
    reason: String,
}

/// Sends the pieces of a response body. An error aborts the response.
type Pieces = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// `GET /imports/{id}/rejected`: returns the rejected records of an import as a file in the format of its
/// payload, each with its reason.
pub(super) async fn get_rejected_records(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    CurrentUser(actor): CurrentUser,
) -> Response {
    let store = &app.services.store;
    let row = match import_job::find(store, actor.user_id, event_id::parse(&id).unwrap_or_default()).await {
        Ok(Some(row)) => row,
        Ok(None) => return import_not_found_response(&request_id),
        Err(error) => return error_response(&error.into(), &request_id),
    };
    let mut response = respond_with_rejected_records(&app, &row, &request_id).await;
    response.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(row.bytes_received));
    response
}

async fn respond_with_rejected_records(app: &App, row: &ImportRow, request_id: &str) -> Response {
    if !row.is_whole_payload_stored() {
        return import_problem_response(&removed_or_partial_payload_problem(row), request_id);
    }
    let Some(permit) = PayloadReaders::acquire_read_permit(&app.payload_readers, row.user_id) else {
        return error_response(&ApiError::Unavailable, request_id);
    };
    let charge =
        match app.limiter.as_ref().map(|limiter| limiter.take_points(row.user_id, POINTS)).transpose() {
            Ok(charge) => charge,
            Err(error) => return error_response(&error, request_id),
        };
    match stream_rejected_records(app, row, permit).await {
        Ok(mut response) => {
            if let Some(charge) = charge {
                charge.add_rate_limit_headers(response.headers_mut());
            }
            response
        }
        Err(error) => match error.to_problem_if_permanent() {
            Some(problem) => import_problem_response(&problem, request_id),
            None => error_response(&ApiError::Unavailable, request_id),
        },
    }
}

/// The users who are downloading the rejected records of an import, for which its payload is read. Each user
/// may have one such download at a time, so that a single user cannot block the others.
#[derive(Debug, Default)]
pub(crate) struct PayloadReaders(Mutex<HashSet<Uuid>>);

impl PayloadReaders {
    /// Returns a permit for a user, without waiting. `None` if the user already has one, or no permit is
    /// left.
    fn acquire_read_permit(readers: &Arc<Self>, user_id: Uuid) -> Option<ReadPermit> {
        let mut users = readers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = users.len() < PAYLOADS_READ_AT_ONCE_MAX && users.insert(user_id);
        is_free.then(|| ReadPermit { readers: Arc::clone(readers), user_id })
    }
}

/// Permits one user to read one payload for its rejected records. It is released when it is dropped.
struct ReadPermit {
    readers: Arc<PayloadReaders>,
    user_id: Uuid,
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        self.readers.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.user_id);
    }
}

/// Why the stored payload of this import cannot be read: it was deleted, or was not uploaded completely yet.
fn removed_or_partial_payload_problem(row: &ImportRow) -> Problem {
    if row.payload_removed_at.is_some() {
        Problem::new(
            Code::PayloadGone,
            "the payload was deleted; the report still lists what was wrong with each record",
        )
    } else {
        Problem::new(Code::ImportState, "the payload of the import was not uploaded completely yet")
    }
}

/// Opens the payload, and returns a response that streams the rejected records. The payload is read while the
/// response is sent.
///
/// # Errors
/// A [`ReadError`] if the payload cannot be opened.
async fn stream_rejected_records(
    app: &App,
    row: &ImportRow,
    permit: ReadPermit,
) -> Result<Response, ReadError> {
    let (pieces, piece_receiver) = mpsc::channel(CHANNEL_CAPACITY);
    let (record_sender, records) = mpsc::channel(CHANNEL_CAPACITY);
    let (opened_sender, opened) = oneshot::channel();
    let body_sender = pieces.clone();
    // The payload is read only as long as the client is connected.
    let payload = StoredPayload::new(&app.services.payloads, row, move || !body_sender.is_closed());
    let (format, csv) = (row.format, row.options.csv.clone());
    tokio::spawn(load_and_send_rejections(app.services.store.clone(), row.clone(), record_sender));
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        match RejectedRecordsWriter::open(&Input::new(Arc::new(payload)), format, csv.as_ref()) {
            Ok(rejected) => {
                if opened_sender.send(Ok(rejected.media_type())).is_ok() {
                    write_rejected_records(rejected, records, &pieces);
                }
            }
            Err(error) => {
                let _client_may_be_gone = opened_sender.send(Err(error));
            }
        }
    });
    let aborted = || ReadError::Source(formats::SourceError::Unavailable);
    let media_type = opened.await.unwrap_or_else(|_| Err(aborted()))?;
    let body = Body::from_stream(stream::unfold(piece_receiver, |mut pieces| async move {
        let next = pieces.recv().await?;
        Some((next, pieces))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}

/// Loads the rejections page by page, in the order of the records, and sends them to the writer. Records that
/// only differ from what is stored are left out.
async fn load_and_send_rejections(
    store: Store,
    row: ImportRow,
    records: mpsc::Sender<Result<RejectedRecord, std::io::Error>>,
) {
    let size = u64::try_from(PAGE_FIRST_MAX).unwrap_or_default();
    let mut after = 0;
    loop {
        let window = Window { after: Some(after), before: None, size, from_end: false };
        let page = match import_rejection::load_page(&store, row.user_id, row.id, &window).await {
            Ok(page) => page,
            Err(error) => {
                let _writer_may_be_gone = records.send(Err(std::io::Error::other(error))).await;
                return;
            }
        };
        let Some(last) = page.rows.last().map(|row| row.record) else { return };
        let rejected = page.rows.iter().filter(|row| row.code != Code::Differs);
        for Rejection { record, code, detail, .. } in rejected {
            let reason = format!("{}: {detail}", code.name());
            if records.send(Ok(RejectedRecord { number: *record, reason })).await.is_err() {
                return;
            }
        }
        if !page.has_next {
            return;
        }
        after = last;
    }
}

/// Reads the payload and writes the rejected records to the response, until the end, an error, or until the
/// client is gone or too slow. Blocks the thread.
fn write_rejected_records(
    mut rejected: RejectedRecordsWriter,
    mut records: mpsc::Receiver<Result<RejectedRecord, std::io::Error>>,
    pieces: &Pieces,
) {
    let (mut sent_bytes, mut waited) = (0, Duration::ZERO);
    // Returns whether the client still reads fast enough.
    let mut send = |bytes: Vec<u8>| {
        let (length, started_at) = (bytes.len(), Instant::now());
        let is_connected = pieces.blocking_send(Ok(Bytes::from(bytes))).is_ok();
        sent_bytes += length;
        waited += started_at.elapsed();
        let wait_max = CLIENT_WAIT_MAX + Duration::from_secs((sent_bytes / BODY_BYTES_A_SECOND_MIN) as u64);
        if is_connected && waited > wait_max {
            let too_slow = std::io::Error::other("the client reads too slowly");
            let _client_may_be_gone = pieces.blocking_send(Err(too_slow));
        }
        is_connected && waited <= wait_max
    };
    let mut is_reading = send(rejected.content_before_records());
    while let Some(next) = records.blocking_recv().filter(|_| is_reading) {
        let written = next.and_then(|RejectedRecord { number, reason }| {
            rejected.read_record_with_reason(number, &reason).map_err(std::io::Error::other)
        });
        match written {
            Ok(Some(bytes)) => is_reading = send(bytes),
            Ok(None) => break,
            Err(error) => {
                let _client_may_be_gone = pieces.blocking_send(Err(error));
                return;
            }
        }
    }
    if is_reading {
        send(rejected.content_after_records());
    }
}
