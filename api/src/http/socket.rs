//! Serves GraphQL over WebSocket with the protocol graphql-transport-ws.
//!
//! Each socket has one task with one timer. While a write waits for the client, no message is read and no
//! operation is polled. A client that does not read therefore occupies the memory of one response only.

mod operations;
mod protocol;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use domain::limits::{SOCKET_MESSAGE_BYTES_MAX, SOCKET_REQUESTS_MAX, SOCKET_SUBSCRIPTIONS_MAX};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite;

use async_graphql::parser::types::OperationType;

use super::App;
use super::graphql::{
    Operation, graphql_error_response, is_request_error, prepare_operation,
    take_points_and_execute_as_stream, to_timer_duration,
};
use super::server::ConnectionPermit;
use super::variables::Body;
use crate::auth::{Caller, bearer_token};
use crate::error::ApiError;
use operations::{OperationEvent, Operations};
use protocol::{Close, Incoming, Outgoing, PROTOCOL, parse_token};

/// The longest time from the upgrade to `connection_init`.
const INIT_TIMEOUT: Duration = Duration::from_secs(3);
/// The time between two pings that the server sends on a WebSocket.
const PING_EVERY: Duration = Duration::from_secs(25);
/// A WebSocket from which nothing was received for this long is closed, because its client has not replied to
/// two pings.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long to wait for the reply of a client to a close frame, and at shutdown also for its operations to
/// end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The size of the read buffer and of the write buffer of a socket, in bytes.
const BUFFER_BYTES: usize = 4 * 1024;

/// Accepts the upgrade to a WebSocket. The session then runs in its own task, which keeps the permit of the
/// connection. If the client offered another protocol, the session only closes the socket with 4406.
pub(super) fn start_session(
    app: Arc<App>,
    upgrade: WebSocketUpgrade,
    headers: &HeaderMap,
    connection_permit: ConnectionPermit,
    request_id: &str,
) -> Response {
    let mut upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(SOCKET_MESSAGE_BYTES_MAX)
        .max_frame_size(SOCKET_MESSAGE_BYTES_MAX);
    let is_supported = upgrade.selected_protocol().is_some();
    let unsupported = upgrade.requested_protocols().next().filter(|_| !is_supported).cloned();
    if let Some(unsupported) = unsupported {
        // The upgrade succeeds with the unsupported protocol, and the socket is closed with 4406 after that.
        // If the upgrade failed, the client could not see the reason.
        upgrade.set_selected_protocol(unsupported);
    }
    let token = bearer_token(headers).map(str::to_owned);
    let request_id = request_id.into();
    let tracked = app.tracker.token();
    upgrade.on_upgrade(move |socket| {
        let now = Instant::now();
        let session = WebSocketSession {
            app,
            socket,
            request_id,
            token,
            caller: None,
            expires_at: None,
            operations: Operations::default(),
            request_permits: Arc::new(Semaphore::new(SOCKET_REQUESTS_MAX)),
            opened_at: now,
            received_at: now,
            pinged_at: now,
        };
        async move {
            session.run_session(is_supported).await;
            drop((connection_permit, tracked));
        }
    })
}

/// The session of one client on its socket.
struct WebSocketSession {
    app: Arc<App>,
    socket: WebSocket,
    request_id: Arc<str>,
    /// The token in the header of the upgrade, which `connection_init` takes if it has none itself.
    token: Option<String>,
    /// The authenticated user. `None` before `connection_init`.
    caller: Option<Caller>,
    /// When the token expires. The socket is closed then.
    expires_at: Option<Instant>,
    operations: Operations,
    /// Limits the queries and mutations that run at the same time. A mutation keeps its permit to its end,
    /// even if the client has stopped it.
    request_permits: Arc<Semaphore>,
    opened_at: Instant,
    /// When the last message was received, of any kind, also a ping or a pong.
    received_at: Instant,
    pinged_at: Instant,
}

/// What the session reacts to.
enum Input {
    Message(Option<Result<Message, axum::Error>>),
    Operation(Box<OperationEvent>),
    Timer,
}

impl WebSocketSession {
    /// Runs the session to its end, and closes the socket. Closes it at once if the protocol is not
    /// supported.
    async fn run_session(mut self, is_supported: bool) {
        let reason = if is_supported { self.process_inputs_until_close().await } else { Close::SUBPROTOCOL };
        if reason == Close::GOING_AWAY {
            // Operations that have begun may still send their responses, but no message is read any more.
            self.operations.remove_subscriptions();
            let _is_best_effort = timeout(CLOSE_TIMEOUT, self.send_remaining_responses()).await;
        }
        self.operations = Operations::default();
        let _is_best_effort = timeout(CLOSE_TIMEOUT, self.close_socket(reason)).await;
    }

    /// Processes messages, operations and timers until there is a reason to close the socket. Returns the
    /// reason.
    async fn process_inputs_until_close(&mut self) -> Close {
        let shutdown = self.app.shutdown.clone();
        loop {
            let deadline = self.next_timer_deadline();
            let input = tokio::select! {
                () = shutdown.cancelled() => return Close::GOING_AWAY,
                () = sleep_until(deadline) => Input::Timer,
                message = receive_message_when_permitted(&mut self.socket, &self.request_permits),
                    if self.operations.has_room_for_request() => Input::Message(message),
                event = self.operations.next_operation_event() => Input::Operation(Box::new(event)),
            };
            let result = match input {
                Input::Timer => self.check_timers_and_ping().await,
                Input::Operation(event) => self.send_operation_event(*event).await,
                Input::Message(message) => self.handle_message(message).await,
            };
            if let Err(reason) = result {
                return reason;
            }
        }
    }

    /// When the timers must be checked next: for a ping, and for `connection_init` or the expiry of the
    /// token.
    fn next_timer_deadline(&self) -> Instant {
        let expires_at = self.expires_at.unwrap_or(self.opened_at + INIT_TIMEOUT);
        expires_at.min(self.pinged_at + PING_EVERY)
    }

    /// Sends a ping if it is time for one.
    ///
    /// # Errors
    /// The [`Close`] for a timeout of `connection_init`, an expired token or a silent client, and if the ping
    /// cannot be sent.
    async fn check_timers_and_ping(&mut self) -> Result<(), Close> {
        let now = Instant::now();
        match self.expires_at {
            None if now >= self.opened_at + INIT_TIMEOUT => return Err(Close::NO_INIT),
            Some(expires_at) if now >= expires_at => return Err(Close::FORBIDDEN),
            _ => {}
        }
        if now >= self.received_at + SILENCE_MAX {
            return Err(Close::GOING_AWAY);
        }
        if now >= self.pinged_at + PING_EVERY {
            self.pinged_at = now;
            return self.send_websocket_message(Message::Ping(Bytes::new())).await;
        }
        Ok(())
    }

    /// Processes one message of the client.
    ///
    /// # Errors
    /// The [`Close`] with which the socket must be closed.
    async fn handle_message(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Close> {
        self.received_at = Instant::now();
        let text = match message {
            None | Some(Ok(Message::Close(_))) => return Err(Close::DONE),
            Some(Err(error)) => return Err(close_reason(error)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Binary(_))) => return Err(Close::MALFORMED),
            Some(Ok(Message::Text(text))) => text,
        };
        match Incoming::parse_message(&text).ok_or(Close::MALFORMED)? {
            Incoming::Init(_) if self.caller.is_some() => Err(Close::SECOND_INIT),
            // Boxed, because this future runs once and would otherwise be the largest part of every session.
            Incoming::Init(payload) => Box::pin(self.authenticate_and_acknowledge(payload)).await,
            Incoming::Ping(payload) => self.send_protocol_message(&Outgoing::Pong { payload }).await,
            Incoming::Pong => Ok(()),
            Incoming::Subscribe { id, payload } => self.start_operation(id, payload).await,
            Incoming::Complete { id } => {
                self.operations.remove_operation(&id);
                Ok(())
            }
        }
    }

    /// Handles `connection_init`: authenticates the client with the token of the payload, or else with that
    /// of the upgrade. Then sends `connection_ack`. From then on, the socket is closed when the token
    /// expires.
    async fn authenticate_and_acknowledge(&mut self, payload: Option<&RawValue>) -> Result<(), Close> {
        let payload_token = payload.map(parse_token).transpose().map_err(|()| Close::FORBIDDEN)?.flatten();
        let token = payload_token.or(self.token.take()).ok_or(Close::FORBIDDEN)?;
        let store = &self.app.services.store;
        let caller = self.app.keys.authenticate_token(&token, store).await.map_err(|error| match error {
            ApiError::Unauthenticated => Close::FORBIDDEN,
            _ => Close::TRY_AGAIN_LATER,
        })?;
        let left_ms = caller.expires_at_ms.saturating_sub(store.clock.now_ms());
        self.expires_at = Some(Instant::now() + to_timer_duration(left_ms));
        self.caller = Some(caller);
        self.send_protocol_message(&Outgoing::ConnectionAck).await
    }

    /// Handles `subscribe`: starts the operation, or sends why it was refused. Returns an error only if the
    /// socket must be closed.
    async fn start_operation(&mut self, id: String, payload: &RawValue) -> Result<(), Close> {
        let caller = self.caller.as_ref().ok_or(Close::UNAUTHORIZED)?;
        if self.operations.contains_id(&id) {
            return Err(Close::IN_USE);
        }
        let body = Body::parse_body(payload.get().as_bytes());
        let admitted = body.and_then(|body| prepare_operation(&self.app, caller.actor.clone(), body));
        let permitted =
            admitted.and_then(|operation| self.acquire_permits_or_refuse(operation, payload.get().len()));
        let started = permitted.and_then(|operation| {
            let is_subscription = operation.operation_type == OperationType::Subscription;
            let request_id = Arc::clone(&self.request_id);
            let responses = take_points_and_execute_as_stream(&self.app, operation, request_id)?;
            Ok((is_subscription, responses))
        });
        match started {
            Ok((is_subscription, responses)) => {
                self.operations.add_operation(id, is_subscription, responses);
                Ok(())
            }
            Err(error) => {
                let response = graphql_error_response(&error, error.http_status(), &self.request_id);
                self.send_protocol_message(&Outgoing::Error { id: &id, payload: &response.errors }).await
            }
        }
    }

    /// Attaches permits to a query or a mutation, one to run and one for the memory of its message of `bytes`
    /// bytes. A subscription gets none, but their number is checked.
    ///
    /// # Errors
    /// - [`ApiError::Unavailable`] if there is too little memory for a query or a mutation.
    /// - [`ApiError::Limit`] if the socket has too many subscriptions.
    fn acquire_permits_or_refuse(&self, operation: Operation, bytes: usize) -> Result<Operation, ApiError> {
        if operation.operation_type != OperationType::Subscription {
            let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
            // A request permit is always available here. Only this task takes them, and it reads no message
            // while there is none.
            let request = Arc::clone(&self.request_permits).try_acquire_owned();
            let body = Arc::clone(&self.app.bodies).try_acquire_many_owned(kib);
            let permits = request.and_then(|request| Ok(vec![request, body?]));
            return Ok(operation.with_permits(permits.map_err(|_| ApiError::Unavailable)?));
        }
        if self.operations.has_max_subscriptions() {
            return Err(ApiError::Limit {
                name: "subscriptions",
                max: SOCKET_SUBSCRIPTIONS_MAX as u64,
                detail: format!(
                    "a WebSocket has at most {SOCKET_SUBSCRIPTIONS_MAX} subscriptions: complete one first"
                ),
            });
        }
        Ok(operation)
    }

    /// Sends a response or the end of an operation to the client. An operation that has failed is removed.
    async fn send_operation_event(&mut self, event: OperationEvent) -> Result<(), Close> {
        let OperationEvent { id, response, has_failed } = event;
        let Some(response) = response else {
            return self.send_protocol_message(&Outgoing::Complete { id: &id }).await;
        };
        if has_failed || is_request_error(&response) {
            self.operations.remove_operation(&id);
            return self.send_protocol_message(&Outgoing::Error { id: &id, payload: &response.errors }).await;
        }
        self.send_protocol_message(&Outgoing::Next { id: &id, payload: &response }).await
    }

    /// Sends the responses of the running operations until all have ended.
    async fn send_remaining_responses(&mut self) {
        while !self.operations.is_empty() {
            let event = self.operations.next_operation_event().await;
            if self.send_operation_event(event).await.is_err() {
                return;
            }
        }
    }

    async fn send_protocol_message(&mut self, message: &Outgoing<'_>) -> Result<(), Close> {
        self.send_websocket_message(Message::Text(message.to_json().into())).await
    }

    async fn send_websocket_message(&mut self, message: Message) -> Result<(), Close> {
        tokio::select! {
            biased;
            sent = self.socket.send(message) => sent.map_err(close_reason),
            // A client that does not read must not delay the shutdown.
            () = self.app.shutdown.cancelled() => Err(Close::GOING_AWAY),
        }
    }

    /// Sends a close frame, and waits until the client has replied or disconnected. If the connection were
    /// closed with unread bytes, the kernel would reset it, and the client could lose the close frame. After
    /// [`Close::TOO_BIG`] it never returns, so the caller needs a timeout.
    async fn close_socket(&mut self, reason: Close) {
        let frame = CloseFrame { code: reason.0, reason: reason.1.into() };
        // This fails if the client has closed first. Reading on then sends the reply to its close frame.
        let _fails_if_closed = self.socket.send(Message::Close(Some(frame))).await;
        if reason == Close::TOO_BIG {
            // The message was not read to its end, so the bytes after it cannot be interpreted. Wait for the
            // timeout.
            return std::future::pending().await;
        }
        while let Some(Ok(_)) = self.socket.recv().await {}
    }
}

/// Waits until the socket may run one more query or mutation, and then for the next message. `None` if the
/// client has disconnected.
async fn receive_message_when_permitted(
    socket: &mut WebSocket,
    request_permits: &Semaphore,
) -> Option<Result<Message, axum::Error>> {
    // The permit is released at once, because this call only waits for one.
    drop(request_permits.acquire().await);
    socket.recv().await
}

/// The close code and reason for a socket after an error of reading or writing.
fn close_reason(error: axum::Error) -> Close {
    let Ok(error) = error.into_inner().downcast::<tungstenite::Error>() else {
        return Close::BROKEN;
    };
    match *error {
        tungstenite::Error::Capacity(_) => Close::TOO_BIG,
        tungstenite::Error::Utf8(_) => Close::MALFORMED,
        tungstenite::Error::Protocol(_) => Close::BROKEN,
        _ => Close::DONE,
    }
}
