//! Handles `POST /imports/preview`, which shows how an import would read a file.
//!
//! The client sends the beginning of the file, and for a zip also its end. Nothing is stored.

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
use formats::preview::{Request, preview_file};
use formats::{Input, PartialSource};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::{drain_body, drain_start_of_refused_body, read_and_decode_body};
use super::encoding::Encoding;
use super::{App, RequestId, error_response, problem_response};
use crate::error::{ApiError, problem_json};
use crate::graphql::input::CsvMapping;

/// How long a request for a preview waits until fewer than
/// [`PREVIEWS_AT_ONCE_MAX`](domain::limits::PREVIEWS_AT_ONCE_MAX) other previews are made.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most characters of a JSON parse error that a response shows.
const PARSE_ERROR_CHARS_MAX: usize = 300;
/// The most bytes of a refused body that are discarded before the response.
const DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The JSON body of a request for a preview.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestBody {
    /// The size of the whole file in bytes.
    size: u64,
    /// The beginning of the file, in base64.
    head: String,
    /// The end of the file, in base64.
    tail: Option<String>,
    format: Option<String>,
    csv: Option<CsvMapping>,
    rows: Option<usize>,
}

/// A request for a preview whose body was parsed and checked.
struct PreviewRequest {
    source: PartialSource,
    format: Option<Format>,
    csv: Option<CsvMapping>,
    rows: usize,
}

/// `POST /imports/preview`: returns how an import would read a file. The body contains only parts of the file.
/// Stores nothing, and costs one point.
pub(super) async fn post_preview(
    State(app): State<Arc<App>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
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
    let encoding = match Encoding::from_headers(&headers) {
        Ok(encoding) => encoding,
        Err(detail) => {
            drain_body(body, DISCARDED_BYTES_MAX).await;
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let problem = problem_json("BAD_USER_INPUT", status.as_u16(), &detail, &request_id);
            return problem_response(problem, status);
        }
    };
    let result = async {
        let (bytes, _memory_permit) = read_and_decode_body(&app.bodies, &headers, encoding, body).await?;
        let request = PreviewRequest::parse_request(&bytes)?;
        let permit = timeout(PERMIT_TIMEOUT, Arc::clone(&app.previews).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(ApiError::Unavailable)?;
        let charge = app.limiter.as_ref().map(|limiter| limiter.take_points(actor.user_id, 1)).transpose()?;
        let preview = make_preview(request, permit).await?;
        Ok::<_, ApiError>((charge, preview))
    };
    match result.await {
        Ok((charge, preview)) => {
            let mut response = Json(preview).into_response();
            response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
            if let Some(charge) = charge {
                charge.add_rate_limit_headers(response.headers_mut());
            }
            response
        }
        Err(error) => error_response(&error, &request_id),
    }
}

/// Makes the preview in a blocking thread, which keeps `permit` until the preview is made.
///
/// # Errors
/// [`ApiError::Internal`] if the reader of the format panics.
async fn make_preview(request: PreviewRequest, permit: OwnedSemaphorePermit) -> Result<Value, ApiError> {
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let (mapping, problems) = request.csv.map(CsvMapping::into_mapping_and_problems).unzip();
        let preview_request = Request {
            format: request.format,
            file_name: "",
            mapping: mapping.as_ref(),
            records: request.rows,
            reads_all: false,
        };
        let input = Input::new(Arc::new(request.source)).with_decoded_limit(PREVIEW_DECODED_BYTES_MAX);
        let mut preview = preview_file(&input, &preview_request);
        preview.problems.extend(problems.unwrap_or_default());
        preview.to_json()
    });
    // If a file makes a reader panic, the fault is in the reader.
    task.await.map_err(|_| ApiError::Internal)
}

impl PreviewRequest {
    /// Parses the JSON body of a request for a preview, and checks its values.
    ///
    /// # Errors
    /// [`ApiError::BadUserInput`] if the body is malformed or a value is out of range.
    fn parse_request(bytes: &[u8]) -> Result<Self, ApiError> {
        let body: RequestBody = serde_json::from_slice(bytes).map_err(|error| {
            // The library names the field. It may also quote the value, so the text is cut.
            let error: String = error.to_string().chars().take(PARSE_ERROR_CHARS_MAX).collect();
            bad_user_input(&format!("the body must be {{ size, head, tail, format, csv, rows }}: {error}"))
        })?;
        let head = decode_file_part("head", &body.head)?;
        let tail = decode_file_part("tail", body.tail.as_deref().unwrap_or_default())?;
        let source = PartialSource::new(body.size, head, tail).ok_or_else(|| {
            bad_user_input("/size: must be the size of the whole file, so at least that of head and of tail")
        })?;
        let format = body.format.map(|name| {
            Format::from_name(&name)
                .ok_or_else(|| bad_user_input("/format: must be NDJSON, JSON, CSV or APPLE_HEALTH"))
        });
        let rows = body.rows.unwrap_or(PREVIEW_ROWS_DEFAULT);
        if !(1..=PREVIEW_ROWS_MAX).contains(&rows) {
            return Err(bad_user_input(&format!("/rows: must be 1 to {PREVIEW_ROWS_MAX}")));
        }
        Ok(Self { source, format: format.transpose()?, csv: body.csv, rows })
    }
}

/// Decodes the base64 of a part of the file. `name` is the member of the body that contains it, for the
/// error.
///
/// # Errors
/// [`ApiError::BadUserInput`] if it is not base64 or too long.
fn decode_file_part(name: &str, base64: &str) -> Result<Vec<u8>, ApiError> {
    let bytes = BASE64_STANDARD.decode(base64).ok().filter(|bytes| bytes.len() <= PREVIEW_PART_BYTES_MAX);
    bytes.ok_or_else(|| {
        bad_user_input(&format!(
            "/{name}: must be base64 (RFC 4648, section 4) of at most {PREVIEW_PART_BYTES_MAX} bytes"
        ))
    })
}

fn bad_user_input(detail: &str) -> ApiError {
    ApiError::BadUserInput(detail.to_owned())
}
