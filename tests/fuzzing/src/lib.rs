//! The bodies of the fuzz targets. Each takes any bytes, gives them to what reads bytes that users send, and panics if
//! an invariant does not hold.
//!
//! cargo-fuzz calls them with bytes that it makes up (`fuzz/`), and `tests/replay.rs` with the seeds and with the inputs
//! that have found a fault before.

mod csv;
mod events;
mod json_reader;
mod packing;
mod preview;
mod query_limits;
mod reading;
pub mod seeds;
mod time_patterns;

use domain::import::Format;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// What it does with the bytes of an input.
    pub body: fn(&[u8]),
}

/// All fuzz targets.
pub const TARGETS: [Target; 9] = [
    Target { name: "ndjson", body: ndjson },
    Target { name: "json", body: json },
    Target { name: "csv", body: csv },
    Target { name: "apple_health", body: apple_health },
    Target { name: "packing", body: packing },
    Target { name: "preview", body: preview },
    Target { name: "time_patterns", body: time_patterns },
    Target { name: "json_reader", body: json_reader },
    Target { name: "query_limits", body: query_limits },
];

/// Reads a payload as NDJSON.
pub fn ndjson(payload: &[u8]) {
    reading::check(Format::Ndjson, None, payload);
}

/// Reads a payload as a JSON array.
pub fn json(payload: &[u8]) {
    reading::check(Format::Json, None, payload);
}

/// Reads a payload as CSV, by a mapping that stands before it.
pub fn csv(input: &[u8]) {
    if let Some((mapping, payload)) = csv::split(input) {
        reading::check(Format::Csv, Some(&mapping), payload);
    }
}

/// Reads a payload as an export of Apple Health.
pub fn apple_health(payload: &[u8]) {
    reading::check(Format::AppleHealth, None, payload);
}

/// Detects how a payload is packed and what is in it, and reads it as that.
pub fn packing(payload: &[u8]) {
    packing::check(payload);
}

/// Looks at a payload as before an import, and writes the records that would be rejected.
pub fn preview(payload: &[u8]) {
    preview::check(payload);
}

/// Reads a time by a pattern: the first line is the pattern, the rest is the time.
pub fn time_patterns(input: &[u8]) {
    if let Some((pattern, time)) = std::str::from_utf8(input).ok().and_then(|text| text.split_once('\n')) {
        time_patterns::check(pattern, time);
    }
}

/// Reads a text with all that reads or mends JSON.
pub fn json_reader(input: &[u8]) {
    match std::str::from_utf8(input) {
        Ok(text) => json_reader::check(text),
        Err(_) => assert!(formats::json::parse_record(input).is_err(), "a record is UTF-8"),
    }
}

/// Gives a GraphQL document to the gate.
pub fn query_limits(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        query_limits::check(text);
    }
}
