//! Errors of a repository.

use super::lint::CONFIG_BYTES_MAX;
use super::{Immutable, MissingRight, QuotaExceeded};
use crate::content::{blobs, rows};
use crate::kit::file::is_full;
use crate::kit::text;
use crate::oci::{Digest, InvalidManifest, Reference, RepositoryName, Tag, UploadId};

/// The most digests that a message names.
const NAMED_MAX: usize = 3;

/// Why a repository cannot do what was asked. A variant exists where callers act differently. Of two digests one is
/// boxed, because every `Result` is as large as the largest variant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no repository {name}")]
    RepositoryUnknown { name: RepositoryName },
    #[error("the repository has no blob {digest}")]
    BlobUnknown { digest: Digest },
    /// Its file is damaged. Pushing the blob again repairs it.
    #[error("the blob {digest} is damaged on the registry's disk: push it again")]
    BlobDamaged { digest: Digest },
    #[error("the repository has no {} {reference}", if matches!(reference, Reference::Tag(_)) { "tag" } else { "manifest" })]
    ManifestUnknown { reference: Reference },
    #[error("there is no upload {id}: it is finished, cancelled or expired")]
    UploadUnknown { id: UploadId },
    /// Another request is writing to the upload.
    #[error("another request is writing to the upload {id}")]
    UploadBusy { id: UploadId },
    /// A chunk does not begin at the end of the upload.
    #[error("the chunk is out of order: the next byte to send is {reached}")]
    UploadOutOfOrder { reached: u64 },
    #[error("the content has the digest {actual}, not {expected}")]
    DigestMismatch { expected: Digest, actual: Box<Digest> },
    #[error(transparent)]
    ManifestInvalid(InvalidManifest),
    /// The manifest needs content that the repository does not have.
    #[error("the manifest references {}", unknown(missing))]
    ManifestContentMissing { missing: Vec<Digest> },
    /// A manifest needs the blob.
    #[error("a manifest of the repository references {digest}: delete the manifest first")]
    BlobReferenced { digest: Digest },
    /// An index lists the manifest.
    #[error("the index {index} lists {digest}: delete the index first")]
    ManifestReferenced { digest: Digest, index: Box<Digest> },
    /// The caller lacks a right that turned out to be needed.
    #[error("the caller may not {right} {name}")]
    NotGranted { name: RepositoryName, right: MissingRight },
    /// More than one tag names the manifest, and the caller excluded that.
    #[error("more than one tag names {digest}: delete the tags first")]
    ManifestTagged { digest: Digest },
    /// The tag does not point at the expected manifest.
    #[error("{}", now.map_or_else(|| "the tag does not exist".to_owned(), |now| format!("the tag points at {now}")))]
    TagMoved { now: Option<Digest> },
    /// The tag cannot be moved or removed.
    #[error("the tag {tag} is {by}{}", unlocked(tag, by))]
    TagImmutable { tag: Tag, by: Immutable },
    #[error("the image lacks these annotations, in its manifest or as labels: {}", missing.join(", "))]
    AnnotationsMissing { missing: Vec<String> },
    /// The labels of a config are not read, because it is too large.
    #[error(
        "the image lacks these annotations in its manifest: {}; its config {config} has {}, and labels are read from \
         configs of up to {}: add the annotations to the manifest",
        missing.join(", "),
        text::size(*size),
        text::size(CONFIG_BYTES_MAX)
    )]
    LabelsUnread { missing: Vec<String>, config: Box<Digest>, size: u64 },
    #[error("{0}")]
    QuotaExceeded(Box<QuotaExceeded>),
    /// The repository does not exist, and there may be no more (`storage.maxRepos`).
    #[error("there may be no more than {limit} repositories (storage.maxRepos)")]
    TooManyRepositories { limit: u64 },
    /// No such previous target of the tag is kept.
    #[error("no earlier version of the tag {tag}{} is kept (storage.tagHistory)", at(*digest))]
    TagPastUnknown { tag: Tag, digest: Option<Digest> },
    #[error(transparent)]
    Blobs(blobs::Error),
    #[error(transparent)]
    Database(#[from] rows::Error),
    /// Stored content is damaged.
    #[error("{digest} is damaged: {what}")]
    Corrupt { what: &'static str, digest: Digest },
}

impl Error {
    /// Whether bytes do not have the expected digest.
    pub(crate) const fn is_wrong_digest(&self) -> bool {
        matches!(self, Self::DigestMismatch { .. })
    }

    /// Whether the disk is full, or has less free space than `storage.minFreeSpace`.
    pub(crate) fn is_no_space(&self) -> bool {
        let source = match self {
            Self::Blobs(blobs::Error::NoSpace { .. }) => return true,
            Self::Blobs(blobs::Error::Io(failed)) => Some(&failed.source),
            Self::Database(error) => error.io(),
            _ => None,
        };
        source.is_some_and(|source| is_full(source.kind()))
    }
}

impl From<blobs::Error> for Error {
    fn from(error: blobs::Error) -> Self {
        match error {
            blobs::Error::DigestMismatch { expected, actual } => Self::DigestMismatch { expected, actual },
            error @ (blobs::Error::Io(_) | blobs::Error::NoSpace { .. }) => Self::Blobs(error),
        }
    }
}

/// The content that a repository does not have, for messages.
fn unknown(missing: &[Digest]) -> String {
    let mut named: Vec<String> = missing.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if missing.len() > NAMED_MAX {
        named.push(format!("{} more", missing.len() - NAMED_MAX));
    }
    let kind = if missing.len() == 1 { "blob or manifest" } else { "blobs or manifests" };
    format!("{} {kind} that the repository does not have: {}", missing.len(), named.join(", "))
}

/// ` at <digest>`, for messages.
fn at(digest: Option<Digest>) -> String {
    digest.map_or_else(String::new, |digest| format!(" at {digest}"))
}

/// How to unlock a tag, for messages.
fn unlocked(tag: &Tag, by: &Immutable) -> String {
    match by {
        Immutable::Locked => format!(
            ": a user who administers the repository can unlock it, with PUT /api/v1/repository/NAME/tag/{tag} and \
             {{\"immutable\": false}}"
        ),
        Immutable::Rule(_) => String::new(),
    }
}
