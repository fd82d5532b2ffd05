//! The errors of repositories.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde_json::json;

use super::{ApiError, RETRY_SECONDS, TAG_IMMUTABLE, database, disk};
use crate::content::blobs;
use crate::content::repository::{self, Error as E, MissingRight};
use crate::identity::access::{Access, Action, Actions, Caller};
use crate::oci::{Digest, ErrorCode};

impl ApiError {
    /// Makes the error of a change. Names the caller if the change needs a right that the caller lacks.
    pub(crate) fn of_change(error: repository::Error, caller: &Caller) -> Self {
        match error {
            E::NotGranted { name, right } => {
                let access = Access::Repository(name.clone(), Actions::of(action(&right)));
                Self::lacking(caller, &access, &format!("{right} {name}"))
            }
            error => error.into(),
        }
    }
}

/// The action that a right belongs to.
const fn action(right: &MissingRight) -> Action {
    match right {
        MissingRight::AddManifest | MissingRight::RestoreManifest(_) | MissingRight::CreateTag(_) => Action::Push,
        MissingRight::UpdateTag(_) => Action::Update,
        MissingRight::ExpireTag(_) => Action::Delete,
        MissingRight::UnlockTag(_) => Action::Administer,
    }
}

impl From<repository::Error> for ApiError {
    fn from(error: repository::Error) -> Self {
        let message = error.to_string();
        let named = |digest: Digest| json!({ "digest": digest.to_string() });
        match error {
            E::RepositoryUnknown { name } => {
                Self::new(ErrorCode::NameUnknown, message).detail(json!({ "name": name.as_str() }))
            }
            E::BlobUnknown { digest } | E::BlobDamaged { digest } => {
                Self::new(ErrorCode::BlobUnknown, message).detail(named(digest))
            }
            E::ManifestUnknown { reference } => {
                Self::new(ErrorCode::ManifestUnknown, message).detail(json!({ "reference": reference.to_string() }))
            }
            E::TagPastUnknown { .. } => Self::new(ErrorCode::ManifestUnknown, message),
            E::UploadUnknown { .. } => Self::new(ErrorCode::BlobUploadUnknown, message),
            // Another request uses the upload. Waiting may help.
            E::UploadBusy { .. } => Self::new(ErrorCode::BlobUploadInvalid, message)
                .status(StatusCode::CONFLICT)
                .header(header::RETRY_AFTER, RETRY_SECONDS),
            E::UploadOutOfOrder { .. } => Self::range(ErrorCode::BlobUploadInvalid, message),
            E::DigestMismatch { expected, actual } => Self::new(ErrorCode::DigestInvalid, message)
                .detail(json!({ "expected": expected.to_string(), "actual": actual.to_string() })),
            E::ManifestInvalid(crate::oci::InvalidManifest::UnsupportedType(_)) => {
                Self::new(ErrorCode::ManifestInvalid, message).status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            E::ManifestInvalid(_) => Self::new(ErrorCode::ManifestInvalid, message),
            E::ManifestContentMissing { missing } => {
                let error = Self::new(ErrorCode::ManifestBlobUnknown, ErrorCode::ManifestBlobUnknown.message());
                missing.into_iter().fold(error, |error, digest| error.detail(named(digest)))
            }
            // The same status as zot: the method is not allowed while something references the content.
            E::BlobReferenced { digest } => Self::new(ErrorCode::Denied, message)
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
                .detail(named(digest)),
            E::ManifestReferenced { digest, .. } => Self::new(ErrorCode::Denied, message)
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT"))
                .detail(named(digest)),
            E::NotGranted { name, right } => Self::new(ErrorCode::Denied, message)
                .detail(json!({ "name": name.as_str(), "action": action(&right).as_str() })),
            // The same status as zot.
            E::ManifestTagged { digest } => {
                Self::new(ErrorCode::ManifestInvalid, message).status(StatusCode::CONFLICT).detail(named(digest))
            }
            // The same status as Quay. The specification names none.
            E::TagImmutable { tag, by } => {
                let detail = json!({ "tag": tag.to_string(), "reason": by.to_string() });
                let mut error = Self::new(ErrorCode::Denied, message).status(StatusCode::CONFLICT).detail(detail);
                error.0.title = Some(TAG_IMMUTABLE);
                error
            }
            E::AnnotationsMissing { missing } | E::LabelsUnread { missing, .. } => {
                Self::new(ErrorCode::ManifestInvalid, message).detail(json!({ "missingAnnotations": missing }))
            }
            E::QuotaExceeded(exceeded) => {
                let quota = exceeded.quota;
                Self::new(ErrorCode::Denied, message)
                    .detail(json!({ "quota": quota.rule, "used": quota.used, "limit": quota.limit }))
            }
            // The same status and code as zot.
            E::TooManyRepositories { limit } => Self::new(ErrorCode::TooManyRequests, message)
                .header(header::RETRY_AFTER, RETRY_SECONDS)
                .detail(json!({ "limit": limit })),
            E::TagMoved { .. } => Self::new(ErrorCode::Denied, message).status(StatusCode::PRECONDITION_FAILED),
            E::Blobs(error) => match &error {
                blobs::Error::Io(failed) => disk(&failed.source, &error),
                blobs::Error::NoSpace { .. } => Self::no_space(error),
                blobs::Error::DigestMismatch { .. } => Self::internal(error),
            },
            E::Database(error) => database(&error),
            E::Corrupt { .. } => Self::internal(message),
        }
    }
}
