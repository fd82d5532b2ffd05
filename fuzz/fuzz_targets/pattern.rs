//! Fuzzes the reading of repository patterns, and their comparison with names.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::pattern(input));
