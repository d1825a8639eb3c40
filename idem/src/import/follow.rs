//! Reads a GraphQL subscription over graphql-sse in distinct connections mode: one request, whose response
//! body is a stream of events.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A subscription whose stream brings no data for this long counts as broken. The server sends a heartbeat
/// every 12 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long to wait for the first event of a subscription. The server sends it at once, so if it takes
/// longer, a proxy buffers the whole response.
const FIRST_EVENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest server-sent event that is accepted, in bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// A running GraphQL subscription, read from a response body of server-sent events.
pub(super) struct Subscription {
    response: Response,
    parser: Parser,
    has_first_event: bool,
}

impl Subscription {
    /// Takes the response to a subscription, whose body is read later.
    ///
    /// # Errors
    /// If the response is not an event stream.
    pub(super) fn new(response: Response) -> anyhow::Result<Self> {
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_stream = content_type.is_some_and(|it| it.starts_with("text/event-stream"));
        ensure!(is_stream, "the server did not respond with an event stream");
        Ok(Self { response, parser: Parser::default(), has_first_event: false })
    }

    /// Waits for the next response and returns its `data`, or `None` if the server has completed the
    /// subscription.
    ///
    /// # Errors
    /// If the connection breaks, no data comes for too long, or the event is an error or not a `T`.
    pub(super) async fn next_data<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let event = if self.has_first_event {
            self.next_server_sent_event().await?
        } else {
            let first = tokio::time::timeout(FIRST_EVENT_TIMEOUT, self.next_server_sent_event()).await;
            first.map_err(|_| anyhow!("no event within {} s", FIRST_EVENT_TIMEOUT.as_secs()))??
        };
        self.has_first_event = true;
        if event.name == "complete" {
            return Ok(None);
        }
        let mut result: Value = serde_json::from_str(&event.data)?;
        if let Some(error) = result["errors"].get(0) {
            return Err(anyhow!("the server responded with an error: {}", error["message"]));
        }
        Ok(Some(serde_json::from_value(result["data"].take())?))
    }

    /// Waits for the next complete event. A heartbeat is not an event, but it shows that the connection
    /// works.
    async fn next_server_sent_event(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some(event) = self.parser.next_server_sent_event() {
                return Ok(event);
            }
            let bytes = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await;
            let bytes = bytes.map_err(|_| anyhow!("no data for {} s", SILENCE_MAX.as_secs()))??;
            self.parser.push_bytes(&bytes.ok_or_else(|| anyhow!("the connection was closed early"))?)?;
        }
    }
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// Parses the bytes of `text/event-stream` (HTML Living Standard, section 9.2.6).
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
    /// The event that is still incomplete, because its blank line has not come yet.
    current: Event,
}

impl Parser {
    /// Adds received bytes, which are parsed later.
    ///
    /// # Errors
    /// If the unparsed bytes and the incomplete event are together larger than [`EVENT_BYTES_MAX`].
    fn push_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.bytes.extend_from_slice(bytes);
        ensure!(self.bytes.len() + self.current.data.len() <= EVENT_BYTES_MAX, "an event is too long");
        Ok(())
    }

    /// Parses the next event that has a name or data and is complete, that is, followed by a blank line.
    /// `None` if more bytes are needed.
    fn next_server_sent_event(&mut self) -> Option<Event> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if line.is_empty() {
                let event = std::mem::take(&mut self.current);
                if event != Event::default() {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.current.name),
                "data" => {
                    if !self.current.data.is_empty() {
                        self.current.data.push('\n');
                    }
                    self.current.data.push_str(value);
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_do_not_depend_on_how_the_bytes_are_split() -> anyhow::Result<()> {
        let stream = ":\n\nevent: next\ndata: {\"a\":\"ü\"}\n\n:\n\nid: 7\r\nevent:next\r\ndata: 1\r\ndata: 2\r\n\r\n\
                      event: complete\ndata:\n\nevent: next\ndata: cut";
        let expected = [event("next", "{\"a\":\"ü\"}"), event("next", "1\n2"), event("complete", "")];
        for size in 1..=stream.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for bytes in stream.as_bytes().chunks(size) {
                parser.push_bytes(bytes)?;
                events.extend(std::iter::from_fn(|| parser.next_server_sent_event()));
            }
            assert_eq!(events, expected, "{size} bytes at a time");
        }
        Ok(())
    }

    #[test]
    fn an_event_without_end_is_refused() -> anyhow::Result<()> {
        let mut parser = Parser::default();
        let bytes = vec![b'x'; EVENT_BYTES_MAX];
        parser.push_bytes(&bytes)?;
        assert!(parser.next_server_sent_event().is_none() && parser.push_bytes(&bytes).is_err());
        Ok(())
    }
}
