//! The server as the import sees it: GraphQL calls and the two verbs of a payload. It tells what may pass
//! (a cut, a busy server) from what will not.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Client, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::args::flag_of;
use super::follow::Follower;

const UPLOAD_OFFSET: &str = "upload-offset";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that asks for more patience than this is asked again anyway.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// GraphQL errors that another try may not meet.
const PASSING_CODES: [&str; 3] = ["UNAVAILABLE", "RATE_LIMITED", "INTERNAL"];

/// Why a call brought nothing.
pub(super) enum Failure {
    /// Worth another try, not before `wait`.
    Passing { error: anyhow::Error, wait: Duration },
    /// The same call would fail the same way.
    Lasting(anyhow::Error),
}

impl Failure {
    pub(super) fn passing(error: impl Into<anyhow::Error>) -> Self {
        Self::Passing { error: error.into(), wait: Duration::ZERO }
    }

    pub(super) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Passing { error, .. } | Self::Lasting(error) => error,
        }
    }
}

/// The part of a GraphQL `Problem` that is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    pub(super) code: String,
    pub(super) detail: Option<String>,
    /// The fields that are wrong, where they were asked for.
    #[serde(default)]
    errors: Vec<FieldProblem>,
}

/// A field that is wrong.
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
                format!("{code}: {} {detail}", flag_of(pointer).unwrap_or_else(|| pointer.clone()))
            });
            return out.write_str(&each.collect::<Vec<_>>().join("; "));
        }
        match &self.detail {
            Some(detail) => write!(out, "{}: {detail}", self.code),
            None => out.write_str(&self.code),
        }
    }
}

/// What the server has of a payload.
pub(super) enum Received {
    /// This many bytes.
    Bytes(u64),
    /// It takes no bytes any more: all are there, or the import has ended.
    Closed,
}

/// One server, as one user.
pub(super) struct Remote {
    http: Client,
    base: String,
}

impl Remote {
    pub(super) fn new(url: &str, token: &str) -> anyhow::Result<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .context("the token holds characters that no token has")?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        let http = Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned() })
    }

    pub(super) async fn graphql<T: DeserializeOwned>(
        &self,
        query: &str,
        variables: Value,
    ) -> Result<T, Failure> {
        let body = json!({ "query": query, "variables": variables });
        let request = self.http.post(format!("{}/graphql", self.base)).timeout(ANSWER_TIMEOUT).json(&body);
        let answer = request.send().await.map_err(Failure::passing)?;
        if !answer.status().is_success() {
            return Err(refused(answer).await);
        }
        let mut answer: Value = answer.json().await.map_err(Failure::passing)?;
        if let Some(error) = answer["errors"].get(0) {
            let message = error["message"].as_str().unwrap_or("an error without a message");
            let code = error["extensions"]["code"].as_str().unwrap_or_default();
            let error = anyhow!("the server answers: {message}");
            let is_passing = PASSING_CODES.contains(&code);
            return Err(if is_passing { Failure::passing(error) } else { Failure::Lasting(error) });
        }
        serde_json::from_value(answer["data"].take())
            .context("the server's answer is not what was asked for: is this Idem?")
            .map_err(Failure::Lasting)
    }

    /// Begins a subscription.
    pub(super) async fn follow(&self, query: &str, variables: Value) -> anyhow::Result<Follower> {
        let body = json!({ "query": query, "variables": variables });
        let request =
            self.http.post(format!("{}/graphql", self.base)).header(ACCEPT, "text/event-stream").json(&body);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await??;
        if !answer.status().is_success() {
            return Err(refused(answer).await.into_error());
        }
        Follower::new(answer)
    }

    /// How much of the payload at `path` has arrived.
    pub(super) async fn received(&self, path: &str) -> Result<Received, Failure> {
        let request = self.http.head(format!("{}{path}", self.base)).timeout(ANSWER_TIMEOUT);
        let answer = request.send().await.map_err(Failure::passing)?;
        match answer.status() {
            StatusCode::CONFLICT => Ok(Received::Closed),
            status if status.is_success() => offset(&answer).map(Received::Bytes),
            _ => Err(refused(answer).await),
        }
    }

    /// Sends the `length` bytes of `body`, which begin at `from` in the payload; says what has arrived then.
    pub(super) async fn put(
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
        let answer = request.send().await.map_err(Failure::passing)?;
        if answer.status().is_success() {
            return offset(&answer).map(Received::Bytes);
        }
        if answer.status() != StatusCode::CONFLICT {
            return Err(refused(answer).await);
        }
        let right = offset(&answer);
        let problem: Value = answer.json().await.unwrap_or_default();
        let is_state =
            problem["code"] == "IMPORT_STATE" || problem["type"] == "urn:idem:problem:import-state";
        if is_state { Ok(Received::Closed) } else { right.map(Received::Bytes) }
    }
}

fn offset(answer: &Response) -> Result<u64, Failure> {
    let text = answer.headers().get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok())
        .context("the server does not say what has arrived (no Upload-Offset): is this Idem?")
        .map_err(Failure::Lasting)
}

/// A status that is no success, with the server's own words for it.
async fn refused(answer: Response) -> Failure {
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = after.map(Duration::from_secs).unwrap_or_default().min(RETRY_AFTER_MAX);
    let body: Value = answer.json().await.unwrap_or_default();
    let said = [&body["detail"], &body["errors"][0]["message"], &body["title"]];
    let error = match said.iter().find_map(|text| text.as_str()) {
        Some(text) => anyhow!("the server answers {status}: {text}"),
        None => anyhow!("the server answers {status}"),
    };
    let is_passing = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if is_passing { Failure::Passing { error, wait } } else { Failure::Lasting(error) }
}
