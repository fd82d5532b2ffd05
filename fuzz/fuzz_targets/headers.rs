//! Fuzzes the reading of headers: ranges, conditions, proxies, credentials.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::headers(input));
