//! A GraphQL subscription over graphql-sse, in distinct connections mode: one request, and its events as
//! they come in the body.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A stream that says nothing is taken for dead: the server gives a heartbeat every 12 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The first event is due at once. What holds it back longer is a proxy that waits for the end.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of one event.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// One subscription that is read.
pub(super) struct Follower {
    answer: Response,
    frames: Frames,
    has_begun: bool,
}

impl Follower {
    /// Reads the body of this answer.
    pub(super) fn new(answer: Response) -> anyhow::Result<Self> {
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        ensure!(is_stream, "the server answers with no stream of events");
        Ok(Self { answer, frames: Frames::default(), has_begun: false })
    }

    /// The data of the next event; none when the server has completed the stream.
    ///
    /// # Errors
    /// When the stream is cut, silent for long, or says something else.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let frame = if self.has_begun {
            self.frame().await?
        } else {
            let first = tokio::time::timeout(FIRST_WITHIN, self.frame()).await;
            first.map_err(|_| anyhow!("nothing came for {} s", FIRST_WITHIN.as_secs()))??
        };
        self.has_begun = true;
        if frame.event == "complete" {
            return Ok(None);
        }
        let mut answer: Value = serde_json::from_str(&frame.data)?;
        if let Some(error) = answer["errors"].get(0) {
            return Err(anyhow!("the server answers: {}", error["message"]));
        }
        Ok(Some(serde_json::from_value(answer["data"].take())?))
    }

    /// The next whole frame. A heartbeat is none, but it ends a silence.
    async fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            if let Some(frame) = self.frames.take() {
                return Ok(frame);
            }
            let piece = tokio::time::timeout(SILENCE_MAX, self.answer.chunk()).await;
            let piece = piece.map_err(|_| anyhow!("nothing came for {} s", SILENCE_MAX.as_secs()))??;
            self.frames.push(&piece.ok_or_else(|| anyhow!("the stream was cut"))?)?;
        }
    }
}

/// One event of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frame {
    event: String,
    data: String,
}

/// Cuts the bytes of `text/event-stream` into frames (HTML Living Standard, 9.2.6).
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    begun: Frame,
}

impl Frames {
    fn push(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.bytes.extend_from_slice(piece);
        ensure!(self.bytes.len() + self.begun.data.len() <= EVENT_BYTES_MAX, "an event is too long");
        Ok(())
    }

    /// The next frame that has an event or data, once its blank line is there.
    fn take(&mut self) -> Option<Frame> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if line.is_empty() {
                let frame = std::mem::take(&mut self.begun);
                if frame != Frame::default() {
                    return Some(frame);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.begun.event),
                "data" => {
                    if !self.begun.data.is_empty() {
                        self.begun.data.push('\n');
                    }
                    self.begun.data.push_str(value);
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

    fn frame(event: &str, data: &str) -> Frame {
        Frame { event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() -> anyhow::Result<()> {
        let stream = ":\n\nevent: next\ndata: {\"a\":\"ü\"}\n\n:\n\nid: 7\r\nevent:next\r\ndata: 1\r\ndata: 2\r\n\r\n\
                      event: complete\ndata:\n\nevent: next\ndata: cut";
        let expected = [frame("next", "{\"a\":\"ü\"}"), frame("next", "1\n2"), frame("complete", "")];
        for size in 1..=stream.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                frames.push(piece)?;
                found.extend(std::iter::from_fn(|| frames.take()));
            }
            assert_eq!(found, expected, "in pieces of {size}");
        }
        Ok(())
    }

    #[test]
    fn an_event_without_end_is_refused() -> anyhow::Result<()> {
        let mut frames = Frames::default();
        let piece = vec![b'x'; EVENT_BYTES_MAX];
        frames.push(&piece)?;
        assert!(frames.take().is_none() && frames.push(&piece).is_err());
        Ok(())
    }
}
