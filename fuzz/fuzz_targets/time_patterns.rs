//! Calls `fuzzing::time_patterns` with bytes that libFuzzer generates.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::time_patterns(bytes));
