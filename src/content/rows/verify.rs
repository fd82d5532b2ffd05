//! Whether rows fit each other, and how those that follow from others are made anew.
//!
//! What a repository was given stands in a few tables: manifests, tags, past tags, and which blobs it links.
//! Everything else about it (counts, what lists and refers to what, what is unreferenced) follows from those, and is
//! written twice in this crate: step by step, in the transactions that change it, and all at once here. The two
//! must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use super::codec::corrupt;
use super::content::{RepositoryRow, TagRow};
use super::link::{BlobRow, LinkRow};
use super::schema::{LINKS_OF, LISTINGS, PAST_OF, PAST_TAGS, REFERRERS, REPOSITORIES, TAGS_OF};
use super::unreferenced::Unreferenced;
use super::{Error, Rows, WriteTx};
use crate::kit::clock::Moment;
use crate::oci::{Digest, Manifest, RepositoryName};

/// What was found to be wrong.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Rows that do not follow from those they should follow from: they can be made anew.
    pub(crate) derived: Vec<String>,
    /// What a repository was given and does not have, or not as it was.
    pub(crate) lost: Vec<String>,
}

/// What follows from what a repository was given.
#[derive(Debug, Default, PartialEq, Eq)]
struct Derived {
    manifests: u64,
    /// How many manifests need each blob that is linked.
    references: BTreeMap<Digest, u64>,
    listings: BTreeSet<(Digest, Digest)>,
    referrers: BTreeMap<(Digest, String, Digest), Vec<u8>>,
    tags_of: BTreeSet<(Digest, String)>,
    past_of: BTreeSet<(Digest, String, u64, u32)>,
    unreferenced: BTreeSet<(u8, Digest)>,
}

impl Rows {
    /// The repositories behind `after` in byte order, at most `limit`: all that any table names.
    pub(crate) fn named_repositories(&self, after: &str, limit: usize) -> Result<Vec<String>, Error> {
        let mut names = BTreeSet::new();
        for row in self.table(REPOSITORIES)?.range((Excluded(after), Unbounded))?.take(limit) {
            names.insert(row?.0.value().to_owned());
        }
        // One that has content and no row of its own would not be seen otherwise.
        let mut last = after.to_owned();
        while names.len() < 2 * limit {
            let table = self.table(LINKS_OF)?;
            // The digest's first byte says the algorithm, and none is 255.
            let Some(row) = table.range((Excluded((last.as_str(), &[255][..])), Unbounded))?.next() else {
                break;
            };
            last = row?.0.value().0.to_owned();
            names.insert(last.clone());
        }
        Ok(names.into_iter().take(limit).collect())
    }

    /// Says what is wrong with the rows of a repository.
    pub(crate) fn verify_repository(&self, name: &RepositoryName, findings: &mut Findings) -> Result<(), Error> {
        let expected = expected(self, name, findings)?;
        let found = found(self, name)?;
        let mut wrong = |what: &str| findings.derived.push(format!("{name}: {what}"));
        if expected.listings != found.listings {
            wrong("which indexes list which manifests");
        }
        if expected.referrers != found.referrers {
            wrong("the list of referrers");
        }
        if expected.tags_of != found.tags_of || expected.past_of != found.past_of {
            wrong("which tags name which manifests");
        }
        if expected.references != found.references {
            wrong("how many manifests need a blob");
        }
        // A row too many is removed by the next collection.
        if !expected.unreferenced.is_subset(&found.unreferenced) {
            wrong("what is unneeded");
        }
        let row = self.repository(name)?;
        let counts = row.map(|row| (row.manifests, row.links));
        let links = expected.references.len() as u64;
        if counts.unwrap_or_default() != (expected.manifests, links) {
            wrong("the counts of manifests and blobs");
        }
        Ok(())
    }

    /// Says what is wrong with the rows of a blob.
    pub(crate) fn verify_blob(&self, digest: Digest, findings: &mut Findings) -> Result<(), Error> {
        // Read with the rows it is compared with: clients go on.
        let Some(row) = self.blob(digest)? else { return Ok(()) };
        let holders = self.linking_repositories(digest)?;
        if holders.len() as u64 != row.links {
            findings.derived.push(format!("{digest}: how many repositories link it"));
        }
        let links_of = self.table(LINKS_OF)?;
        for holder in &holders {
            if links_of.get((holder.as_str(), digest.key()))?.is_none() {
                findings.derived.push(format!("{digest}: that {holder} links it"));
            }
        }
        Ok(())
    }
}

impl Derived {
    fn find_unneeded(&mut self, manifests: &BTreeSet<Digest>) {
        let listed: BTreeSet<_> = self.listings.iter().map(|(child, _)| *child).collect();
        let tagged = self.tags_of.iter().map(|(digest, _)| *digest);
        let named: BTreeSet<_> = tagged.chain(self.past_of.iter().map(|(digest, ..)| *digest)).collect();
        for digest in manifests.difference(&named).filter(|digest| !listed.contains(digest)) {
            self.unreferenced.insert((Unreferenced::Manifest.number(), *digest));
        }
        for (blob, references) in &self.references {
            if *references == 0 && !listed.contains(blob) {
                self.unreferenced.insert((Unreferenced::Link.number(), *blob));
            }
        }
    }
}

/// What follows from the rows that were given.
fn expected(rows: &Rows, name: &RepositoryName, findings: &mut Findings) -> Result<Derived, Error> {
    let mut derived = Derived::default();
    // Whether a referrer is unreferenced depends on what has been, and no row says that.
    let mut no_referrers = BTreeSet::new();
    for digest in rows.linked(name)? {
        if rows.link(digest, name)?.is_none() || rows.blob(digest)?.is_none() {
            findings.lost.push(format!("{name}: the row of the blob {digest}"));
        }
        derived.references.insert(digest, 0);
    }
    let contents = rows.contents(name)?;
    for digest in contents.manifests {
        derived.manifests += 1;
        let row = rows.manifest(name, digest)?.ok_or_else(|| corrupt("manifests", digest))?;
        let stored = rows.manifest_bytes(name, digest)?;
        let stored = stored.filter(|stored| Digest::of(digest.algorithm(), stored) == digest);
        let manifest = stored.and_then(|stored| Manifest::read(&stored, row.media_type().as_ref()).ok());
        let Some(manifest) = manifest else {
            findings.lost.push(format!("{name}: the bytes of the manifest {digest}"));
            continue;
        };
        for blob in manifest.blobs() {
            match derived.references.get_mut(blob) {
                Some(count) => *count += 1,
                None => findings.lost.push(format!("{name}: the blob {blob}, which the manifest {digest} needs")),
            }
        }
        let children = manifest.manifests().iter().map(|child| child.digest);
        for listed in children.chain(manifest.optional_blobs().iter().copied()) {
            derived.listings.insert((listed, digest));
        }
        match manifest.subject() {
            None => drop(no_referrers.insert(digest)),
            Some(subject) => {
                let kind = manifest.artifact_type().unwrap_or_default().to_owned();
                derived.referrers.insert((subject, kind, digest), manifest.referrer_descriptor(digest, row.size));
            }
        }
    }
    for digest in contents.deleted {
        no_referrers.insert(digest);
        let row = rows.deleted_manifest(name, digest)?.ok_or_else(|| corrupt("deleted manifests", digest))?;
        let stored = rows.manifest_bytes(name, digest)?;
        let manifest = stored.and_then(|stored| Manifest::read(&stored, row.media_type().as_ref()).ok());
        let Some(manifest) = manifest else {
            findings.lost.push(format!("{name}: the bytes of the deleted manifest {digest}"));
            continue;
        };
        let children = manifest.manifests().iter().map(|child| child.digest);
        let blobs = manifest.blobs().iter().chain(manifest.optional_blobs()).copied();
        derived.listings.extend(children.chain(blobs).map(|listed| (listed, digest)));
    }
    for tag in contents.tags {
        let Some(TagRow { digest, .. }) = rows.tag(name, &tag)? else { continue };
        if rows.manifest(name, digest)?.is_none() {
            findings.lost.push(format!("{name}: the manifest {digest}, which the tag {tag} names"));
        }
        derived.tags_of.insert((digest, tag.to_string()));
    }
    for row in rows.table(PAST_TAGS)?.range((name.as_str(), "", 0, 0)..)? {
        let (key, row) = row?;
        let (owner, tag, started, number) = key.value();
        if owner != name.as_str() {
            break;
        }
        let digest = super::history::past_digest(row.value(), tag)?;
        derived.past_of.insert((digest, tag.to_owned(), started, number));
    }
    derived.find_unneeded(&no_referrers);
    Ok(derived)
}

/// What the rows say that should follow.
fn found(rows: &Rows, name: &RepositoryName) -> Result<Derived, Error> {
    let mut found = Derived::default();
    let digest = |key: &[u8]| Digest::from_key(key).ok_or_else(|| corrupt("a table of digests", name));
    for blob in rows.linked(name)? {
        found.references.insert(blob, rows.link(blob, name)?.map_or(0, |link| link.references));
    }
    for row in rows.table(LISTINGS)?.range((name.as_str(), &[][..], &[][..])..)? {
        let (key, _) = row?;
        let (owner, child, index) = key.value();
        if owner != name.as_str() {
            break;
        }
        found.listings.insert((digest(child)?, digest(index)?));
    }
    for row in rows.table(REFERRERS)?.range((name.as_str(), &[][..], "", &[][..])..)? {
        let (key, descriptor) = row?;
        let (owner, subject, kind, referrer) = key.value();
        if owner != name.as_str() {
            break;
        }
        let key = (digest(subject)?, kind.to_owned(), digest(referrer)?);
        found.referrers.insert(key, descriptor.value().to_vec());
    }
    for row in rows.table(TAGS_OF)?.range((name.as_str(), &[][..], "")..)? {
        let (key, _) = row?;
        let (owner, manifest, tag) = key.value();
        if owner != name.as_str() {
            break;
        }
        found.tags_of.insert((digest(manifest)?, tag.to_owned()));
    }
    for row in rows.table(PAST_OF)?.range((name.as_str(), &[][..], "", 0, 0)..)? {
        let (key, _) = row?;
        let (owner, manifest, tag, started, number) = key.value();
        if owner != name.as_str() {
            break;
        }
        found.past_of.insert((digest(manifest)?, tag.to_owned(), started, number));
    }
    found.unreferenced = rows.unreferenced_in(name)?;
    Ok(found)
}

impl WriteTx {
    /// Makes the rows of a repository anew that follow from what it was given.
    pub(crate) fn rebuild_repository(&mut self, name: &RepositoryName, now: impl Into<Moment>) -> Result<(), Error> {
        let now = now.into();
        let expected = expected(self, name, &mut Findings::default())?;
        let found = found(self, name)?;
        let text = name.as_str();
        for (child, index) in found.listings.difference(&expected.listings) {
            self.table_mut(LISTINGS)?.remove((text, child.key(), index.key()))?;
        }
        for (child, index) in &expected.listings {
            self.table_mut(LISTINGS)?.insert((text, child.key(), index.key()), ())?;
        }
        for (subject, kind, digest) in found.referrers.keys() {
            self.table_mut(REFERRERS)?.remove((text, subject.key(), kind.as_str(), digest.key()))?;
        }
        for ((subject, kind, digest), descriptor) in &expected.referrers {
            let key = (text, subject.key(), kind.as_str(), digest.key());
            self.table_mut(REFERRERS)?.insert(key, descriptor.as_slice())?;
        }
        for (digest, tag) in found.tags_of.difference(&expected.tags_of) {
            self.table_mut(TAGS_OF)?.remove((text, digest.key(), tag.as_str()))?;
        }
        for (digest, tag) in &expected.tags_of {
            self.table_mut(TAGS_OF)?.insert((text, digest.key(), tag.as_str()), ())?;
        }
        for (digest, tag, started, number) in found.past_of.difference(&expected.past_of) {
            self.table_mut(PAST_OF)?.remove((text, digest.key(), tag.as_str(), *started, *number))?;
        }
        for (digest, tag, started, number) in &expected.past_of {
            self.table_mut(PAST_OF)?.insert((text, digest.key(), tag.as_str(), *started, *number), ())?;
        }
        for (digest, references) in &expected.references {
            let created = self.link(*digest, name)?.map_or(now.wall, |link| link.created);
            self.set_link(name, *digest, &LinkRow { references: *references, created })?;
        }
        for (kind, digest) in expected.unreferenced.difference(&found.unreferenced) {
            let kind = Unreferenced::from_number(*kind).ok_or_else(|| corrupt("unneeded", name))?;
            self.set_unreferenced(name, kind, *digest, now.steady)?;
        }
        let links = expected.references.len() as u64;
        self.change_repository(name, now.wall, |row| {
            *row = RepositoryRow { created: row.created, manifests: expected.manifests, links };
        })
    }

    /// Makes the rows of a blob anew that follow from who links it.
    pub(crate) fn rebuild_blob(&mut self, digest: Digest) -> Result<(), Error> {
        let Some(row) = self.blob(digest)? else { return Ok(()) };
        let holders = self.linking_repositories(digest)?;
        for holder in &holders {
            self.table_mut(LINKS_OF)?.insert((holder.as_str(), digest.key()), ())?;
        }
        if holders.is_empty() {
            return self.remove_blob(digest);
        }
        self.put_blob(digest, &BlobRow { links: holders.len() as u64, ..row })
    }
}

#[cfg(test)]
mod tests;
