//! Test support: registries, callers, checked responses, content, and the real program.

pub mod connection;
pub mod content;
pub mod http;
pub mod issuer;
pub mod process;
pub mod raw;
pub mod registry;

pub use registry::TestRegistry;
