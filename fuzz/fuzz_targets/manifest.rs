//! Fuzzes the reading of manifests and indexes.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::manifest(input));
