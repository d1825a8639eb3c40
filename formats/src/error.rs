//! Describes why reading a payload ends early. Errors of decoders are converted here.

use std::io;

use domain::problem::{Code, Problem};

use crate::source::SourceError;

/// Why a payload yields no more records.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The payload is not of the format, and reading it again cannot help: `PAYLOAD_FORMAT`.
    #[error("{0}")]
    Format(String),
    /// The payload is over a limit: `PAYLOAD_LIMIT`.
    #[error("{0}")]
    Limit(String),
    /// The bytes of the payload could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// A gzip file is followed by something other than zeros. It is wrapped in an `io::Error`, because decoders
/// return only those.
#[derive(Debug, thiserror::Error)]
#[error("something other than zeros follows the end of the gzip")]
pub(crate) struct TrailingBytes;

impl From<io::Error> for ReadError {
    /// Converts a failed read. Either the source failed, or the decoder that reads from it.
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
        // The zstd decoder reports this case only by its message.
        if error.to_string().contains("requires too much memory") {
            let detail = "zstd: compress with a window of at most 8 MiB, without --long and --ultra";
            return Self::Limit(detail.to_owned());
        }
        Self::new_format_error("the compressed payload is cut or damaged")
    }
}

impl ReadError {
    /// Whether the read reached the end of a part, because the rest of the payload was not sent.
    pub(crate) fn is_unsent_bytes_error(&self) -> bool {
        matches!(self, Self::Source(SourceError::NotSent))
    }

    pub(crate) fn new_format_error(detail: impl Into<String>) -> Self {
        Self::Format(detail.into())
    }

    /// The problem of an import that ends with this error. `None` if a later attempt may succeed.
    #[must_use]
    pub fn to_problem_if_permanent(&self) -> Option<Problem> {
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
