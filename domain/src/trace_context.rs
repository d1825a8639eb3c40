//! Parses and formats the header `traceparent`, which names the trace of a request (W3C Trace Context,
//! level 1). The header `tracestate` is neither read nor kept.

use std::fmt::{Display, Formatter, Result};

/// The length of a `traceparent` of version 00, and of the part of a later version that is read.
const BYTES: usize = 55;

/// The identifiers of one span of a trace, as `traceparent` has them. The span may be one of this server or
/// of another system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace. It is not 0.
    pub trace_id: u128,
    /// The id of the span. It is not 0.
    pub span_id: u64,
    /// The sampled flag: whether the caller may have recorded the trace.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Parses the value of a header `traceparent` (section 3.2). `None` if it is not valid: hexadecimal
    /// digits must be lower case, and no id zero. Of a later version, only the fields of version 00 are read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.split_at_checked(BYTES)?;
        let [version, trace_id, span_id, flags] = first.split('-').collect::<Vec<_>>().try_into().ok()?;
        let lengths = [version, trace_id, span_id, flags].map(str::len);
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let has_valid_length = rest.is_empty() || (version != "00" && rest.starts_with('-'));
        if lengths != [2, 32, 16, 2] || !first.bytes().all(is_hex) || version == "ff" || !has_valid_length {
            return None;
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace_id, 16).ok()?,
            span_id: u64::from_str_radix(span_id, 16).ok()?,
            is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }
}

impl Display for TraceContext {
    /// Formats the value of a header `traceparent` of version 00, which has 55 bytes.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { trace_id, span_id, is_sampled } = *self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(is_sampled))
    }
}
