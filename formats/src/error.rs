//! Why a payload yields no more records.

use std::io;

use domain::problem::{Code, Problem};

use crate::source::SourceError;

/// Why a payload yields no more records.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The payload is not what it should be, and never will be: `PAYLOAD_FORMAT`.
    #[error("{0}")]
    Format(String),
    /// The payload is over a limit: `PAYLOAD_LIMIT`.
    #[error("{0}")]
    Limit(String),
    /// Its bytes could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Something other than zeros after the end of a gzip file. It travels through `Read`.
#[derive(Debug, thiserror::Error)]
#[error("something other than zeros follows the end of the gzip")]
pub(crate) struct TrailingBytes;

impl From<io::Error> for ReadError {
    /// What a failed read means: a failure of the source, or of the decoder that reads from it.
    fn from(error: io::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(read) => return read,
            Err(other) => other,
        };
        if let Some(source) = error.get_ref().and_then(|inner| inner.downcast_ref::<SourceError>()) {
            return Self::Source(*source);
        }
        if let Some(trailing) = error.get_ref().and_then(|inner| inner.downcast_ref::<TrailingBytes>()) {
            return Self::Format(trailing.to_string());
        }
        // The decoder says it in no other way than by this text.
        if error.to_string().contains("requires too much memory") {
            let detail = "zstd: compress with a window of at most 8 MiB, without --long and --ultra";
            return Self::Limit(detail.to_owned());
        }
        Self::format("the compressed payload is cut or damaged")
    }
}

impl ReadError {
    /// Whether only a part was sent, and this is where it ends.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Self::Source(SourceError::NotSent))
    }

    pub(crate) fn format(detail: impl Into<String>) -> Self {
        Self::Format(detail.into())
    }

    /// The problem of an import that ends with this error. `None`: the payload may be read later.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let code = match self {
            Self::Format(_) => Code::PayloadFormat,
            Self::Limit(_) => Code::PayloadLimit,
            Self::Source(SourceError::Gone) => Code::PayloadGone,
            Self::Source(SourceError::Changed) => Code::PayloadMismatch,
            Self::Source(SourceError::Unavailable | SourceError::NotSent) => return None,
        };
        Some(Problem::new(code, self.to_string()))
    }
}
