//! The rights that a change turns out to need in its transaction.

use std::fmt;

use super::{Expiry, TagChange, TagRights};
use crate::oci::{Digest, Tag};

/// A right that a caller lacks for a change. Only the transaction of the change knows whether it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MissingRight {
    AddManifest,
    RestoreManifest(Box<Digest>),
    CreateTag(Tag),
    UpdateTag(Tag),
    ExpireTag(Tag),
    UnlockTag(Tag),
}

impl fmt::Display for MissingRight {
    /// The change as a phrase that follows "may not". The name of the repository follows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddManifest => f.write_str("add a manifest to"),
            Self::RestoreManifest(digest) => write!(f, "restore the manifest {digest} in"),
            Self::CreateTag(tag) => write!(f, "create the tag {tag} in"),
            Self::UpdateTag(tag) => write!(f, "update the tag {tag} in"),
            Self::ExpireTag(tag) => write!(f, "let the tag {tag} expire in"),
            Self::UnlockTag(tag) => write!(f, "unlock the tag {tag} in"),
        }
    }
}

impl TagRights {
    /// The right that the caller lacks to point a tag at a manifest.
    pub(super) fn missing_to_point(self, tag: &Tag, exists: bool) -> Option<MissingRight> {
        if exists {
            (!self.may_move).then(|| MissingRight::UpdateTag(tag.clone()))
        } else {
            (!self.may_create).then(|| MissingRight::CreateTag(tag.clone()))
        }
    }
}

impl TagChange {
    /// The right that the caller lacks for this change.
    pub(super) fn missing_right(&self, tag: &Tag, exists: bool) -> Option<MissingRight> {
        let rights = TagRights { may_create: self.may_create, may_move: self.may_move };
        let to_expire = matches!(self.expires, Expiry::At(_)) && !self.may_delete;
        let to_unlock = self.immutable == Some(false) && !self.may_administer;
        let to_point = if self.digest.is_some() { rights.missing_to_point(tag, exists) } else { None };
        to_point
            .or_else(|| to_expire.then(|| MissingRight::ExpireTag(tag.clone())))
            .or_else(|| to_unlock.then(|| MissingRight::UnlockTag(tag.clone())))
    }
}
