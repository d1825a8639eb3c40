//! Writes a whole response as JSON: the values that async-graphql resolved, and the lists that a plan has
//! already written.

use std::mem;

use async_graphql::{Response, Value};
use bytes::Bytes;

use super::JsonText;

/// A list that is already written as JSON becomes a piece of the response of its own from this many bytes on.
/// A shorter one is copied into the piece that is being written.
const PIECE_BYTES_MIN: usize = 4 * 1024;

/// The JSON text of a whole GraphQL response: its data, extensions and errors.
pub(crate) fn to_json_text(response: &Response) -> String {
    join_pieces_to_text(&to_json_pieces(response))
}

/// Joins the pieces of a JSON text into one text. It is empty if they are not UTF-8.
pub(crate) fn join_pieces_to_text(pieces: &[Bytes]) -> String {
    String::from_utf8(pieces.concat()).unwrap_or_default()
}

/// The JSON text of a value. A `Value::Binary` within it is JSON that is already written, and is inserted as
/// it is.
pub(crate) fn value_to_json_text(value: &Value) -> String {
    let mut pieces = Pieces::default();
    pieces.write_value(value);
    pieces.finish_piece();
    join_pieces_to_text(&pieces.finished)
}

/// The JSON text of a whole GraphQL response as consecutive pieces, so that long lists, which are already
/// written, are not copied.
pub(crate) fn to_json_pieces(response: &Response) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    pieces.text.push_raw_json(r#"{"data":"#);
    pieces.write_value(&response.data);
    if !response.extensions.is_empty() {
        pieces.text.push_raw_json(r#","extensions":"#);
        pieces.text.push_serialized(&response.extensions);
    }
    if !response.errors.is_empty() {
        pieces.text.push_raw_json(r#","errors":"#);
        pieces.text.push_serialized(&response.errors);
    }
    pieces.text.push_raw_json("}");
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

    /// Appends a value as JSON. `Value::Binary` is not binary data: it holds a list already written as JSON
    /// by a [`JsonPlan`](super::JsonPlan), and is inserted as it is.
    fn write_value(&mut self, value: &Value) {
        match value {
            Value::Binary(json) if json.len() >= PIECE_BYTES_MIN => {
                self.finish_piece();
                self.finished.push(json.clone());
            }
            Value::Binary(json) => self.text.push_raw_bytes(json),
            Value::Object(fields) => {
                let mut separator = "{";
                for (name, value) in fields {
                    self.text.push_raw_json(separator);
                    self.text.push_serialized(name.as_str());
                    self.text.push_raw_json(":");
                    self.write_value(value);
                    separator = ",";
                }
                self.text.push_raw_json(if fields.is_empty() { "{}" } else { "}" });
            }
            Value::List(items) => {
                let mut separator = "[";
                for item in items {
                    self.text.push_raw_json(separator);
                    self.write_value(item);
                    separator = ",";
                }
                self.text.push_raw_json(if items.is_empty() { "[]" } else { "]" });
            }
            other => self.text.push_serialized(other),
        }
    }
}
