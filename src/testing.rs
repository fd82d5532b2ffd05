//! Entry points for benchmarks and fuzzers, in special builds only.

#[cfg(feature = "filling")]
pub mod filling;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
