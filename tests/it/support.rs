//! Test support: registries, callers, checked responses, content, and the real program.

pub mod connection;
pub mod content;
pub mod http;
pub mod issuer;
pub mod process;
pub mod raw;
pub mod registry;
pub mod restarting;

pub use registry::TestRegistry;

/// Whether tests run in their long form (`CORACLE_FULL`). `.ci/run` sets it.
pub fn is_long_form() -> bool {
    std::env::var_os("CORACLE_FULL").is_some()
}
