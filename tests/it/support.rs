//! What the tests stand on: registries, callers, checked answers, content.

pub mod content;
pub mod http;
pub mod raw;
pub mod registry;

pub use registry::TestRegistry;
