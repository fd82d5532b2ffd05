//! Support for benchmarks: the program as a user starts it, a cheap client, content, and figures.
//!
//! Every measurement takes what it needs of it.

#![allow(dead_code, reason = "each measurement takes what it needs")]

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod process;
pub(crate) mod program;

/// A directory for a registry's data, on the disk that the project is on.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The value in the middle, or between the two that are.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// A size for people.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
