//! Which trace a request belongs to: the `traceparent` of W3C Trace Context, level 1. Nothing of its
//! `tracestate` is read or kept.

use std::fmt::{Display, Formatter, Result};

/// Length of a `traceparent` of version 00, and of what is kept of a later one.
const BYTES: usize = 55;

/// A span of a trace, ours or somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Not 0.
    pub trace_id: u128,
    /// Not 0.
    pub span_id: u64,
    /// Whether whoever began the trace records it.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` (section 3.2): lower case only, and no zero ids. Of a version to come only what
    /// version 00 knows is read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (known, more) = text.split_at_checked(BYTES)?;
        let [version, trace_id, span_id, flags] = known.split('-').collect::<Vec<_>>().try_into().ok()?;
        let lengths = [version, trace_id, span_id, flags].map(str::len);
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let may_go_on = more.is_empty() || (version != "00" && more.starts_with('-'));
        if lengths != [2, 32, 16, 2] || !known.bytes().all(is_hex) || version == "ff" || !may_go_on {
            return None;
        }
        let found = Self {
            trace_id: u128::from_str_radix(trace_id, 16).ok()?,
            span_id: u64::from_str_radix(span_id, 16).ok()?,
            is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (found.trace_id != 0 && found.span_id != 0).then_some(found)
    }
}

impl Display for TraceContext {
    /// As a `traceparent` of version 00, 55 bytes.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { trace_id, span_id, is_sampled } = *self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(is_sampled))
    }
}
