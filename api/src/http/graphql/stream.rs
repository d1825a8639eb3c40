//! Streams responses over HTTP: graphql-sse in distinct connections mode, and Apollo's multipart
//! subscriptions.
//!
//! The client pulls the body. While a client does not read, nothing is executed or written for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Response as GraphqlResponse;
use async_graphql::parser::types::OperationType;
use axum::body::Body;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{BoxStream, Fuse};
use futures::{FutureExt, StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::execute::{Operation, execute_as_stream};
use super::media::Media;
use super::response::{graphql_error_response, is_request_error, to_http_response, to_json_pieces};
use crate::error::ApiError;
use crate::graphql::json_writer::response::join_pieces_to_text;
use crate::http::App;

/// How the GraphQL responses in one streamed HTTP body are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// An event `next` for each response.
    EventStream,
    /// A part for each response, with a boundary line after it.
    Multipart,
}

impl Framing {
    fn content_type(self) -> &'static str {
        match self {
            Self::EventStream => "text/event-stream; charset=utf-8",
            Self::Multipart => "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0",
        }
    }

    /// How long to wait for a response before a heartbeat is sent. Proxies could otherwise close the
    /// connection as idle.
    fn heartbeat_interval(self) -> Duration {
        match self {
            Self::EventStream => Duration::from_secs(12),
            Self::Multipart => Duration::from_secs(5),
        }
    }

    /// The text of the body before the first response.
    fn text_before_responses(self) -> String {
        match self {
            Self::EventStream => ":\n\n".to_owned(),
            Self::Multipart => "--graphql".to_owned(),
        }
    }

    /// The text of a heartbeat, which clients ignore.
    fn heartbeat_text(self) -> String {
        match self {
            Self::EventStream => ":\n\n".to_owned(),
            Self::Multipart => multipart_part("{}"),
        }
    }

    /// The text of the body for one response: its JSON with the framing.
    fn framed_response_text(self, response: &GraphqlResponse) -> String {
        let text = join_pieces_to_text(&to_json_pieces(response));
        match self {
            Self::EventStream => format!("event: next\ndata: {text}\n\n"),
            Self::Multipart => multipart_part(&format!("{{\"payload\":{text}}}")),
        }
    }

    /// The text at the end of the body. `error` is the reason if the server ends the operation early. Only
    /// [`Self::Multipart`] shows it to the client.
    fn text_after_responses(self, error: Option<&ApiError>, request_id: &str) -> String {
        match self {
            // The event has an empty `data`, because browsers ignore events without one.
            Self::EventStream => "event: complete\ndata:\n\n".to_owned(),
            Self::Multipart => {
                let fatal = error.map(|error| {
                    let errors = graphql_error_response(error, error.http_status(), request_id).errors;
                    multipart_part(&json!({ "payload": null, "errors": errors }).to_string())
                });
                format!("{}--\r\n", fatal.unwrap_or_default())
            }
        }
    }
}

/// A part of a multipart body with the boundary after it. The boundary is sent at once, because clients
/// process a part only after they have read the boundary.
fn multipart_part(json: &str) -> String {
    format!("\r\ncontent-type: application/json\r\n\r\n{json}\r\n--graphql")
}

/// Executes an operation and responds with the stream of its responses. If the operation is refused before
/// its execution, the response is a single error in `error_media` and no stream begins.
pub(super) async fn respond_with_stream(
    app: &Arc<App>,
    operation: Operation,
    expires_at_ms: i64,
    framing: Framing,
    error_media: Media,
    request_id: &str,
) -> Response {
    let request_id: Arc<str> = request_id.into();
    let is_subscription = operation.operation_type == OperationType::Subscription;
    let mut responses = execute_as_stream(app, operation, Arc::clone(&request_id));
    // The first poll of a subscription already returns the errors of validation. Its first response may take
    // longer.
    let first =
        if is_subscription { responses.next().now_or_never().flatten() } else { responses.next().await };
    if let Some(refused) = first.as_ref().filter(|response| is_request_error(response)) {
        return to_http_response(refused, error_media);
    }
    let left_ms = expires_at_ms.saturating_sub(app.services.store.clock.now_ms());
    let body = StreamBody {
        responses: stream::iter(first).chain(responses).boxed().fuse(),
        framing,
        expires_at: Instant::now() + to_timer_duration(left_ms),
        app: Arc::clone(app),
        request_id,
        stage: Stage::Begin,
    };
    let chunks = stream::unfold(body, |mut body| async move {
        let chunk = body.next_body_piece().await?;
        Some((Ok::<_, Infallible>(chunk), body))
    });
    let headers = [
        (header::CONTENT_TYPE, framing.content_type()),
        (header::CACHE_CONTROL, "no-store"),
        // Without this header nginx would buffer the responses until its buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

/// Milliseconds as a duration of at most one year, because the timer of tokio does not support arbitrary
/// times. A negative number becomes zero.
pub(in crate::http) fn to_timer_duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(Duration::from_secs(365 * 24 * 3_600))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Responses,
    Ended,
}

/// The body of a streamed response.
struct StreamBody {
    responses: Fuse<BoxStream<'static, GraphqlResponse>>,
    framing: Framing,
    /// When the token of the client expires. The stream ends then.
    expires_at: Instant,
    app: Arc<App>,
    request_id: Arc<str>,
    stage: Stage,
}

impl StreamBody {
    /// Waits for the next response and returns its text, or a heartbeat if none comes in time. At shutdown
    /// and when the token expires, returns the end of the body. Returns `None` after the end.
    async fn next_body_piece(&mut self) -> Option<String> {
        match self.stage {
            Stage::Ended => return None,
            Stage::Begin => {
                self.stage = Stage::Responses;
                return Some(self.framing.text_before_responses());
            }
            Stage::Responses => {}
        }
        let error = tokio::select! {
            biased;
            () = self.app.shutdown.cancelled() => Some(ApiError::Unavailable),
            () = sleep_until(self.expires_at) => Some(ApiError::Unauthenticated),
            response = self.responses.next() => match response {
                Some(response) => return Some(self.framing.framed_response_text(&response)),
                None => None,
            },
            () = sleep(self.framing.heartbeat_interval()) => return Some(self.framing.heartbeat_text()),
        };
        self.stage = Stage::Ended;
        Some(self.framing.text_after_responses(error.as_ref(), &self.request_id))
    }
}
