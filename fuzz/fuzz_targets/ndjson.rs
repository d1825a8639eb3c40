//! Calls `fuzzing::ndjson` with bytes that libFuzzer generates.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::ndjson(bytes));
