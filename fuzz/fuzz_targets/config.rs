//! Fuzzes the reading of configurations in TOML.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::config(input));
