//! `POST /imports/preview`: shows how an import would read a file. The client sends the beginning of the file, and for
//! a zip its end as well. Nothing is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::import::Format;
use domain::limits::{
    PREVIEW_DECODED_BYTES_MAX, PREVIEW_PART_BYTES_MAX, PREVIEW_ROWS_DEFAULT, PREVIEW_ROWS_MAX,
};
use formats::preview::{Request, preview};
use formats::{Input, PartialSource};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::{drain, drain_anonymous, read};
use super::encoding::Encoding;
use super::{App, RequestId, plain, refused};
use crate::error::{ApiError, problem};
use crate::graphql::input::CsvMapping;

/// How long a preview waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(10);
/// So much is told of what is wrong with the body.
const FAULT_CHARS_MAX: usize = 300;
/// Of a body that is not read, so much is passed over before the answer.
const LEFT_OVER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sent {
    /// Bytes of the whole file.
    size: u64,
    /// Its beginning, in base64.
    head: String,
    /// Its end, in base64.
    tail: Option<String>,
    format: Option<String>,
    csv: Option<CsvMapping>,
    rows: Option<usize>,
}

/// What is to be looked at.
struct Wanted {
    source: PartialSource,
    format: Option<Format>,
    csv: Option<CsvMapping>,
    rows: usize,
}

/// `POST /imports/preview`
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
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
    let encoding = match Encoding::of(&headers) {
        Ok(encoding) => encoding,
        Err(detail) => {
            drain(body, LEFT_OVER_BYTES_MAX).await;
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return plain(problem("BAD_USER_INPUT", status.as_u16(), &detail, &request_id), status);
        }
    };
    let answer = async {
        let (bytes, _room) = read(&app.bodies, &headers, encoding, body).await?;
        let wanted = Wanted::parse(&bytes)?;
        let turn = timeout(TURN_MAX, Arc::clone(&app.previews).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(ApiError::Unavailable)?;
        let charge = app.limiter.as_ref().map(|limiter| limiter.take(actor.user_id, 1)).transpose()?;
        let seen = look(wanted, turn).await?;
        Ok::<_, ApiError>((charge, seen))
    };
    match answer.await {
        Ok((charge, seen)) => {
            let mut response = Json(seen).into_response();
            response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
            if let Some(charge) = charge {
                charge.write(response.headers_mut());
            }
            response
        }
        Err(error) => refused(&error, &request_id),
    }
}

/// Looks at it in a thread that may block.
async fn look(wanted: Wanted, turn: OwnedSemaphorePermit) -> Result<Value, ApiError> {
    let looking = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let (mapping, problems) = wanted.csv.map(CsvMapping::read).unzip();
        let request = Request {
            format: wanted.format,
            file_name: "",
            mapping: mapping.as_ref(),
            records: wanted.rows,
            reads_all: false,
        };
        let input = Input::new(Arc::new(wanted.source)).cut_after(PREVIEW_DECODED_BYTES_MAX);
        let mut seen = preview(&input, &request);
        seen.problems.extend(problems.unwrap_or_default());
        seen.to_json()
    });
    // A file that makes a reader fail is our own mistake.
    looking.await.map_err(|_| ApiError::Internal)
}

impl Wanted {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let sent: Sent = serde_json::from_slice(bytes).map_err(|error| {
            // The library names the field, and may quote what was sent.
            let told: String = error.to_string().chars().take(FAULT_CHARS_MAX).collect();
            bad(&format!("the body is not {{ size, head, tail, format, csv, rows }}: {told}"))
        })?;
        let head = part("head", &sent.head)?;
        let tail = part("tail", sent.tail.as_deref().unwrap_or_default())?;
        let source = PartialSource::new(sent.size, head, tail)
            .ok_or_else(|| bad("/size: must be that of the whole file, of which head and tail are parts"))?;
        let format = sent.format.map(|name| {
            Format::from_name(&name).ok_or_else(|| bad("/format: must be NDJSON, JSON, CSV or APPLE_HEALTH"))
        });
        let rows = sent.rows.unwrap_or(PREVIEW_ROWS_DEFAULT);
        if !(1..=PREVIEW_ROWS_MAX).contains(&rows) {
            return Err(bad(&format!("/rows: must be 1 to {PREVIEW_ROWS_MAX}")));
        }
        Ok(Self { source, format: format.transpose()?, csv: sent.csv, rows })
    }
}

fn part(name: &str, base64: &str) -> Result<Vec<u8>, ApiError> {
    let bytes = BASE64_STANDARD.decode(base64).ok().filter(|bytes| bytes.len() <= PREVIEW_PART_BYTES_MAX);
    bytes.ok_or_else(|| {
        bad(&format!(
            "/{name}: must be base64 (RFC 4648, section 4) of at most {PREVIEW_PART_BYTES_MAX} bytes"
        ))
    })
}

fn bad(detail: &str) -> ApiError {
    ApiError::BadUserInput(detail.to_owned())
}
