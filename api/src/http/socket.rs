//! Subscriptions over WebSocket: graphql-transport-ws. One task a socket, and one timer in it; while a
//! write waits for its client, nothing is read and no operation goes on, so that a client that does not
//! read holds one answer and no more.

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
use super::graphql::{Operation, admit, answers, is_refused, refusal, within_a_year};
use super::server::ConnectionPermit;
use super::variables::Body;
use crate::auth::{Caller, bearer};
use crate::error::ApiError;
use operations::{Event, Operations};
use protocol::{Close, Incoming, Outgoing, PROTOCOL, token};

/// From the upgrade to `connection_init`.
const INIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two pings.
const PING_EVERY: Duration = Duration::from_secs(25);
/// A client that was not heard of for so long is gone: it left two pings without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// For the other side to take our close, or for operations to end at shutdown.
const FAREWELL: Duration = Duration::from_secs(2);
/// Buffers of a socket for each direction.
const BUFFER_BYTES: usize = 4 * 1024;

/// Takes a connection over as a socket.
pub(super) fn open(
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
    let is_spoken = upgrade.selected_protocol().is_some();
    let other = upgrade.requested_protocols().next().filter(|_| !is_spoken).cloned();
    if let Some(other) = other {
        // Granted, for else the client would give up the upgrade and not see why.
        upgrade.set_selected_protocol(other);
    }
    let token = bearer(headers).map(str::to_owned);
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
            ends_at: None,
            operations: Operations::default(),
            requests: Arc::new(Semaphore::new(SOCKET_REQUESTS_MAX)),
            opened_at: now,
            heard_at: now,
            pinged_at: now,
        };
        async move {
            session.run(is_spoken).await;
            drop((connection_permit, tracked));
        }
    })
}

/// One client on its socket.
struct WebSocketSession {
    app: Arc<App>,
    socket: WebSocket,
    request_id: Arc<str>,
    /// Of the upgrade's header, until the init.
    token: Option<String>,
    /// None before the init.
    caller: Option<Caller>,
    /// When the token ends.
    ends_at: Option<Instant>,
    operations: Operations,
    /// Room for queries and mutations; a mutation takes it to its end, even when it was dropped.
    requests: Arc<Semaphore>,
    opened_at: Instant,
    heard_at: Instant,
    pinged_at: Instant,
}

/// What happened.
enum Step {
    Heard(Option<Result<Message, axum::Error>>),
    Came(Box<Event>),
    Due,
}

impl WebSocketSession {
    async fn run(mut self, is_spoken: bool) {
        let why = if is_spoken { self.session().await } else { Close::SUBPROTOCOL };
        if why == Close::GOING_AWAY {
            // Nothing new: what was begun may still be told.
            self.operations.stop_subscriptions();
            let _in_time = timeout(FAREWELL, self.finish()).await;
        }
        self.operations = Operations::default();
        let _in_time = timeout(FAREWELL, self.close(why)).await;
    }

    /// Talks until there is a reason to close.
    async fn session(&mut self) -> Close {
        let shutdown = self.app.shutdown.clone();
        loop {
            let due = self.due();
            let step = tokio::select! {
                () = shutdown.cancelled() => return Close::GOING_AWAY,
                () = sleep_until(due) => Step::Due,
                message = hear(&mut self.socket, &self.requests), if self.operations.has_room() => {
                    Step::Heard(message)
                }
                event = self.operations.next() => Step::Came(Box::new(event)),
            };
            let done = match step {
                Step::Due => self.tick().await,
                Step::Came(event) => self.tell(*event).await,
                Step::Heard(message) => self.hear(message).await,
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    /// When something must be done though nothing happens.
    fn due(&self) -> Instant {
        let ends_at = self.ends_at.unwrap_or(self.opened_at + INIT_TIMEOUT);
        ends_at.min(self.pinged_at + PING_EVERY)
    }

    async fn tick(&mut self) -> Result<(), Close> {
        let now = Instant::now();
        match self.ends_at {
            None if now >= self.opened_at + INIT_TIMEOUT => return Err(Close::NO_INIT),
            Some(ends_at) if now >= ends_at => return Err(Close::FORBIDDEN),
            _ => {}
        }
        if now >= self.heard_at + SILENCE_MAX {
            return Err(Close::GOING_AWAY);
        }
        if now >= self.pinged_at + PING_EVERY {
            self.pinged_at = now;
            return self.send(Message::Ping(Bytes::new())).await;
        }
        Ok(())
    }

    async fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Close> {
        self.heard_at = Instant::now();
        let text = match message {
            None | Some(Ok(Message::Close(_))) => return Err(Close::DONE),
            Some(Err(error)) => return Err(fault(error)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Binary(_))) => return Err(Close::MALFORMED),
            Some(Ok(Message::Text(text))) => text,
        };
        match Incoming::read(&text).ok_or(Close::MALFORMED)? {
            Incoming::Init(_) if self.caller.is_some() => Err(Close::SECOND_INIT),
            // Apart on the heap: it happens once, and would be the largest part of every socket.
            Incoming::Init(payload) => Box::pin(self.init(payload)).await,
            Incoming::Ping(payload) => self.say(&Outgoing::Pong { payload }).await,
            Incoming::Pong => Ok(()),
            Incoming::Subscribe { id, payload } => self.subscribe(id, payload).await,
            Incoming::Complete { id } => {
                self.operations.stop(&id);
                Ok(())
            }
        }
    }

    async fn init(&mut self, payload: Option<&RawValue>) -> Result<(), Close> {
        let said = payload.map(token).transpose().map_err(|()| Close::FORBIDDEN)?.flatten();
        let token = said.or(self.token.take()).ok_or(Close::FORBIDDEN)?;
        let store = &self.app.services.store;
        let caller = self.app.keys.recognize(&token, store).await.map_err(|error| match error {
            ApiError::Unauthenticated => Close::FORBIDDEN,
            _ => Close::NOT_NOW,
        })?;
        let left_ms = caller.ends_at_ms.saturating_sub(store.clock.now_ms());
        self.ends_at = Some(Instant::now() + within_a_year(left_ms));
        self.caller = Some(caller);
        self.say(&Outgoing::ConnectionAck).await
    }

    async fn subscribe(&mut self, id: String, payload: &RawValue) -> Result<(), Close> {
        let caller = self.caller.as_ref().ok_or(Close::UNAUTHORIZED)?;
        if self.operations.contains(&id) {
            return Err(Close::IN_USE);
        }
        let body = Body::read(payload.get().as_bytes());
        let admitted = body.and_then(|body| admit(&self.app, caller.actor.clone(), body));
        let allowed = admitted.and_then(|operation| self.allow(operation, payload.get().len()));
        match allowed.and_then(|operation| operation.paid(&self.app)) {
            Ok(operation) => {
                let is_subscription = operation.kind == OperationType::Subscription;
                let answers = answers(&self.app, operation, Arc::clone(&self.request_id));
                self.operations.start(id, is_subscription, answers);
                Ok(())
            }
            Err(error) => {
                let answer = refusal(&error, error.status(), &self.request_id);
                self.say(&Outgoing::Error { id: &id, payload: &answer.errors }).await
            }
        }
    }

    /// Gives an operation of so many bytes the room that it takes.
    fn allow(&self, operation: Operation, bytes: usize) -> Result<Operation, ApiError> {
        if operation.kind != OperationType::Subscription {
            let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
            // Only this task takes requests, and it reads nothing while there is no room for one.
            let request = Arc::clone(&self.requests).try_acquire_owned();
            let body = Arc::clone(&self.app.bodies).try_acquire_many_owned(kib);
            let room = request.and_then(|request| Ok(vec![request, body?]));
            return Ok(operation.with_room(room.map_err(|_| ApiError::Unavailable)?));
        }
        if self.operations.is_full() {
            return Err(ApiError::Limit {
                name: "subscriptions",
                max: SOCKET_SUBSCRIPTIONS_MAX as u64,
                detail: format!("a socket has at most {SOCKET_SUBSCRIPTIONS_MAX} subscriptions"),
            });
        }
        Ok(operation)
    }

    /// Passes on what came of an operation.
    async fn tell(&mut self, event: Event) -> Result<(), Close> {
        let Event { id, answer, has_failed } = event;
        let Some(answer) = answer else {
            return self.say(&Outgoing::Complete { id: &id }).await;
        };
        if has_failed || is_refused(&answer) {
            self.operations.stop(&id);
            return self.say(&Outgoing::Error { id: &id, payload: &answer.errors }).await;
        }
        self.say(&Outgoing::Next { id: &id, payload: &answer }).await
    }

    /// Tells what has begun to its end.
    async fn finish(&mut self) {
        while !self.operations.is_empty() {
            let event = self.operations.next().await;
            if self.tell(event).await.is_err() {
                return;
            }
        }
    }

    async fn say(&mut self, message: &Outgoing<'_>) -> Result<(), Close> {
        self.send(Message::Text(message.write().into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Close> {
        tokio::select! {
            biased;
            sent = self.socket.send(message) => sent.map_err(fault),
            // Who does not read does not hold up the shutdown.
            () = self.app.shutdown.cancelled() => Err(Close::GOING_AWAY),
        }
    }

    /// Says why, and waits for the other side to have read it: what is still on its way to us would make
    /// the kernel reset the connection, and take our close back from the client.
    async fn close(&mut self, why: Close) {
        let frame = CloseFrame { code: why.0, reason: why.1.into() };
        // Fails where the client has closed first; reading on sends our answer to that.
        let _told = self.socket.send(Message::Close(Some(frame))).await;
        if why == Close::TOO_BIG {
            // Behind a message that was not read to its end there is nothing to be understood.
            return std::future::pending().await;
        }
        while let Some(Ok(_)) = self.socket.recv().await {}
    }
}

/// The next message, as soon as there is room for one more request.
async fn hear(socket: &mut WebSocket, requests: &Semaphore) -> Option<Result<Message, axum::Error>> {
    // Given back at once: this only waits.
    drop(requests.acquire().await);
    socket.recv().await
}

/// How a socket is closed that cannot be read from or written to.
fn fault(error: axum::Error) -> Close {
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
