//! Fuzzes what is done with an upload.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::upload(input));
