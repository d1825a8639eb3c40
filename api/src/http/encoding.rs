//! `Content-Encoding` (RFC 9110, section 8.4): requests are read as gzip and zstd, within the limits of plain ones.

use std::io::{self, Read};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use domain::limits::{BODY_BYTES_MAX, DECODED_RATIO_MAX, ZSTD_WINDOW_LOG_MAX};
use formats::Packing;

use crate::error::ApiError;

/// Decoded bytes from which on their ratio to the encoded ones is asked.
const RATIO_FROM_BYTES: usize = 64 * 1024;
/// So many first bytes tell how the rest is encoded.
const MAGIC_BYTES: usize = 4;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// What the headers of a request say.
    ///
    /// # Errors
    /// The name of an encoding that is not read, or of several.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, String> {
        // Several lines are one list (RFC 9110, section 5.3).
        let lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let names: Vec<&str> = lines.map(|value| value.to_str().unwrap_or("?").trim()).collect();
        let name = names.join(", ").to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!("Content-Encoding is gzip or zstd, and not {name:?}")),
        }
    }

    /// Whether bytes that begin so, as far as they have come, can be encoded in this way.
    pub(super) fn fits(self, begin: &[u8]) -> bool {
        let is_told = begin.len() >= MAGIC_BYTES;
        match self {
            _ if !is_told => true,
            Self::Identity => true,
            Self::Gzip => Packing::told_by(begin) == Some(Packing::Gzip),
            Self::Zstd => Packing::told_by(begin) == Some(Packing::Zstd),
        }
    }

    /// How many bytes a body may have once it is decoded.
    pub(super) fn decoded_max(self, encoded: usize) -> usize {
        let ratio_max = usize::try_from(DECODED_RATIO_MAX).unwrap_or(usize::MAX);
        match self {
            Self::Identity => encoded,
            _ => encoded.saturating_mul(ratio_max).clamp(RATIO_FROM_BYTES, BODY_BYTES_MAX),
        }
    }

    /// Decodes a body, in a thread where that holds nobody up.
    ///
    /// # Errors
    /// `BadUserInput` if it is not encoded so; `PayloadTooLarge` if it is too large once decoded.
    pub(super) async fn decode(self, body: Bytes) -> Result<Bytes, ApiError> {
        if self == Self::Identity {
            return Ok(body);
        }
        let decoded = tokio::task::spawn_blocking(move || self.decode_now(&body)).await;
        decoded.unwrap_or(Err(ApiError::Internal))
    }

    fn decode_now(self, body: &[u8]) -> Result<Bytes, ApiError> {
        let is_broken = |_: io::Error| {
            ApiError::BadUserInput("the body is not what its Content-Encoding says".to_owned())
        };
        let mut decoder: Box<dyn Read + '_> = match self {
            Self::Identity => Box::new(body),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(is_broken)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(is_broken)?;
                Box::new(decoder)
            }
        };
        let max = self.decoded_max(body.len()) as u64;
        let mut decoded = Vec::new();
        decoder.by_ref().take(max + 1).read_to_end(&mut decoded).map_err(is_broken)?;
        if decoded.len() as u64 > max {
            return Err(ApiError::PayloadTooLarge { max });
        }
        Ok(decoded.into())
    }
}
