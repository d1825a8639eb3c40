//! Parses and writes the messages of graphql-transport-ws, and defines its close codes. This module does not
//! know sockets.

use std::borrow::Cow;

use async_graphql::{Response as GraphqlResponse, ServerError};
use domain::limits::SOCKET_ID_BYTES_MAX;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::graphql::json_writer;

/// The name of the supported subprotocol in `Sec-WebSocket-Protocol`.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

/// Why the server closes a WebSocket: the close code and the reason text of the close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Close(pub u16, pub &'static str);

impl Close {
    pub(super) const DONE: Self = Self(1000, "");
    pub(super) const GOING_AWAY: Self = Self(1001, "Going away");
    pub(super) const BROKEN: Self = Self(1002, "Protocol error");
    pub(super) const TOO_BIG: Self = Self(1009, "Message too big");
    pub(super) const TRY_AGAIN_LATER: Self = Self(1013, "Try again later");
    pub(super) const MALFORMED: Self = Self(4400, "Invalid message received");
    pub(super) const UNAUTHORIZED: Self = Self(4401, "Unauthorized");
    pub(super) const FORBIDDEN: Self = Self(4403, "Forbidden");
    pub(super) const SUBPROTOCOL: Self = Self(4406, "Subprotocol not acceptable");
    pub(super) const NO_INIT: Self = Self(4408, "Connection initialisation timeout");
    pub(super) const IN_USE: Self = Self(4409, "Subscriber already exists");
    pub(super) const SECOND_INIT: Self = Self(4429, "Too many initialisation requests");
}

/// A message of graphql-transport-ws from the client.
#[derive(Debug)]
pub(super) enum Incoming<'m> {
    Init(Option<&'m RawValue>),
    Ping(Option<&'m RawValue>),
    Pong,
    Subscribe { id: String, payload: &'m RawValue },
    Complete { id: String },
}

#[derive(Deserialize)]
struct RawMessage<'m> {
    #[serde(rename = "type", borrow)]
    message_type: Cow<'m, str>,
    id: Option<String>,
    #[serde(borrow)]
    payload: Option<&'m RawValue>,
}

impl<'m> Incoming<'m> {
    /// Parses a message of the client. `None` if it does not conform to the protocol.
    pub(super) fn parse_message(text: &'m str) -> Option<Self> {
        let RawMessage { message_type, id, payload } = serde_json::from_str(text).ok()?;
        let id = id.filter(|id| (1..=SOCKET_ID_BYTES_MAX).contains(&id.len()));
        let payload = payload.filter(|payload| payload.get() != "null");
        let is_object = payload.is_none_or(|payload| payload.get().starts_with('{'));
        match &*message_type {
            _ if !is_object => None,
            "connection_init" => Some(Self::Init(payload)),
            "ping" => Some(Self::Ping(payload)),
            "pong" => Some(Self::Pong),
            "subscribe" => Some(Self::Subscribe { id: id?, payload: payload? }),
            "complete" => Some(Self::Complete { id: id? }),
            _ => None,
        }
    }
}

/// Returns the token in the payload of `connection_init`, without verifying it. It is in `authorization`,
/// `Authorization`, `headers.authorization` or `headers.Authorization`, with or without `Bearer`.
///
/// # Errors
/// `()` if the value is not a string.
pub(super) fn parse_token(payload: &RawValue) -> Result<Option<String>, ()> {
    let payload: serde_json::Value = serde_json::from_str(payload.get()).map_err(|_| ())?;
    let names = ["/authorization", "/Authorization", "/headers/authorization", "/headers/Authorization"];
    let Some(value) = names.iter().find_map(|name| payload.pointer(name)) else {
        return Ok(None);
    };
    let text = value.as_str().ok_or(())?.trim();
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => text,
    };
    Ok(Some(token.to_owned()))
}

/// A message of graphql-transport-ws to the client.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Outgoing<'m> {
    ConnectionAck,
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'m RawValue>,
    },
    Next {
        id: &'m str,
        #[serde(skip)]
        payload: &'m GraphqlResponse,
    },
    Error {
        id: &'m str,
        payload: &'m [ServerError],
    },
    Complete {
        id: &'m str,
    },
}

impl Outgoing<'_> {
    /// The message as JSON text.
    pub(super) fn to_json(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        if let Self::Next { payload, .. } = self {
            // The payload is appended as text, because the lists in it are already JSON text.
            text.pop();
            text += ",\"payload\":";
            text += &json_writer::response::to_json_text(payload);
            text.push('}');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_the_protocol_are_accepted() {
        let long = format!(r#"{{"type":"complete","id":"{}"}}"#, "x".repeat(SOCKET_ID_BYTES_MAX + 1));
        let bad = [
            "",
            "hello",
            "7",
            "[]",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"start","id":"1"}"#,
            r#"{"type":"connection_ack"}"#,
            r#"{"type":"connection_init","payload":"token"}"#,
            r#"{"type":"subscribe","payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":1,"payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":[]}"#,
            r#"{"type":"complete"}"#,
            long.as_str(),
        ];
        for text in bad {
            assert!(Incoming::parse_message(text).is_none(), "{text}");
        }
        let good = [
            r#"{"type":"connection_init"}"#,
            r#"{"type":"connection_init","payload":null}"#,
            r#"{ "payload": {}, "type": "connection_init" }"#,
            r#"{"type":"ping","payload":{"a":1}}"#,
            r#"{"type":"pong"}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"complete","id":"1"}"#,
        ];
        for text in good {
            assert!(Incoming::parse_message(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_token_is_found_under_each_of_its_names() {
        let cases = [
            ("{}", Ok(None)),
            (r#"{"other":1,"headers":{}}"#, Ok(None)),
            (r#"{"authorization":"Bearer a.b.c"}"#, Ok(Some("a.b.c"))),
            (r#"{"Authorization":"bearer  a.b.c "}"#, Ok(Some("a.b.c"))),
            (r#"{"headers":{"authorization":"a.b.c"}}"#, Ok(Some("a.b.c"))),
            (r#"{"headers":{"Authorization":"a.b.c"}}"#, Ok(Some("a.b.c"))),
            (r#"{"authorization":7}"#, Err(())),
            (r#"{"authorization":null}"#, Err(())),
            (r#"{"Authorization":["a"]}"#, Err(())),
        ];
        for (text, expected) in cases {
            let payload: &RawValue = serde_json::from_str(text).expect("the case is JSON");
            assert_eq!(parse_token(payload), expected.map(|token| token.map(str::to_owned)), "{text}");
        }
    }
}
