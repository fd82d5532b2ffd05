//! Content in and out of the registry as files: stores of other registries, image layouts and archives.
//!
//! A [`Source`] lists manifests and gives their bytes. An [`Import`] stores them: blobs before manifests, manifests before
//! the indexes that list them, tags last. An [`Export`] writes a layout or an archive that other tools read.
//!
//! Invariants:
//!
//! * Every digest stays. What is damaged in a source is reported and skipped, and changes nothing.
//! * A tag is set when everything that its manifest needs is stored.
//! * A path never comes from the content of a source: layouts and stores are read by digest, archives by section.
//!
//! Knows no caller, no HTTP and no configuration.

mod export;
mod import;
mod ongoing;
mod source;

pub(crate) use export::{Export, Exported, Have, Selection};
pub(crate) use import::{Import, Imported, Naming};
pub(crate) use ongoing::{Ongoing, TransferState, Transfers};
pub(crate) use source::{Scratch, Source, SourceError, SourceKey, SourceUser};

use serde::{Deserialize, Serialize};

/// The longest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How deep indexes may be nested.
const DEPTH_MAX: usize = 8;

/// Something in a source that cannot be imported, or was not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// The tag, manifest or file.
    pub(crate) what: String,
    pub(crate) why: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Problem {
    /// Changes both texts, such as the paths in them.
    pub(crate) fn rename(&mut self, change: impl Fn(&str) -> String) {
        self.what = change(&self.what);
        self.why = change(&self.why);
    }

    pub(crate) fn new(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self { what: what.to_string(), why: why.to_string() }
    }
}
