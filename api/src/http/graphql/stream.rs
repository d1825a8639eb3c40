//! Answers as they come, over HTTP: graphql-sse in distinct connections mode, and Apollo's multipart
//! subscriptions. The body is pulled: a client that does not read is not written for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Response as Answer;
use async_graphql::parser::types::OperationType;
use axum::body::Body;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{BoxStream, Fuse};
use futures::{FutureExt, StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::answer::{is_refused, pieces, refusal, write};
use super::execute::{Operation, answers};
use super::media::Media;
use crate::error::ApiError;
use crate::graphql::json_writer::answer::joined;
use crate::http::App;

/// How answers are told apart in one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// `event: next` and its data.
    Events,
    /// A part each, with the boundary line behind it.
    Parts,
}

impl Framing {
    fn content_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream; charset=utf-8",
            Self::Parts => "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0",
        }
    }

    /// Longest silence, so that nobody on the way takes the connection for dead.
    fn beat_every(self) -> Duration {
        match self {
            Self::Events => Duration::from_secs(12),
            Self::Parts => Duration::from_secs(5),
        }
    }

    fn begin(self) -> String {
        match self {
            Self::Events => ":\n\n".to_owned(),
            Self::Parts => "--graphql".to_owned(),
        }
    }

    fn beat(self) -> String {
        match self {
            Self::Events => ":\n\n".to_owned(),
            Self::Parts => part("{}"),
        }
    }

    fn next(self, answer: &Answer) -> String {
        let text = joined(&pieces(answer));
        match self {
            Self::Events => format!("event: next\ndata: {text}\n\n"),
            Self::Parts => part(&format!("{{\"payload\":{text}}}")),
        }
    }

    fn end(self, why: Option<&ApiError>, request_id: &str) -> String {
        match self {
            // With an empty `data`: browsers pass over events that have none.
            Self::Events => "event: complete\ndata:\n\n".to_owned(),
            Self::Parts => {
                let fatal = why.map(|error| {
                    let errors = refusal(error, error.status(), request_id).errors;
                    part(&json!({ "payload": null, "errors": errors }).to_string())
                });
                format!("{}--\r\n", fatal.unwrap_or_default())
            }
        }
    }
}

/// A part and, at once, the boundary behind it: clients take a part as whole only then.
fn part(json: &str) -> String {
    format!("\r\ncontent-type: application/json\r\n\r\n{json}\r\n--graphql")
}

/// Answers an operation as a stream. What validation refuses is refused before the stream begins, in
/// `plain`.
pub(super) async fn respond(
    app: &Arc<App>,
    operation: Operation,
    ends_at_ms: i64,
    framing: Framing,
    plain: Media,
    request_id: &str,
) -> Response {
    let request_id: Arc<str> = request_id.into();
    let is_subscription = operation.kind == OperationType::Subscription;
    let mut answers = answers(app, operation, Arc::clone(&request_id));
    let first = if is_subscription { answers.next().now_or_never().flatten() } else { answers.next().await };
    if let Some(refused) = first.as_ref().filter(|answer| is_refused(answer)) {
        return write(refused, plain);
    }
    let left_ms = ends_at_ms.saturating_sub(app.services.store.clock.now_ms());
    let follower = Follower {
        answers: stream::iter(first).chain(answers).boxed().fuse(),
        framing,
        ends_at: Instant::now() + within_a_year(left_ms),
        app: Arc::clone(app),
        request_id,
        stage: Stage::Begin,
    };
    let chunks = stream::unfold(follower, |mut follower| async move {
        let chunk = follower.next().await?;
        Some((Ok::<_, Infallible>(chunk), follower))
    });
    let headers = [
        (header::CONTENT_TYPE, framing.content_type()),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would hold answers back until its buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

/// A timer takes no more.
pub(in crate::http) fn within_a_year(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(Duration::from_secs(365 * 24 * 3_600))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Middle,
    Ended,
}

/// One client that follows.
struct Follower {
    answers: Fuse<BoxStream<'static, Answer>>,
    framing: Framing,
    ends_at: Instant,
    app: Arc<App>,
    request_id: Arc<str>,
    stage: Stage,
}

impl Follower {
    async fn next(&mut self) -> Option<String> {
        match self.stage {
            Stage::Ended => return None,
            Stage::Begin => {
                self.stage = Stage::Middle;
                return Some(self.framing.begin());
            }
            Stage::Middle => {}
        }
        let why = tokio::select! {
            biased;
            () = self.app.shutdown.cancelled() => Some(ApiError::Unavailable),
            () = sleep_until(self.ends_at) => Some(ApiError::Unauthenticated),
            answer = self.answers.next() => match answer {
                Some(answer) => return Some(self.framing.next(&answer)),
                None => None,
            },
            () = sleep(self.framing.beat_every()) => return Some(self.framing.beat()),
        };
        self.stage = Stage::Ended;
        Some(self.framing.end(why.as_ref(), &self.request_id))
    }
}
