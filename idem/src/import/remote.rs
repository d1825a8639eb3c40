//! The HTTP client of `idem import` and `idem stats`: GraphQL calls, and HEAD and PUT of a payload. It separates temporary
//! failures, such as a broken connection or a busy server, from permanent ones.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Client, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::args::flag_of_mapping_pointer;
use super::follow::Subscription;

const UPLOAD_OFFSET: &str = "upload-offset";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is waited for. If the server asks for more, the next attempt is made after
/// this time.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Codes of GraphQL errors after which the same request may succeed later.
const TEMPORARY_CODES: [&str; 3] = ["UNAVAILABLE", "RATE_LIMITED", "INTERNAL"];

/// Why a call of the server failed.
pub(crate) enum Failure {
    /// Another attempt may succeed, but not before `wait` has passed.
    Temporary { error: anyhow::Error, wait: Duration },
    /// The same call would fail in the same way.
    Permanent(anyhow::Error),
}

impl Failure {
    /// A temporary failure whose `wait` is zero.
    pub(super) fn temporary_failure(error: impl Into<anyhow::Error>) -> Self {
        Self::Temporary { error: error.into(), wait: Duration::ZERO }
    }

    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Temporary { error, .. } | Self::Permanent(error) => error,
        }
    }
}

/// A `Problem` in a GraphQL response of the server, with the fields that are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    pub(super) code: String,
    pub(super) detail: Option<String>,
    /// The fields that are wrong, if the query selects them.
    #[serde(default)]
    errors: Vec<FieldProblem>,
}

/// What is wrong with one field of a GraphQL input.
#[derive(Debug, Deserialize)]
struct FieldProblem {
    pointer: String,
    code: String,
    detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.errors.is_empty() {
            let each = self.errors.iter().map(|FieldProblem { pointer, code, detail }| {
                format!(
                    "{code}: {} {detail}",
                    flag_of_mapping_pointer(pointer).unwrap_or_else(|| pointer.clone())
                )
            });
            return out.write_str(&each.collect::<Vec<_>>().join("; "));
        }
        match &self.detail {
            Some(detail) => write!(out, "{}: {detail}", self.code),
            None => out.write_str(&self.code),
        }
    }
}

/// How much of a payload the server has stored.
pub(super) enum Received {
    /// The number of bytes that the server has stored.
    Bytes(u64),
    /// The server accepts no more bytes: it has all of them, or the import has ended.
    Closed,
}

/// A client of one server with the token of one user.
pub(crate) struct Remote {
    http: Client,
    base: String,
}

impl Remote {
    pub(crate) fn new(url: &str, token: &str) -> anyhow::Result<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .context("the token has characters that a token cannot have")?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        let http = Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot create an HTTP client")?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned() })
    }

    /// Sends a query or a mutation once, and returns the `data` of the response. A response with an error is
    /// a failure.
    pub(crate) async fn send_graphql<T: DeserializeOwned>(
        &self,
        query: &str,
        variables: Value,
    ) -> Result<T, Failure> {
        let body = json!({ "query": query, "variables": variables });
        let request = self.http.post(format!("{}/graphql", self.base)).timeout(RESPONSE_TIMEOUT).json(&body);
        let response = request.send().await.map_err(Failure::temporary_failure)?;
        if !response.status().is_success() {
            return Err(failure_from_response(response).await);
        }
        let mut result: Value = response.json().await.map_err(Failure::temporary_failure)?;
        if let Some(error) = result["errors"].get(0) {
            let message = error["message"].as_str().unwrap_or("an error without a message");
            let code = error["extensions"]["code"].as_str().unwrap_or_default();
            let error = anyhow!("the server responded with an error: {message}");
            let is_temporary = TEMPORARY_CODES.contains(&code);
            return Err(if is_temporary {
                Failure::temporary_failure(error)
            } else {
                Failure::Permanent(error)
            });
        }
        serde_json::from_value(result["data"].take())
            .context("the response does not match the query: is --url the URL of an Idem server?")
            .map_err(Failure::Permanent)
    }

    /// Starts a GraphQL subscription over server-sent events. Returns when the server has accepted it.
    pub(super) async fn subscribe(&self, query: &str, variables: Value) -> anyhow::Result<Subscription> {
        let body = json!({ "query": query, "variables": variables });
        let request =
            self.http.post(format!("{}/graphql", self.base)).header(ACCEPT, "text/event-stream").json(&body);
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, request.send()).await??;
        if !response.status().is_success() {
            return Err(failure_from_response(response).await.into_error());
        }
        Subscription::new(response)
    }

    /// Asks the server once (HEAD) how much of the payload at the URL path `path` it has stored.
    pub(super) async fn query_received_bytes(&self, path: &str) -> Result<Received, Failure> {
        let request = self.http.head(format!("{}{path}", self.base)).timeout(RESPONSE_TIMEOUT);
        let response = request.send().await.map_err(Failure::temporary_failure)?;
        match response.status() {
            StatusCode::CONFLICT => Ok(Received::Closed),
            status if status.is_success() => parse_upload_offset(&response).map(Received::Bytes),
            _ => Err(failure_from_response(response).await),
        }
    }

    /// Uploads the `length` bytes of `body`, which start at offset `from` of the payload, in one PUT without
    /// a timeout. Returns how much of the payload the server has stored after that.
    pub(super) async fn upload_payload_part(
        &self,
        path: &str,
        from: u64,
        length: u64,
        body: Body,
    ) -> Result<Received, Failure> {
        let request = self
            .http
            .put(format!("{}{path}", self.base))
            .header(UPLOAD_OFFSET, from)
            .header(CONTENT_LENGTH, length)
            .body(body);
        let response = request.send().await.map_err(Failure::temporary_failure)?;
        if response.status().is_success() {
            return parse_upload_offset(&response).map(Received::Bytes);
        }
        if response.status() != StatusCode::CONFLICT {
            return Err(failure_from_response(response).await);
        }
        // Another offset than the one that was sent is where the upload continues. An earlier attempt may have
        // stored more bytes after the server was asked. With the same offset, the import accepts no payload.
        let right_offset = parse_upload_offset(&response)?;
        Ok(if right_offset == from { Received::Closed } else { Received::Bytes(right_offset) })
    }
}

/// The number of stored bytes in the header `Upload-Offset` of a response. Without it, the failure is
/// permanent.
fn parse_upload_offset(response: &Response) -> Result<u64, Failure> {
    let text = response.headers().get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok())
        .context("the response has no valid Upload-Offset: is --url the URL of an Idem server?")
        .map_err(Failure::Permanent)
}

/// Turns a response with an error status into a failure, with the server's text. It is temporary for the
/// statuses 5xx, 408 and 429.
async fn failure_from_response(response: Response) -> Failure {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = after.map(Duration::from_secs).unwrap_or_default().min(RETRY_AFTER_MAX);
    let body: Value = response.json().await.unwrap_or_default();
    let texts = [&body["detail"], &body["errors"][0]["message"], &body["title"]];
    let error = match texts.iter().find_map(|text| text.as_str()) {
        Some(text) => anyhow!("the server responded {status}: {text}"),
        None => anyhow!("the server responded {status}"),
    };
    let is_temporary = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if is_temporary { Failure::Temporary { error, wait } } else { Failure::Permanent(error) }
}
