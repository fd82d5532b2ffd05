//! Entry points for benchmarks and fuzzers. No ordinary build has them.

#[cfg(feature = "filling")]
pub mod filling;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
