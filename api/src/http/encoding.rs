//! Decodes request bodies by their `Content-Encoding` (RFC 9110, section 8.4): gzip and zstd.
//!
//! The limits of plain bodies apply to the decoded bytes.

use std::io::{self, Read};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use domain::limits::{BODY_BYTES_MAX, DECODED_RATIO_MAX, ZSTD_WINDOW_LOG_MAX};
use formats::Packing;

use crate::error::ApiError;

/// The ratio of decoded to encoded bytes is limited only above this number of decoded bytes.
const RATIO_FROM_BYTES: usize = 64 * 1024;
/// How many bytes at the start of a body show its encoding.
const MAGIC_BYTES: usize = 4;

/// How a request body is compressed, by its `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// Reads the encoding from the headers of a request.
    ///
    /// # Errors
    /// A text for the client, if the encoding is not supported or several are named.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, String> {
        // Several header lines form one list (RFC 9110, section 5.3).
        let lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let names: Vec<&str> = lines.map(|value| value.to_str().unwrap_or("?").trim()).collect();
        let name = names.join(", ").to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!("Content-Encoding must be gzip or zstd, not {name:?}")),
        }
    }

    /// Whether a body that begins with these bytes can have this encoding. True for [`Self::Identity`], and
    /// if there are too few bytes to know.
    pub(super) fn may_match_first_bytes(self, begin: &[u8]) -> bool {
        let can_detect = begin.len() >= MAGIC_BYTES;
        match self {
            _ if !can_detect => true,
            Self::Identity => true,
            Self::Gzip => Packing::detect_supported_packing(begin) == Some(Packing::Gzip),
            Self::Zstd => Packing::detect_supported_packing(begin) == Some(Packing::Zstd),
        }
    }

    /// The most bytes that a body may have after decoding, if it has `encoded` bytes before.
    pub(super) fn decoded_bytes_max(self, encoded: usize) -> usize {
        let ratio_max = usize::try_from(DECODED_RATIO_MAX).unwrap_or(usize::MAX);
        match self {
            Self::Identity => encoded,
            _ => encoded.saturating_mul(ratio_max).clamp(RATIO_FROM_BYTES, BODY_BYTES_MAX),
        }
    }

    /// Decodes a whole body in a blocking thread, so that other tasks are not delayed.
    ///
    /// # Errors
    /// - [`ApiError::BadUserInput`] if the body does not have this encoding.
    /// - [`ApiError::PayloadTooLarge`] if the decoded body is larger than [`Self::decoded_bytes_max`].
    /// - [`ApiError::Internal`] if the decoder panics.
    pub(super) async fn decode_body(self, body: Bytes) -> Result<Bytes, ApiError> {
        if self == Self::Identity {
            return Ok(body);
        }
        let decoded = tokio::task::spawn_blocking(move || self.decode_blocking(&body)).await;
        decoded.unwrap_or(Err(ApiError::Internal))
    }

    fn decode_blocking(self, body: &[u8]) -> Result<Bytes, ApiError> {
        let invalid = |_: io::Error| {
            ApiError::BadUserInput("the body does not have the encoding of its Content-Encoding".to_owned())
        };
        let mut decoder: Box<dyn Read + '_> = match self {
            Self::Identity => Box::new(body),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(invalid)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(invalid)?;
                Box::new(decoder)
            }
        };
        let max = self.decoded_bytes_max(body.len()) as u64;
        let mut decoded = Vec::new();
        decoder.by_ref().take(max + 1).read_to_end(&mut decoded).map_err(invalid)?;
        if decoded.len() as u64 > max {
            return Err(ApiError::PayloadTooLarge { max });
        }
        Ok(decoded.into())
    }
}
