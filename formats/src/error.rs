//! Describes why reading a payload ends early. Errors of decoders are converted here.

use std::io;

use domain::problem::{Code, Problem};

use crate::source::SourceError;

/// Why a payload cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The payload is not of the format, damaged or not supported, or the CSV mapping does not fit its
    /// header. Reading it again cannot help. The code is `PAYLOAD_FORMAT`.
    #[error("{0}")]
    Format(String),
    /// The payload unpacks to too many bytes, or was compressed with too large a zstd window. The code is
    /// `PAYLOAD_LIMIT`. Other limits, such as that of columns, are [`Self::Format`].
    #[error("{0}")]
    Limit(String),
    /// The bytes of the payload could not be read. For some of these reasons, a later attempt may succeed.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// The error for a gzip file that is followed by something other than zeros. It is wrapped in an `io::Error`,
/// because decoders return only those.
#[derive(Debug, thiserror::Error)]
#[error("something other than zeros follows the end of the gzip")]
pub(crate) struct TrailingBytes;

impl From<io::Error> for ReadError {
    /// Converts a failed read. An error that is neither of this crate nor of a source counts as damage of the
    /// compressed payload.
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
    /// Whether reading reached the end of the part that a preview may read: the rest of the payload was not
    /// sent, or is after [`Input::with_decoded_limit`](crate::Input::with_decoded_limit).
    pub(crate) fn is_unsent_bytes_error(&self) -> bool {
        matches!(self, Self::Source(SourceError::NotSent))
    }

    pub(crate) fn new_format_error(detail: impl Into<String>) -> Self {
        Self::Format(detail.into())
    }

    /// The problem of an import that fails for good with this error. `None` if a later attempt may succeed.
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
