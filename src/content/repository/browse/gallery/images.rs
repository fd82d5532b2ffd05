//! Lists of images: tags with their manifests. Tags that only hold signatures of other manifests are left out.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::kept::ENTRY_BYTES;
use super::{Gallery, SAMPLE_MAX, take};
use crate::content::repository::Error;
use crate::content::repository::browse::tags::is_part;
use crate::content::repository::browse::version::is_companion;
use crate::content::repository::browse::walk::{Part, Walk};
use crate::content::rows::{Platform, TagRow};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, RepositoryName};

/// The most tags of one repository in a list.
const TAGS_MAX: usize = 10_000;
/// The most starts of tags that are looked at for the newest one.
const STARTS_LOOKED_AT_MAX: usize = 50;

/// A tag and its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    pub(crate) repository: RepositoryName,
    /// Empty for a manifest that was asked for by its digest.
    pub(crate) tag: String,
    pub(crate) digest: Digest,
    /// Since when the tag has this manifest.
    pub(crate) moved: Option<Timestamp>,
    /// The manifests of an index that a search is about. `None` for all.
    pub(crate) only: Option<Vec<Digest>>,
}

impl Tagged {
    pub(super) fn new(repository: RepositoryName, tag: &str, row: &TagRow) -> Self {
        Self { repository, tag: tag.to_owned(), digest: row.digest, moved: Some(row.moved), only: None }
    }

    /// A manifest without a tag.
    pub(crate) const fn untagged(repository: RepositoryName, digest: Digest) -> Self {
        Self { repository, tag: String::new(), digest, moved: None, only: None }
    }
}

/// The order of a list of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ImageOrder {
    /// By repository and tag.
    #[default]
    Name,
    /// The reverse.
    NameDescending,
    /// The latest built first.
    Created,
    /// The most pulls first.
    Pulls,
}

impl Gallery<'_> {
    /// The tag of a repository that was pushed last. If many tags were removed since then, the first one by name.
    /// Reads it once in a request.
    pub(crate) fn newest(&self, name: &RepositoryName) -> Result<Option<Tagged>, Error> {
        if let Some(known) = self.kept.newest.borrow().get(name) {
            return Ok(known.clone());
        }
        let newest = self.read_newest(name)?;
        if self.kept.has_room_for(2 * name.as_str().len() + ENTRY_BYTES) {
            self.kept.newest.borrow_mut().insert(name.clone(), newest.clone());
        }
        Ok(newest)
    }

    fn read_newest(&self, name: &RepositoryName) -> Result<Option<Tagged>, Error> {
        if let Some(newest) = self.newest_tags(name, 1)?.pop() {
            return Ok(Some(newest));
        }
        let (mut first, mut looked_at) = (None, 0);
        self.read().each_tag(name, "", |tag| {
            looked_at += 1;
            first = Some(tag.to_owned()).filter(|tag| !is_companion(tag));
            let is_done = first.is_some() || looked_at == STARTS_LOOKED_AT_MAX;
            if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        first.map_or(Ok(None), |tag| self.tag(name, &tag))
    }

    /// The tags that were pushed last, the latest first. Tags that were moved meanwhile count as looked at.
    fn newest_tags(&self, name: &RepositoryName, limit: usize) -> Result<Vec<Tagged>, Error> {
        let (mut newest, mut looked_at) = (Vec::new(), 0);
        self.read().each_span(name, |tag, span| {
            looked_at += 1;
            if span.ended.is_none() && !is_companion(tag) {
                newest.push(tag.to_owned());
            }
            let is_done = newest.len() == limit || looked_at == STARTS_LOOKED_AT_MAX;
            if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let mut tags = Vec::with_capacity(newest.len());
        for tag in newest {
            tags.extend(self.tag(name, &tag)?);
        }
        Ok(tags)
    }

    /// The platforms, and the vendors, of the images that were pushed last, each once.
    pub(crate) fn platforms_and_vendors(&self, name: &RepositoryName) -> Result<(Vec<Platform>, Vec<String>), Error> {
        let (mut platforms, mut vendors) = (Vec::new(), Vec::new());
        for image in self.newest_tags(name, SAMPLE_MAX)? {
            let Some((facts, details)) = self.facts_and_details(name, image.digest)? else { continue };
            for platform in facts.platform.into_iter().chain(facts.platforms) {
                if !platforms.contains(&platform) {
                    platforms.push(platform);
                }
            }
            let vendor = details.annotations.into_iter().find(|(name, _)| name == "vendor");
            if let Some((_, vendor)) = vendor
                && !vendors.contains(&vendor)
            {
                vendors.push(vendor);
            }
        }
        Ok((platforms, vendors))
    }

    /// The images of a repository whose tag begins with a text.
    pub(crate) fn images(&self, name: &RepositoryName, prefix: &str) -> Result<Vec<Tagged>, Error> {
        let mut images = Vec::new();
        // The range begins after a tag, and a tag that is the prefix itself counts.
        images.extend(self.tag(name, prefix)?.filter(|exact| !is_companion(&exact.tag)));
        self.read().each_tag_row(name, prefix, |tag, row| {
            if !tag.starts_with(prefix) || images.len() == TAGS_MAX || !take(&self.tags_left) {
                return ControlFlow::Break(());
            }
            if !is_companion(tag) {
                images.push(Tagged::new(name.clone(), tag, &row));
            }
            ControlFlow::Continue(())
        })?;
        Ok(images)
    }

    /// The images of all visible repositories whose tag contains a text in lower case.
    pub(crate) fn images_with_tag_part(&self, part: &str) -> Result<Vec<Tagged>, Error> {
        let mut images = Vec::new();
        let walk = Walk { tx: self.rows, scope: self.viewer.scope, visible: self.viewer.sees, prefix: "", after: "" };
        for within in walk.parts() {
            let mut next = Some(within.text().to_owned());
            while let Some(from) = next {
                next = self.add_images_from(&from, &within, part, &mut images)?;
            }
        }
        Ok(images)
    }

    /// Adds the images of a part of the scope from a repository on, by one read over neighbouring rows. Returns the
    /// position after a repository that the viewer does not see.
    fn add_images_from(
        &self,
        from: &str,
        within: &Part,
        part: &str,
        images: &mut Vec<Tagged>,
    ) -> Result<Option<String>, Error> {
        let (mut name, mut parsed, mut hidden) = (String::new(), None::<RepositoryName>, false);
        self.read().each_tag_of_all(from, |repository, tag| {
            if name != repository {
                if !within.has(repository) || !take(&self.names_left) {
                    return Ok(ControlFlow::Break(()));
                }
                repository.clone_into(&mut name);
                (parsed, hidden) = (None, !(self.viewer.sees)(repository));
            }
            if hidden || images.len() == TAGS_MAX || !take(&self.tags_left) {
                return Ok(ControlFlow::Break(()));
            }
            if !is_part(tag.tag, part) || is_companion(tag.tag) {
                return Ok(ControlFlow::Continue(()));
            }
            if parsed.is_none() {
                parsed = repository.parse().ok();
            }
            let (Some(repository), row) = (&parsed, tag.decode()?) else { return Ok(ControlFlow::Continue(())) };
            images.push(Tagged::new(repository.clone(), tag.tag, &row));
            Ok(ControlFlow::Continue(()))
        })?;
        // No name has this character, so nothing is between the last tag of the repository and this.
        Ok(hidden.then(|| format!("{name}\0")))
    }

    /// Orders a list of images.
    pub(crate) fn order_images(&self, images: &mut [Tagged], order: ImageOrder) -> Result<(), Error> {
        images.sort_by(|a, b| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)));
        match order {
            ImageOrder::Name => {}
            ImageOrder::NameDescending => images.reverse(),
            ImageOrder::Created | ImageOrder::Pulls => {
                let mut values: HashMap<(RepositoryName, Digest), u64> = HashMap::new();
                for image in images.iter() {
                    let key = (image.repository.clone(), image.digest);
                    if values.contains_key(&key) {
                        continue;
                    }
                    if self.is_exhausted() {
                        break;
                    }
                    let value = match order {
                        ImageOrder::Pulls => self.pulls(&image.repository, image.digest)?.count,
                        _ => self.created(&image.repository, image.digest)?.map_or(0, Timestamp::micros),
                    };
                    values.insert(key, value);
                }
                let value = |image: &Tagged| values.get(&(image.repository.clone(), image.digest)).copied();
                images.sort_by_key(|image| std::cmp::Reverse(value(image)));
            }
        }
        Ok(())
    }
}
