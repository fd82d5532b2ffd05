//! The history of tags, and what is restored from it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Failure;
use crate::content::repository::{Error as ContentError, HistoryFilter};
use crate::identity::accounts::Origin;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::registry::Shared;

/// At most this many entries are listed of each kind.
const LISTED_MAX: usize = 10_000;

/// What tags of a repository point at and pointed at, and the manifests that were deleted by digest.
pub(super) fn history(registry: &Arc<Shared>, name: &RepositoryName) -> Result<Value, Failure> {
    let repository = registry.repository(name);
    let page = repository.history(&HistoryFilter { limit: LISTED_MAX, ..HistoryFilter::default() })?;
    let (deleted, more) = repository.deleted(LISTED_MAX)?;
    let tags = page.entries.iter().map(|entry| {
        json!({
            "tag": entry.tag.as_str(),
            "digest": entry.state.digest.to_string(),
            "started": entry.started.to_string(),
            "ended": entry.state.until.map(|until| until.to_string()),
        })
    });
    let deleted = deleted.iter().map(|manifest| {
        json!({
            "digest": manifest.digest.to_string(),
            "media_type": manifest.media_type,
            "size": manifest.size,
            "deleted": manifest.deleted.map(|deleted| deleted.to_string()),
        })
    });
    Ok(json!({
        "repository": name.as_str(),
        "tags": tags.collect::<Vec<_>>(),
        "deleted": deleted.collect::<Vec<_>>(),
        "more": page.more || more,
    }))
}

/// Points a tag at what it pointed at before, or at a manifest that was deleted by digest; or restores such a manifest
/// without a tag.
pub(super) fn restore(
    registry: &Arc<Shared>,
    name: &RepositoryName,
    tag: Option<&str>,
    digest: Option<&str>,
) -> Result<Value, Failure> {
    let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(error.to_string());
    let tag: Option<Tag> = tag.map(str::parse).transpose().map_err(|error| invalid(&error))?;
    let digest: Option<Digest> = digest.map(str::parse).transpose().map_err(|error| invalid(&error))?;
    let repository = registry.repository(name).by(registry.accounts().author(Origin::local()));
    let digest = match (&tag, digest) {
        (_, Some(digest)) => digest,
        (Some(tag), None) => repository
            .last_pointed_at(tag)?
            .ok_or_else(|| ContentError::TagPastUnknown { tag: tag.clone(), digest: None })?,
        (None, None) => return Err(Failure::Invalid("neither a tag nor a digest is named".to_owned())),
    };
    let original = if let Some(tag) = &tag {
        repository.restore_tag(tag, digest)?
    } else {
        repository.restore_manifest(digest)?;
        None
    };
    let (shown, original) = (digest.to_string(), original.map(|digest| digest.to_string()));
    Ok(json!({
        "repository": name.as_str(),
        "tag": tag.as_ref().map(Tag::as_str),
        "digest": shown,
        "original": original,
    }))
}
