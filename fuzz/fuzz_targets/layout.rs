//! Fuzzes the reading of indexes of image layouts.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coracle::testing::fuzzing::layout(input));
