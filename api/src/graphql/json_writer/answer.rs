//! A whole answer as JSON: what the library resolved, and within it the lists that were written already.

use std::mem;

use async_graphql::{Response, Value};
use bytes::Bytes;

use super::JsonText;

/// A list from so many bytes on is a piece of its own; one that is shorter is copied.
const PIECE_BYTES_MIN: usize = 4 * 1024;

/// The text of an answer.
pub(crate) fn text(answer: &Response) -> String {
    joined(&pieces(answer))
}

/// The text that pieces are of.
pub(crate) fn joined(pieces: &[Bytes]) -> String {
    String::from_utf8(pieces.concat()).unwrap_or_default()
}

/// The text of a value. What stands in it as bytes is JSON already.
pub(crate) fn json_text(value: &Value) -> String {
    let mut pieces = Pieces::default();
    pieces.value(value);
    pieces.cut();
    joined(&pieces.whole)
}

/// The text of an answer in pieces, which follow each other.
pub(crate) fn pieces(answer: &Response) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    pieces.text.raw(r#"{"data":"#);
    pieces.value(&answer.data);
    if !answer.extensions.is_empty() {
        pieces.text.raw(r#","extensions":"#);
        pieces.text.json(&answer.extensions);
    }
    if !answer.errors.is_empty() {
        pieces.text.raw(r#","errors":"#);
        pieces.text.json(&answer.errors);
    }
    pieces.text.raw("}");
    pieces.cut();
    pieces.whole
}

#[derive(Default)]
struct Pieces {
    whole: Vec<Bytes>,
    /// The one that is being written.
    text: JsonText,
}

impl Pieces {
    fn cut(&mut self) {
        self.whole.push(mem::take(&mut self.text).into_bytes().into());
    }

    /// Bytes in a value are what was written already.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Binary(written) if written.len() >= PIECE_BYTES_MIN => {
                self.cut();
                self.whole.push(written.clone());
            }
            Value::Binary(written) => self.text.written(written),
            Value::Object(fields) => {
                let mut before = "{";
                for (name, value) in fields {
                    self.text.raw(before);
                    self.text.json(name.as_str());
                    self.text.raw(":");
                    self.value(value);
                    before = ",";
                }
                self.text.raw(if fields.is_empty() { "{}" } else { "}" });
            }
            Value::List(items) => {
                let mut before = "[";
                for item in items {
                    self.text.raw(before);
                    self.value(item);
                    before = ",";
                }
                self.text.raw(if items.is_empty() { "[]" } else { "]" });
            }
            other => self.text.json(other),
        }
    }
}
