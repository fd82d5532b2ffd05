//! Fuzzes the reading of request lines.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::route(input));
