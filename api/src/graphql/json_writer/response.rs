//! Writes a whole response as JSON: the values that async-graphql resolved, and the lists that a plan has
//! already written.

use std::mem;

use async_graphql::{Response, Value};
use bytes::Bytes;

use super::JsonText;

/// A written list of at least this many bytes becomes a piece of its own. A shorter one is copied.
const PIECE_BYTES_MIN: usize = 4 * 1024;

/// The JSON text of a response.
pub(crate) fn text(response: &Response) -> String {
    joined(&pieces(response))
}

/// Joins pieces into one text.
pub(crate) fn joined(pieces: &[Bytes]) -> String {
    String::from_utf8(pieces.concat()).unwrap_or_default()
}

/// The JSON text of a value. Bytes within it are JSON that is already written.
pub(crate) fn json_text(value: &Value) -> String {
    let mut pieces = Pieces::default();
    pieces.value(value);
    pieces.finish_piece();
    joined(&pieces.finished)
}

/// The JSON text of a response as consecutive pieces, so that long lists are not copied again.
pub(crate) fn pieces(response: &Response) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    pieces.text.raw(r#"{"data":"#);
    pieces.value(&response.data);
    if !response.extensions.is_empty() {
        pieces.text.raw(r#","extensions":"#);
        pieces.text.json(&response.extensions);
    }
    if !response.errors.is_empty() {
        pieces.text.raw(r#","errors":"#);
        pieces.text.json(&response.errors);
    }
    pieces.text.raw("}");
    pieces.finish_piece();
    pieces.finished
}

#[derive(Default)]
struct Pieces {
    finished: Vec<Bytes>,
    /// The piece that is being written.
    text: JsonText,
}

impl Pieces {
    fn finish_piece(&mut self) {
        self.finished.push(mem::take(&mut self.text).into_bytes().into());
    }

    /// Writes a value. `Value::Binary` holds the JSON of a list that a plan has written.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Binary(json) if json.len() >= PIECE_BYTES_MIN => {
                self.finish_piece();
                self.finished.push(json.clone());
            }
            Value::Binary(json) => self.text.raw_bytes(json),
            Value::Object(fields) => {
                let mut separator = "{";
                for (name, value) in fields {
                    self.text.raw(separator);
                    self.text.json(name.as_str());
                    self.text.raw(":");
                    self.value(value);
                    separator = ",";
                }
                self.text.raw(if fields.is_empty() { "{}" } else { "}" });
            }
            Value::List(items) => {
                let mut separator = "[";
                for item in items {
                    self.text.raw(separator);
                    self.value(item);
                    separator = ",";
                }
                self.text.raw(if items.is_empty() { "[]" } else { "]" });
            }
            other => self.text.json(other),
        }
    }
}
