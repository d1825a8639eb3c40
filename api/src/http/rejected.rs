//! `GET /imports/{id}/rejected`: the rejected records of an import as they were sent, each with its reason. They are cut
//! out of the payload once more, so that there is nothing to keep.

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
use formats::rejected::Rejected;
use formats::{Input, ReadError};
use futures::stream;
use service::Store;
use service::StoredPayload;
use service::queries::page::Window;
use service::queries::{import_job, import_rejection};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::payload::{UPLOAD_OFFSET, no_import, show_problem};
use super::{App, Caller, RequestId, refused};
use crate::error::ApiError;

/// What it costs: the whole payload may have to be read.
const POINTS: u32 = 50;
/// The client may keep the writer waiting for this long in all, plus one second for each
/// [`BODY_BYTES_A_SECOND_MIN`] bytes it was sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pieces of the answer that wait for the client.
const RECORDS_AHEAD: usize = 64;

/// A record to be written, by its number, and why it was rejected.
type Wanted = (i64, String);
/// Pieces of the answer; it breaks off at an error.
type Pieces = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// `GET /imports/{id}/rejected`
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(id): Path<String>,
    Caller(actor): Caller,
) -> Response {
    let store = &app.services.store;
    let row = match import_job::find(store, actor.user_id, event_id::parse(&id).unwrap_or_default()).await {
        Ok(Some(row)) => row,
        Ok(None) => return no_import(&request_id),
        Err(error) => return refused(&error.into(), &request_id),
    };
    let mut response = answer(&app, &row, &request_id).await;
    response.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(row.bytes_received));
    response
}

async fn answer(app: &App, row: &ImportRow, request_id: &str) -> Response {
    if !row.has_payload() {
        return show_problem(&without_payload(row), request_id);
    }
    let Some(turn) = Readers::turn(&app.payload_readers, row.user_id) else {
        return refused(&ApiError::Unavailable, request_id);
    };
    let charge = match app.limiter.as_ref().map(|limiter| limiter.take(row.user_id, POINTS)).transpose() {
        Ok(charge) => charge,
        Err(error) => return refused(&error, request_id),
    };
    match begin(app, row, turn).await {
        Ok(mut response) => {
            if let Some(charge) = charge {
                charge.write(response.headers_mut());
            }
            response
        }
        Err(error) => match error.problem() {
            Some(problem) => show_problem(&problem, request_id),
            None => refused(&ApiError::Unavailable, request_id),
        },
    }
}

/// The users whose payloads are read now, each of them once: one alone cannot keep the others out.
#[derive(Debug, Default)]
pub(crate) struct Readers(Mutex<HashSet<Uuid>>);

impl Readers {
    /// A turn for a user; `None` if this one has a turn, or all turns are given.
    fn turn(readers: &Arc<Self>, user_id: Uuid) -> Option<Turn> {
        let mut users = readers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = users.len() < PAYLOADS_READ_AT_ONCE_MAX && users.insert(user_id);
        is_free.then(|| Turn { readers: Arc::clone(readers), user_id })
    }
}

/// Given back when it is dropped.
struct Turn {
    readers: Arc<Readers>,
    user_id: Uuid,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.readers.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.user_id);
    }
}

fn without_payload(row: &ImportRow) -> Problem {
    if row.payload_removed_at.is_some() {
        Problem::new(
            Code::PayloadGone,
            "the payload is no longer kept; the report still tells what was wrong",
        )
    } else {
        Problem::new(Code::ImportState, "its payload has not arrived yet")
    }
}

/// Opens the payload, and answers once it can be read.
async fn begin(app: &App, row: &ImportRow, turn: Turn) -> Result<Response, ReadError> {
    let (pieces, pieces_out) = mpsc::channel(RECORDS_AHEAD);
    let (wanted_in, wanted) = mpsc::channel(RECORDS_AHEAD);
    let (opened_in, opened) = oneshot::channel();
    let is_read = pieces.clone();
    let payload = StoredPayload::new(&app.services.payloads, row, move || !is_read.is_closed());
    let (format, csv) = (row.format, row.options.csv.clone());
    tokio::spawn(ask(app.services.store.clone(), row.clone(), wanted_in));
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        match Rejected::open(&Input::new(Arc::new(payload)), format, csv.as_ref()) {
            Ok(rejected) => {
                if opened_in.send(Ok(rejected.media_type())).is_ok() {
                    write(rejected, wanted, &pieces);
                }
            }
            Err(error) => {
                let _nobody_waits = opened_in.send(Err(error));
            }
        }
    });
    let gone = || ReadError::Source(formats::SourceError::Unavailable);
    let media_type = opened.await.unwrap_or_else(|_| Err(gone()))?;
    let body = Body::from_stream(stream::unfold(pieces_out, |mut pieces| async move {
        let next = pieces.recv().await?;
        Some((next, pieces))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}

/// Asks for the rejections page by page, in order.
async fn ask(store: Store, row: ImportRow, wanted: mpsc::Sender<Result<Wanted, std::io::Error>>) {
    let size = u64::try_from(PAGE_FIRST_MAX).unwrap_or_default();
    let mut after = 0;
    loop {
        let window = Window { after: Some(after), before: None, size, from_end: false };
        let page = match import_rejection::page(&store, row.user_id, row.id, &window).await {
            Ok(page) => page,
            Err(error) => {
                let _nobody_waits = wanted.send(Err(std::io::Error::other(error))).await;
                return;
            }
        };
        let Some(last) = page.rows.last().map(|row| row.record) else { return };
        let rejected = page.rows.iter().filter(|row| row.code != Code::Differs);
        for Rejection { record, code, detail, .. } in rejected {
            if wanted.send(Ok((*record, format!("{}: {detail}", code.name())))).await.is_err() {
                return;
            }
        }
        if !page.has_next {
            return;
        }
        after = last;
    }
}

/// Writes the records until the end, an error, or until nobody reads any more. Blocks.
fn write(
    mut rejected: Rejected,
    mut wanted: mpsc::Receiver<Result<Wanted, std::io::Error>>,
    pieces: &Pieces,
) {
    let (mut sent, mut waited) = (0, Duration::ZERO);
    let mut send = |bytes: Vec<u8>| {
        let (length, begun) = (bytes.len(), Instant::now());
        let is_read = pieces.blocking_send(Ok(Bytes::from(bytes))).is_ok();
        sent += length;
        waited += begun.elapsed();
        let most = PATIENCE + Duration::from_secs((sent / BODY_BYTES_A_SECOND_MIN) as u64);
        if is_read && waited > most {
            let too_slow = std::io::Error::other("it is read too slowly");
            let _nobody_reads = pieces.blocking_send(Err(too_slow));
        }
        is_read && waited <= most
    };
    let mut is_read = send(rejected.begin());
    while let Some(next) = wanted.blocking_recv().filter(|_| is_read) {
        let written =
            next.and_then(|(record, reason)| rejected.record(record, &reason).map_err(std::io::Error::other));
        match written {
            Ok(Some(bytes)) => is_read = send(bytes),
            Ok(None) => break,
            Err(error) => {
                let _nobody_reads = pieces.blocking_send(Err(error));
                return;
            }
        }
    }
    if is_read {
        send(rejected.end());
    }
}
