//! What can go wrong with blobs.

use std::fmt;
use std::io;
use std::path::Path;

use crate::kit::file::PathError;
use crate::oci::Digest;

/// What can go wrong with blobs.
#[derive(Debug)]
pub(crate) enum Error {
    /// The bytes received are not those of the digest. Boxed, because two digests in it would make
    /// every `Result` large.
    DigestMismatch { expected: Digest, actual: Box<Digest> },
    /// A file operation failed.
    Io(PathError),
    /// Less is free than is to stay free.
    NoSpace { free: u64, min_free: u64 },
}

impl Error {
    /// Adds to an I/O error what was done to which file.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io(PathError::at(operation, path)(source))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DigestMismatch { expected, actual } => {
                write!(f, "the content has the digest {actual}, not {expected}")
            }
            Self::Io(error) => error.fmt(f),
            Self::NoSpace { free, min_free } => {
                write!(f, "{free} bytes are free, and {min_free} are to stay free (storage.minFreeSpace)")
            }
        }
    }
}

impl std::error::Error for Error {}
