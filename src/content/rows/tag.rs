//! Rows of tags: the manifest each one points at, and when it expires.

use std::ops::Bound::{Excluded, Unbounded};

use serde::{Deserialize, Serialize};

use super::event::EventKind;
use super::journal::Record;
use super::schema::{EXPIRING_TAGS, TAG_ATTRIBUTES, TAGS, TAGS_OF};
use super::unreferenced::Unreferenced;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::{Moment, Timestamp};
use crate::oci::{Digest, RepositoryName, Tag};

/// The target of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagRow {
    pub(crate) digest: Digest,
    /// Since when.
    pub(crate) moved: Timestamp,
    /// Whether an upstream set the tag, although a client has pushed the manifest. See [`Rows::is_mirrored_tag`].
    pub(crate) is_mirrored: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredTag {
    digest: Vec<u8>,
    moved: Timestamp,
}

impl StoredTag {
    fn of(row: &TagRow) -> Self {
        Self { digest: row.digest.key().to_vec(), moved: row.moved }
    }
}

impl TagRow {
    pub(super) fn decode(row: &[u8], tag: &str) -> Result<Self, Error> {
        let stored: Option<(StoredTag, bool)> = codec::decode_with(row);
        let (stored, is_mirrored) = stored.ok_or_else(|| Error::corrupt(TAGS, tag))?;
        Ok(Self { digest: codec::digest(TAGS, &stored.digest)?, moved: stored.moved, is_mirrored })
    }
}

/// Attributes of a tag, which it loses when it is moved. A tag without a row has the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagAttributes {
    /// When the tag is removed.
    pub(crate) expires: Option<Timestamp>,
    /// Whether the tag was restored to this manifest.
    pub(crate) reversion: bool,
    /// Whether the tag is locked, so that it can neither be moved nor removed.
    pub(crate) immutable: bool,
}

/// The row of attributes. Whether the tag is locked was added later; see [`codec::encode_with`].
#[derive(Serialize, Deserialize)]
struct StoredAttributes {
    expires: Option<Timestamp>,
    reversion: bool,
}

impl Rows {
    pub(crate) fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<TagRow>, Error> {
        let key = (repository.as_str(), tag.as_str());
        self.get(TAGS, key, |row| TagRow::decode(row, tag.as_str()))?.transpose()
    }

    /// Returns at most `limit` tags after `after` in byte order, and whether there are more.
    pub(crate) fn tags(
        &self,
        repository: &RepositoryName,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<String>, bool), Error> {
        let (name, one_more) = (repository.as_str(), limit.saturating_add(1));
        let range = (Excluded((name, after)), Unbounded);
        let mut tags = self
            .table(TAGS)?
            .collect(range, one_more, |(owner, tag), _| Ok((owner == name).then(|| tag.to_owned())))?;
        let has_more = tags.len() > limit;
        tags.truncate(limit);
        Ok((tags, has_more))
    }

    /// The tags of a manifest.
    pub(crate) fn tags_of(&self, repository: &RepositoryName, digest: Digest) -> Result<Vec<Tag>, Error> {
        let (name, key) = (repository.as_str(), digest.key());
        self.table(TAGS_OF)?.collect((name, key, "").., usize::MAX, |(owner, manifest, tag), ()| {
            ((owner, manifest) == (name, key)).then(|| codec::parse(TAGS_OF, tag)).transpose()
        })
    }

    pub(crate) fn tag_attributes(&self, repository: &RepositoryName, tag: &Tag) -> Result<TagAttributes, Error> {
        let key = (repository.as_str(), tag.as_str());
        let Some(stored) = self.get(TAG_ATTRIBUTES, key, codec::decode_with)? else {
            return Ok(TagAttributes::default());
        };
        let (StoredAttributes { expires, reversion }, immutable) =
            stored.ok_or_else(|| Error::corrupt(TAG_ATTRIBUTES, tag))?;
        Ok(TagAttributes { expires, reversion, immutable })
    }

    /// Returns at most `limit` tags that expire at `now` or before.
    pub(crate) fn expired_tags(&self, now: Timestamp, limit: usize) -> Result<Vec<(RepositoryName, Tag)>, Error> {
        let until = (now.micros().saturating_add(1), "", "");
        self.table(EXPIRING_TAGS)?.collect(..until, limit, |(_, name, tag), ()| {
            Ok(Some((codec::parse(EXPIRING_TAGS, name)?, codec::parse(EXPIRING_TAGS, tag)?)))
        })
    }
}

impl WriteTx {
    /// Points a tag at a manifest. Returns whether it pointed elsewhere, or did not exist. `keep` is whether the
    /// history keeps what it pointed at.
    pub(crate) fn put_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: Digest,
        now: impl Into<Moment>,
        keep: bool,
    ) -> Result<bool, Error> {
        let old = self.tag(repository, tag)?;
        if old.as_ref().is_some_and(|old| old.digest == digest) {
            return Ok(false);
        }
        let (now, is_new) = (now.into(), old.is_none());
        if let Some(old) = old {
            self.end_tag(repository, tag, &old, now, keep)?;
        }
        let stored = StoredTag { digest: digest.key().to_vec(), moved: now.wall };
        self.insert_row(TAGS, (repository.as_str(), tag.as_str()), &stored)?;
        self.insert(TAGS_OF, (repository.as_str(), digest.key(), tag.as_str()), ())?;
        self.record(|| Record::Tag {
            repository: repository.to_string(),
            tag: tag.to_string(),
            digest: stored.digest,
            moved: stored.moved,
        });
        self.begin_span(repository, tag, now.wall)?;
        self.note_image(EventKind::ImageUpdated, repository, tag, digest, None)?;
        // A new signature of a removed image makes the image's record newer: the image itself may be pushed next.
        if let Some(subject) = tag.companion_of()
            && self.unreferenced(repository, Unreferenced::Subject, subject)?.is_some()
        {
            self.set_unreferenced(repository, Unreferenced::Subject, subject, now)?;
        }
        self.set_referenced(repository, Unreferenced::Manifest, digest)?;
        self.set_referenced(repository, Unreferenced::Referrer, digest)?;
        self.change_counts(repository, |_, counted| {
            if is_new {
                counted.add_tag(tag);
            }
            counted.note_change(now.wall);
        })?;
        if is_new {
            self.change_usage(repository, |used| used.tags += 1)?;
        }
        Ok(true)
    }

    /// Records whether an upstream set a tag, if the tag exists.
    pub(crate) fn set_tag_mirrored(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        is_mirrored: bool,
    ) -> Result<(), Error> {
        let Some(row) = self.tag(repository, tag)?.filter(|row| row.is_mirrored != is_mirrored) else { return Ok(()) };
        let (key, stored) = ((repository.as_str(), tag.as_str()), StoredTag::of(&row));
        if is_mirrored {
            self.insert(TAGS, key, codec::encode_with(&stored, &true).as_slice())
        } else {
            self.insert_row(TAGS, key, &stored)
        }
    }

    /// Removes a tag, if it exists. `keep` is whether the history keeps what it pointed at.
    pub(crate) fn remove_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        now: impl Into<Moment>,
        keep: bool,
    ) -> Result<(), Error> {
        let Some(row) = self.tag(repository, tag)? else { return Ok(()) };
        self.note_image(EventKind::ImageDeleted, repository, tag, row.digest, None)?;
        self.end_tag(repository, tag, &row, now.into(), keep)?;
        self.change_counts(repository, |_, counted| counted.remove_tag(tag))?;
        self.change_usage(repository, |used| used.tags = used.tags.saturating_sub(1))
    }

    /// Removes the rows of a tag, which are `row`.
    fn end_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        row: &TagRow,
        now: Moment,
        keep: bool,
    ) -> Result<(), Error> {
        self.end_span(repository, tag, row, now, keep)?;
        self.remove(TAGS, (repository.as_str(), tag.as_str()))?;
        self.remove(TAGS_OF, (repository.as_str(), row.digest.key(), tag.as_str()))?;
        self.record(|| Record::TagGone { repository: repository.to_string(), tag: tag.to_string() });
        self.recheck_manifest(repository, row.digest, now.steady)
    }

    pub(crate) fn set_tag_attributes(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        attributes: &TagAttributes,
    ) -> Result<(), Error> {
        let (name, tag, old) = (repository.as_str(), tag.as_str(), self.tag_attributes(repository, tag)?);
        if old == *attributes {
            return Ok(());
        }
        if let Some(expires) = old.expires {
            self.remove(EXPIRING_TAGS, (expires.micros(), name, tag))?;
        }
        if let Some(expires) = attributes.expires {
            self.insert(EXPIRING_TAGS, (expires.micros(), name, tag), ())?;
        }
        let TagAttributes { expires, reversion, immutable } = *attributes;
        let stored = StoredAttributes { expires, reversion };
        if *attributes == TagAttributes::default() {
            self.remove(TAG_ATTRIBUTES, (name, tag))
        } else if immutable {
            self.insert(TAG_ATTRIBUTES, (name, tag), codec::encode_with(&stored, &true).as_slice())
        } else {
            self.insert_row(TAG_ATTRIBUTES, (name, tag), &stored)
        }
    }
}
