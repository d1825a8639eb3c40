//! JSON that is being written.

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

    /// JSON as it is.
    pub(crate) fn raw(&mut self, json: &str) {
        self.written(json.as_bytes());
    }

    /// What such a text has written.
    pub(super) fn written(&mut self, json: &[u8]) {
        self.0.extend_from_slice(json);
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
}
