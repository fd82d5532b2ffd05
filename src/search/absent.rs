//! zot's search in a build without the feature `search`. Nothing answers it.

/// The engine of searches.
#[derive(Debug, Default)]
pub(crate) struct Engine;
