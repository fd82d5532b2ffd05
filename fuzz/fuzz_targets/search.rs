//! Fuzzes requests of zot's search.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::search(input));
