//! The answers of a repository that are not what was asked for.

use std::fmt;

use crate::content::{blobs, rows};
use crate::oci::{Digest, InvalidManifest, Reference, RepositoryName, Tag, UploadId};

/// The answers of a repository that are not what was asked for. A variant exists where a caller
/// would act differently. Where there are two digests, one is boxed: every `Result` has room for the
/// largest variant.
#[derive(Debug)]
pub(crate) enum Error {
    RepositoryUnknown {
        name: RepositoryName,
    },
    BlobUnknown {
        digest: Digest,
    },
    /// Its file is not what it was. Pushed again, it is healed.
    BlobDamaged {
        digest: Digest,
    },
    ManifestUnknown {
        reference: Reference,
    },
    UploadUnknown {
        id: UploadId,
    },
    /// Another request is writing to the upload.
    UploadBusy {
        id: UploadId,
    },
    /// A chunk does not begin where the upload has come to.
    UploadOutOfOrder {
        reached: u64,
    },
    DigestMismatch {
        expected: Digest,
        actual: Box<Digest>,
    },
    ManifestInvalid(InvalidManifest),
    /// The manifest needs content that the repository does not have.
    ManifestContentMissing {
        missing: Vec<Digest>,
    },
    /// A manifest needs the blob.
    BlobReferenced {
        digest: Digest,
    },
    /// An index lists the manifest.
    ManifestReferenced {
        digest: Digest,
        index: Box<Digest>,
    },
    /// The caller may not do what turned out to be needed.
    NotGranted,
    /// More than one tag names the manifest, and whoever deletes it did not want that.
    ManifestTagged {
        digest: Digest,
    },
    /// The tag is not where the client believes.
    TagMoved {
        now: Option<Digest>,
    },
    /// The tag did not point there, or too long ago; or it is not known that it pointed anywhere.
    TagPastUnknown {
        tag: Tag,
        digest: Option<Digest>,
    },
    /// Our fault: files.
    Blobs(blobs::Error),
    /// Our fault: rows.
    Database(rows::Error),
    /// Stored content is not what was stored.
    Corrupt {
        what: &'static str,
        digest: Digest,
    },
}

impl From<blobs::Error> for Error {
    fn from(error: blobs::Error) -> Self {
        match error {
            blobs::Error::DigestMismatch { expected, actual } => Self::DigestMismatch { expected, actual },
            error @ (blobs::Error::Io(_) | blobs::Error::NoSpace { .. }) => Self::Blobs(error),
        }
    }
}

impl From<rows::Error> for Error {
    fn from(error: rows::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RepositoryUnknown { name } => write!(f, "there is no repository {name}"),
            Self::BlobUnknown { digest } => write!(f, "the repository has no blob {digest}"),
            Self::BlobDamaged { digest } => {
                write!(f, "the blob {digest} is damaged on the registry's disk: push it again")
            }
            Self::ManifestUnknown { reference } => write!(f, "the repository has no manifest {reference}"),
            Self::UploadUnknown { id } => write!(f, "there is no upload {id}: it is finished, cancelled or expired"),
            Self::UploadBusy { id } => write!(f, "another request is writing to the upload {id}"),
            Self::UploadOutOfOrder { reached } => {
                write!(f, "the chunk is out of order: the next byte to send is {reached}")
            }
            Self::DigestMismatch { expected, actual } => {
                write!(f, "the content has the digest {actual}, not {expected}")
            }
            Self::ManifestInvalid(invalid) => invalid.fmt(f),
            Self::ManifestContentMissing { missing } => {
                write!(
                    f,
                    "the manifest references {} blobs or manifests that the repository does not have",
                    missing.len()
                )
            }
            Self::BlobReferenced { digest } => {
                write!(f, "a manifest of the repository references {digest}: delete the manifest first")
            }
            Self::ManifestReferenced { digest, index } => {
                write!(f, "the index {index} lists {digest}: delete the index first")
            }
            Self::NotGranted => f.write_str("requested access to the resource is denied"),
            Self::ManifestTagged { digest } => write!(f, "more than one tag names {digest}: delete the tags first"),
            Self::TagMoved { now: Some(digest) } => write!(f, "the tag points at {digest}"),
            Self::TagMoved { now: None } => f.write_str("the tag does not exist"),
            Self::TagPastUnknown { tag, digest: Some(digest) } => {
                write!(f, "the tag {tag} is not known to have pointed at {digest} in the time that is kept")
            }
            Self::TagPastUnknown { tag, digest: None } => {
                write!(f, "the tag {tag} is not known to have pointed at anything else in the time that is kept")
            }
            Self::Blobs(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
            Self::Corrupt { what, digest } => write!(f, "{digest} is damaged: {what}"),
        }
    }
}

impl std::error::Error for Error {}
