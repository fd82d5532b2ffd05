//! Lists of the tags of a repository.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::removal::Removals;
use super::signed::is_signed;
use super::top::{TagCursor, TagOrder, TopTags};
use crate::content::repository::{Error, Immutable, Repository};
use crate::content::rows::{Facts, Pulls, Rows};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, Tag};

/// A repository with more tags is not ordered by size or pulls, because that reads the facts of every tag.
pub(crate) const ORDERED_BY_FACTS_MAX: u64 = 5_000;
/// The most tags and past targets that one page looks at.
const LOOKED_AT_MAX: u64 = 1_000_000;

/// Selects a page of tags.
#[derive(Clone, Debug)]
pub(crate) struct TagQuery {
    pub(crate) order: TagOrder,
    /// A part of the tag, in any case.
    pub(crate) part: String,
    pub(crate) after: Option<TagCursor>,
    pub(crate) limit: usize,
}

/// A tag in a list.
#[derive(Debug)]
pub(crate) struct ListedTag {
    pub(crate) tag: Tag,
    pub(crate) digest: Digest,
    /// Since when the tag points at the manifest.
    pub(crate) moved: Timestamp,
    /// `None` until the background work after an upgrade has read the manifest.
    pub(crate) facts: Option<Facts>,
    /// The bytes that nothing else that the caller sees needs. `None` if there are too many parts to count.
    pub(crate) only_here: Option<u64>,
    pub(crate) pulls: Pulls,
    /// Whether a signature refers to the manifest. It is not verified.
    pub(crate) is_signed: bool,
    pub(crate) expires: Option<Timestamp>,
    /// Why the tag is immutable. `None` if it is not.
    pub(crate) immutable: Option<Immutable>,
}

/// A page of tags.
#[derive(Debug)]
pub(crate) struct TagPage {
    pub(crate) tags: Vec<ListedTag>,
    /// The order of the page: by version if there are too many tags for the wanted one.
    pub(crate) order: TagOrder,
    pub(crate) next: Option<TagCursor>,
    /// Whether a limit has cut the list off.
    pub(crate) is_cut_off: bool,
}

impl Repository {
    /// A page of tags. Other repositories count if they are `visible`.
    pub(crate) fn list_tags(&self, query: &TagQuery, visible: &dyn Fn(&str) -> bool) -> Result<TagPage, Error> {
        self.stores.database.read(|tx| {
            if tx.repository(&self.name)?.is_none() {
                return Err(Error::RepositoryUnknown { name: self.name.clone() });
            }
            let order = match query.order {
                TagOrder::Size | TagOrder::Pulls if self.has_many_tags(tx)? => TagOrder::Version,
                order => order,
            };
            let after = query.after.clone().filter(|_| order == query.order);
            let selection =
                Selection { tx, repository: self, part: query.part.to_ascii_lowercase(), limit: query.limit };
            let (cursors, has_more, is_cut_off) = match order {
                TagOrder::Name => selection.by_name(after)?,
                TagOrder::Pushed => selection.by_push(after.as_ref())?,
                TagOrder::Version => selection.by_version(after)?,
                TagOrder::Size | TagOrder::Pulls => selection.by_facts(order, after)?,
            };
            let next = if has_more { cursors.last().cloned() } else { None };
            let (mut tags, mut removals) = (Vec::with_capacity(cursors.len()), Removals::new(tx, &self.name, visible));
            for cursor in cursors {
                tags.extend(self.listed_tag(tx, &mut removals, &cursor.tag)?);
            }
            Ok(TagPage { tags, order, next, is_cut_off })
        })
    }

    fn has_many_tags(&self, tx: &Rows) -> Result<bool, Error> {
        if let Some(totals) = tx.totals(&self.name)? {
            return Ok(totals.tags > ORDERED_BY_FACTS_MAX);
        }
        let mut count = 0;
        tx.each_tag(&self.name, "", |_| {
            count += 1;
            if count > ORDERED_BY_FACTS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(count > ORDERED_BY_FACTS_MAX)
    }

    fn listed_tag(&self, tx: &Rows, removals: &mut Removals<'_>, text: &str) -> Result<Option<ListedTag>, Error> {
        let Ok(tag) = text.parse::<Tag>() else { return Ok(None) };
        let Some(row) = tx.tag(&self.name, &tag)? else { return Ok(None) };
        Ok(Some(ListedTag {
            digest: row.digest,
            moved: row.moved,
            facts: tx.facts(&self.name, row.digest)?,
            only_here: removals.only_here(row.digest)?,
            pulls: tx.pulls(&self.name, row.digest)?,
            is_signed: is_signed(tx, &self.name, row.digest)?,
            expires: tx.tag_attributes(&self.name, &tag)?.expires,
            immutable: self.stores.rules.immutable.reason(tx, &self.name, &tag)?,
            tag,
        }))
    }
}

/// Whether a tag contains a text in lower case. Most tags are in lower case too.
pub(super) fn is_part(tag: &str, part: &str) -> bool {
    tag.contains(part) || tag.bytes().any(|byte| byte.is_ascii_uppercase()) && tag.to_ascii_lowercase().contains(part)
}

/// The tags of a page, whether there are more, and whether a limit has cut the list off.
type Selected = (Vec<TagCursor>, bool, bool);

struct Selection<'a> {
    tx: &'a Rows,
    repository: &'a Repository,
    /// In lower case.
    part: String,
    limit: usize,
}

impl Selection<'_> {
    fn admits(&self, tag: &str) -> bool {
        is_part(tag, &self.part)
    }

    /// Reads the names from the position on.
    fn by_name(&self, after: Option<TagCursor>) -> Result<Selected, Error> {
        let (mut found, mut looked_at) = (Vec::new(), 0);
        let after = after.map(|after| after.tag).unwrap_or_default();
        self.tx.each_tag(&self.repository.name, &after, |tag| {
            looked_at += 1;
            if self.admits(tag) {
                found.push(TagCursor { value: 0, tag: tag.to_owned() });
            }
            if found.len() > self.limit || looked_at == LOOKED_AT_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(self.page(found, looked_at))
    }

    /// Reads the starts of tags from the position on, the latest first. Those of past targets are skipped.
    fn by_push(&self, after: Option<&TagCursor>) -> Result<Selected, Error> {
        let (mut found, mut looked_at) = (Vec::new(), 0);
        let before = after.map(|after| (Timestamp::from_micros(after.value), after.tag.as_str()));
        self.tx.each_span_before(&self.repository.name, before, |tag, span| {
            looked_at += 1;
            if span.ended.is_none() && self.admits(tag) {
                found.push(TagCursor { value: span.started.micros(), tag: tag.to_owned() });
            }
            if found.len() > self.limit || looked_at == LOOKED_AT_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(self.page(found, looked_at))
    }

    /// Walks over all names.
    fn by_version(&self, after: Option<TagCursor>) -> Result<Selected, Error> {
        let mut top = TopTags::new(TagOrder::Version, after, self.limit);
        let mut looked_at = 0;
        self.tx.each_tag(&self.repository.name, "", |tag| {
            looked_at += 1;
            if self.admits(tag) {
                top.offer(0, tag);
            }
            if looked_at == LOOKED_AT_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let (found, has_more) = top.finish();
        Ok((found, has_more, looked_at == LOOKED_AT_MAX))
    }

    /// Walks over all tags and the facts of their manifests.
    fn by_facts(&self, order: TagOrder, after: Option<TagCursor>) -> Result<Selected, Error> {
        let (mut targets, name) = (Vec::new(), &self.repository.name);
        self.tx.each_tag_row(name, "", |tag, row| {
            if self.admits(tag) {
                targets.push((tag.to_owned(), row.digest));
            }
            if targets.len() as u64 > 2 * ORDERED_BY_FACTS_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let mut top = TopTags::new(order, after, self.limit);
        let mut known: HashMap<Digest, u64> = HashMap::new();
        for (tag, digest) in &targets {
            let value = match known.get(digest) {
                Some(value) => *value,
                None if order == TagOrder::Pulls => self.tx.pulls(name, *digest)?.count,
                None => self.tx.facts(name, *digest)?.map_or(0, |facts| facts.size),
            };
            known.insert(*digest, value);
            top.offer(value, tag);
        }
        let (found, has_more) = top.finish();
        Ok((found, has_more, targets.len() as u64 > 2 * ORDERED_BY_FACTS_MAX))
    }

    fn page(&self, mut found: Vec<TagCursor>, looked_at: u64) -> Selected {
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        (found, has_more, looked_at == LOOKED_AT_MAX && !has_more)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::repository::scene::{Scene, image, rules};

    fn list(repository: &Repository, order: TagOrder, part: &str, limit: usize) -> Vec<String> {
        let (mut tags, mut after) = (Vec::new(), None);
        loop {
            let query = TagQuery { order, part: part.to_owned(), after, limit };
            let page = repository.list_tags(&query, &|_| true).unwrap();
            assert!(page.tags.len() <= limit && !page.is_cut_off && page.order == order);
            tags.extend(page.tags.into_iter().map(|tag| tag.tag.to_string()));
            after = page.next;
            if after.is_none() {
                return tags;
            }
        }
    }

    #[test]
    fn pages_of_every_order_have_every_tag_once() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let large = repository.push_blob(&[0; 5000]);
        for (number, tag) in ["1.9", "1.10", "latest", "main", "1.10-RC1"].into_iter().enumerate() {
            let blobs = if tag == "main" { vec![config, large] } else { vec![config] };
            let note = "x".repeat(number);
            repository.push_manifest(&image(&blobs, None, &note), &[tag]).unwrap();
            scene.clock.advance(Duration::from_secs(1));
        }
        // Past targets are not listed.
        repository.push_manifest(&image(&[config], None, "moved"), &["1.9"]).unwrap();
        scene.clock.advance(Duration::from_secs(1));
        repository.push_manifest(&image(&[config], None, "deleted"), &["deleted"]).unwrap();
        repository.delete("deleted").unwrap();
        for limit in [1, 2, 3, 10] {
            let by = |order, part| list(&repository, order, part, limit).join(" ");
            assert_eq!(by(TagOrder::Version, ""), "latest 1.10 1.10-RC1 1.9 main");
            assert_eq!(by(TagOrder::Name, ""), "1.10 1.10-RC1 1.9 latest main");
            assert_eq!(by(TagOrder::Pushed, ""), "1.9 1.10-RC1 main latest 1.10");
            assert_eq!(by(TagOrder::Version, "1.10"), "1.10 1.10-RC1");
            assert_eq!(by(TagOrder::Name, "rc"), "1.10-RC1");
            assert_eq!(by(TagOrder::Pushed, "1."), "1.9 1.10-RC1 1.10");
            assert_eq!(by(TagOrder::Pulls, ""), "latest 1.10 1.10-RC1 1.9 main");
            assert!(by(TagOrder::Size, "").starts_with("main "));
        }
    }

    #[test]
    fn tags_of_one_moment_are_all_listed() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let tags: Vec<String> = (0..20).map(|number| format!("1.{number}")).collect();
        let names: Vec<&str> = tags.iter().map(String::as_str).collect();
        repository.push_manifest(&image(&[config], None, ""), &names).unwrap();
        for limit in [1, 3, 7, 50] {
            let mut listed = list(&repository, TagOrder::Pushed, "", limit);
            assert_eq!(listed[0], "1.9");
            listed.sort_unstable();
            listed.dedup();
            assert_eq!(listed.len(), 20, "pages of {limit}");
        }
    }
}
