//! Fuzzes the verifying of tokens and the reading of scopes.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::tokens(input));
