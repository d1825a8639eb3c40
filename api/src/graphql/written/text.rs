//! JSON that is being written.

use async_graphql::Value;
use domain::rules::instant;
use serde::Serialize;
use uuid::Uuid;

/// The text so far.
#[derive(Debug, Default)]
pub struct Text(Vec<u8>);

impl Text {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn into_string(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }

    /// JSON as it is.
    pub(crate) fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    /// Whatever has a form in JSON.
    pub(crate) fn json(&mut self, value: &(impl Serialize + ?Sized)) {
        if serde_json::to_writer(&mut self.0, value).is_err() {
            self.raw("null");
        }
    }

    /// Null, or what `write` makes of it.
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.raw("null"),
        }
    }

    pub(crate) fn id(&mut self, id: Uuid) {
        let mut digits = [0; 36];
        let digits = id.hyphenated().encode_lower(&mut digits);
        self.raw("\"");
        self.raw(digits);
        self.raw("\"");
    }

    pub(crate) fn instant(&mut self, ms: i64) {
        self.0.push(b'"');
        self.0.extend_from_slice(&instant::digits(ms));
        self.0.push(b'"');
    }

    /// A value of the library's; bytes in it are what was written already.
    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Binary(written) => self.0.extend_from_slice(written),
            Value::Object(fields) => {
                let mut before = "{";
                for (name, value) in fields {
                    self.raw(before);
                    self.json(name.as_str());
                    self.raw(":");
                    self.value(value);
                    before = ",";
                }
                self.raw(if fields.is_empty() { "{}" } else { "}" });
            }
            Value::List(items) => {
                let mut before = "[";
                for item in items {
                    self.raw(before);
                    self.value(item);
                    before = ",";
                }
                self.raw(if items.is_empty() { "[]" } else { "]" });
            }
            other => self.json(other),
        }
    }
}
