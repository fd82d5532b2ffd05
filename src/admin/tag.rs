//! Operations on the history of tags.

use serde::{Deserialize, Serialize};

use super::{Call, Failure, Operation};
use crate::content::repository::{Error as ContentError, HistoryFilter, PlannedTag, Repository, TagChange};
use crate::identity::accounts::Origin;
use crate::oci::{Digest, Reference, RepositoryName, Tag};

/// The largest number of entries in each list.
const LISTED_MAX: usize = 10_000;
/// The most tags that a restored tag displaces and that the answer names.
const DISPLACED_MAX: usize = 100;

/// List what the tags of a repository pointed at, and the manifests that were deleted by digest
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct TagHistory {
    /// The repository
    repository: RepositoryName,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TagTimeline {
    repository: RepositoryName,
    pub(crate) tags: Vec<TagPeriod>,
    pub(crate) deleted: Vec<DeletedManifest>,
    /// Whether there are more entries than the list has.
    pub(crate) more: bool,
}

/// A time during which a tag pointed at a manifest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TagPeriod {
    pub(crate) tag: String,
    pub(crate) digest: String,
    pub(crate) started: String,
    pub(crate) ended: Option<String>,
}

/// A manifest that was deleted by digest and can be restored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeletedManifest {
    pub(crate) digest: String,
    media_type: String,
    size: u64,
    pub(crate) deleted: Option<String>,
}

impl Operation for TagHistory {
    type Answer = TagTimeline;

    fn perform(self, call: &Call<'_>) -> Result<TagTimeline, Failure> {
        let repository = call.registry.repository(&self.repository);
        let page = repository.history(&HistoryFilter { limit: LISTED_MAX, ..HistoryFilter::default() })?;
        let (deleted, next) = repository.deleted(None, LISTED_MAX)?;
        let tags = page.entries.into_iter().map(|entry| TagPeriod {
            tag: entry.tag.to_string(),
            digest: entry.state.digest.to_string(),
            started: entry.started.to_string(),
            ended: entry.state.until.map(|until| until.to_string()),
        });
        let deleted = deleted.into_iter().map(|manifest| DeletedManifest {
            digest: manifest.digest.to_string(),
            media_type: manifest.media_type,
            size: manifest.size,
            deleted: manifest.deleted.map(|deleted| deleted.to_string()),
        });
        Ok(TagTimeline {
            repository: self.repository,
            tags: tags.collect(),
            deleted: deleted.collect(),
            more: page.more || next.is_some(),
        })
    }
}

/// Points a tag at an earlier or another manifest of the repository, or restores a manifest that was deleted by digest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RestoreTag {
    pub(crate) repository: RepositoryName,
    pub(crate) tag: Option<String>,
    /// The manifest; required without a tag.
    pub(crate) digest: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RestoredTag {
    pub(crate) repository: RepositoryName,
    pub(crate) tag: Option<String>,
    pub(crate) digest: String,
    /// The manifest that the tag pointed at before.
    original: Option<String>,
    /// Why the next run of retention removes the tag again, if it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) removed_again: Option<String>,
    /// Other tags that the next run of retention removes because of the restored one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) displaced: Vec<DisplacedTag>,
}

/// A tag that the next run of retention removes, and would have kept before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DisplacedTag {
    pub(crate) tag: String,
    /// The rule and its reason.
    pub(crate) reason: String,
}

impl Operation for RestoreTag {
    type Answer = RestoredTag;

    fn perform(self, call: &Call<'_>) -> Result<RestoredTag, Failure> {
        let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(error.to_string());
        let tag: Option<Tag> = self.tag.map(|tag| tag.parse()).transpose().map_err(|error| invalid(&error))?;
        let digest: Option<Digest> =
            self.digest.map(|text| text.parse()).transpose().map_err(|error| invalid(&error))?;
        let author = call.accounts().author(Origin::local());
        let repository = call.registry.repository(&self.repository).by(author);
        if !repository.is_known()? {
            return Err(ContentError::RepositoryUnknown { name: self.repository }.into());
        }
        let digest = match (&tag, digest) {
            (_, Some(digest)) => digest,
            (Some(tag), None) => repository
                .last_pointed_at(tag)?
                .ok_or_else(|| ContentError::TagPastUnknown { tag: tag.clone(), digest: None })?,
            (None, None) => return Err(Failure::Invalid("a tag or a digest is required".to_owned())),
        };
        let before = repository.plan_before(call.pause)?;
        let original = if let Some(tag) = &tag {
            point(&repository, tag, digest).map_err(|error| match error {
                ContentError::ManifestUnknown { .. } => Failure::Invalid(format!(
                    "the repository {name} has no manifest {digest}, and keeps no deleted one with this digest: see \
                     `coracle tag history {name}`",
                    name = self.repository
                )),
                error => error.into(),
            })?
        } else {
            repository.restore_manifest(digest)?;
            None
        };
        let planned = repository.planned_tags(tag.as_slice())?.into_iter().find(|planned| !planned.decision.keeps);
        let why = |planned: &PlannedTag| format!("{}: {}", planned.rule(), planned.decision.reason);
        let removed_again = planned.as_ref().map(why);
        let displaced = repository.removed_since(&before, DISPLACED_MAX, call.pause)?;
        let others = displaced.iter().filter(|planned| Some(&planned.tag) != tag.as_ref());
        let displaced =
            others.map(|planned| DisplacedTag { tag: planned.tag.to_string(), reason: why(planned) }).collect();
        let (tag, digest) = (tag.map(|tag| tag.to_string()), digest.to_string());
        let original = original.map(|digest| digest.to_string());
        Ok(RestoredTag { repository: self.repository, tag, digest, original, removed_again, displaced })
    }
}

/// Points a tag at a manifest: one of its history, a deleted one, or else one that the repository has.
fn point(repository: &Repository, tag: &Tag, digest: Digest) -> Result<Option<Digest>, ContentError> {
    match repository.restore_tag(tag, digest) {
        Err(ContentError::TagPastUnknown { .. }) => {
            let original = repository.manifest_info(&Reference::Tag(tag.clone())).ok().map(|info| info.digest);
            let change = TagChange { digest: Some(digest), may_create: true, may_move: true, ..TagChange::default() };
            repository.change_tag(tag, change).map(|()| original)
        }
        restored => restored,
    }
}
