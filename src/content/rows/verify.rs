//! Checking whether rows agree, and rebuilding those that can be derived from others.
//!
//! The primary rows of a repository are its manifests, tags, past tags and links to blobs. All others (counts,
//! listings, referrers, unreferenced objects) are derived from them, in two ways: step by step, in the transactions
//! that change the primary rows, and all at once here. The two must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use super::blob::{BlobRow, LinkRow};
use super::history::PastRow;
use super::manifest::ManifestRow;
use super::schema::{
    DELETED_MANIFESTS, LINKS_OF, LISTINGS, MANIFESTS, PAST_OF, PAST_TAGS, REFERRERS, REPOSITORIES, TAGS_OF,
    UNREFERENCED,
};
use super::tag::TagRow;
use super::totals::{Reached, RepositoryRow};
use super::unreferenced::Unreferenced;
use super::{Error, Facts, Rows, WriteTx, codec};
use crate::kit::clock::Moment;
use crate::oci::{Digest, Manifest, RepositoryName};

/// The problems that were found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Derived rows that are wrong. They can be rebuilt.
    pub(crate) derived: Vec<String>,
    /// Content that is missing or damaged.
    pub(crate) lost: Vec<String>,
}

/// The derived rows of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
struct Derived {
    manifests: u64,
    /// The number of manifests that reference each linked blob.
    references: BTreeMap<Digest, u64>,
    listings: BTreeSet<(Digest, Digest)>,
    referrers: BTreeMap<(Digest, String, Digest), Vec<u8>>,
    tags_of: BTreeSet<(Digest, String)>,
    past_of: BTreeSet<(Digest, String, u64, u32)>,
    unreferenced: BTreeSet<(u8, Digest)>,
    totals: DerivedTotals,
}

/// The totals and the facts of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
struct DerivedTotals {
    size: u64,
    tags: u64,
    /// The manifests whose facts are missing or wrong.
    without_facts: BTreeSet<Digest>,
    is_ordered: bool,
}

impl Rows {
    /// The names of at most `limit` repositories after `after` in byte order, those without a row of their own
    /// included.
    pub(crate) fn named_repositories(&self, after: &str, limit: usize) -> Result<Vec<String>, Error> {
        let range = (Excluded(after), Unbounded);
        let names = self.table(REPOSITORIES)?.collect(range, limit, |name, _| Ok(Some(name.to_owned())))?;
        let mut names: BTreeSet<String> = names.into_iter().collect();
        // A repository that has links but no row is found by jumping from one repository to the next. The first byte of
        // a digest is its algorithm, and none is 255.
        let links = self.table(LINKS_OF)?;
        let mut last = after.to_owned();
        while names.len() < 2 * limit {
            let range = (Excluded((last.as_str(), &[255][..])), Unbounded);
            let Some(name) = links.collect(range, 1, |(name, _), ()| Ok(Some(name.to_owned())))?.pop() else { break };
            names.insert(name.clone());
            last = name;
        }
        Ok(names.into_iter().take(limit).collect())
    }

    /// Checks the rows of a repository.
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
            wrong("how many manifests reference a blob");
        }
        // Garbage collection removes a superfluous row.
        if !expected.unreferenced.is_subset(&found.unreferenced) {
            wrong("what is unreferenced");
        }
        let counts = self.repository(name)?.map(|row| (row.manifests, row.links));
        let links = expected.references.len() as u64;
        if counts.unwrap_or_default() != (expected.manifests, links) {
            wrong("the counts of manifests and blobs");
        }
        let Some((_, counted)) = self.current_counted(name)? else { return Ok(()) };
        let (expected, found) = (&expected.totals, &found.totals);
        if counted.has_totals() && (expected.size, expected.tags) != (found.size, found.tags) {
            wrong("the totals");
        }
        if counted.has_totals() && !found.is_ordered {
            wrong("its place in the orders of repositories");
        }
        if counted.reached == Reached::All && !expected.without_facts.is_empty() {
            wrong("the facts of manifests");
        }
        Ok(())
    }

    /// Checks the rows of a blob.
    pub(crate) fn verify_blob(&self, digest: Digest, findings: &mut Findings) -> Result<(), Error> {
        // The row is read in the same transaction as the links, because clients change both meanwhile.
        let Some(row) = self.blob(digest)? else { return Ok(()) };
        let names = self.linking_repositories(digest)?;
        if names.len() as u64 != row.links {
            findings.derived.push(format!("{digest}: how many repositories link it"));
        }
        for name in &names {
            if !self.has(LINKS_OF, (name.as_str(), digest.key()))? {
                findings.derived.push(format!("{digest}: that {name} links it"));
            }
        }
        Ok(())
    }
}

impl Derived {
    fn find_unreferenced(&mut self, manifests: &BTreeSet<Digest>) {
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

impl Derived {
    /// Checks what rows tell of the facts of a manifest. The rest comes from its config, which is no row.
    fn check_facts(
        &mut self,
        rows: &Rows,
        name: &RepositoryName,
        digest: Digest,
        row: &ManifestRow,
        manifest: Option<&Manifest>,
    ) -> Result<(), Error> {
        // The size of a deleted manifest is computed again when it is restored.
        let size = manifest.map(|manifest| rows.image_size(name, manifest, row.size)).transpose()?;
        let is_right = |facts: Facts| facts.pushed == row.created && size.is_none_or(|size| facts.size == size);
        if !rows.facts(name, digest)?.is_some_and(is_right) {
            self.totals.without_facts.insert(digest);
        }
        Ok(())
    }
}

/// Derives rows from the primary rows.
fn expected(rows: &Rows, name: &RepositoryName, findings: &mut Findings) -> Result<Derived, Error> {
    let mut derived = Derived::default();
    // Whether a referrer is unreferenced depends on the past of its subject, which no row has.
    let mut no_referrers = BTreeSet::new();
    for digest in rows.linked(name)? {
        if rows.link(digest, name)?.is_none() || rows.blob(digest)?.is_none() {
            findings.lost.push(format!("{name}: the row of the blob {digest}"));
        }
        derived.totals.size += rows.blob(digest)?.map_or(0, |blob| blob.size);
        derived.references.insert(digest, 0);
    }
    let contents = rows.contents(name)?;
    for digest in contents.manifests {
        derived.manifests += 1;
        let row = rows.manifest(name, digest)?.ok_or_else(|| Error::corrupt(MANIFESTS, digest))?;
        let bytes = rows.manifest_bytes(name, digest)?;
        let bytes = bytes.filter(|bytes| Digest::of(digest.algorithm(), bytes) == digest);
        let Some(manifest) = bytes.and_then(|bytes| parse(&row, &bytes)) else {
            findings.lost.push(format!("{name}: the bytes of the manifest {digest}"));
            continue;
        };
        let is_mirrored = rows.mirrored(name, digest)?.is_some();
        let manifest = if is_mirrored { manifest.with_optional_blobs() } else { manifest };
        derived.check_facts(rows, name, digest, &row, Some(&manifest))?;
        for blob in manifest.blobs() {
            match derived.references.get_mut(blob) {
                Some(count) => *count += 1,
                None => findings.lost.push(format!("{name}: the blob {blob}, which the manifest {digest} references")),
            }
        }
        let children = manifest.manifests().iter().map(|child| child.digest);
        let listed = children.chain(manifest.optional_blobs().iter().copied());
        derived.listings.extend(listed.map(|listed| (listed, digest)));
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
        let row = rows.deleted_manifest(name, digest)?.ok_or_else(|| Error::corrupt(DELETED_MANIFESTS, digest))?;
        let Some(manifest) = rows.manifest_bytes(name, digest)?.and_then(|bytes| parse(&row, &bytes)) else {
            findings.lost.push(format!("{name}: the bytes of the deleted manifest {digest}"));
            continue;
        };
        derived.check_facts(rows, name, digest, &row, None)?;
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
        derived.totals.tags += 1;
    }
    let text = name.as_str();
    let past =
        rows.table(PAST_TAGS)?.collect((text, "", 0, 0).., usize::MAX, |(owner, tag, started, number), row| {
            if owner != text {
                return Ok(None);
            }
            Ok(Some((PastRow::decode(row, tag)?.digest, tag.to_owned(), started, number)))
        })?;
    derived.past_of.extend(past);
    derived.find_unreferenced(&no_referrers);
    Ok(derived)
}

fn parse(row: &ManifestRow, bytes: &[u8]) -> Option<Manifest> {
    Manifest::read(bytes, row.media_type().as_ref()).ok()
}

/// Reads the derived rows.
fn found(rows: &Rows, name: &RepositoryName) -> Result<Derived, Error> {
    let text = name.as_str();
    let mut found = Derived { unreferenced: rows.unreferenced_in(name)?, ..Derived::default() };
    if let Some((_, counted)) = rows.current_counted(name)? {
        let is_ordered = rows.is_in_orders(name, &counted)?;
        found.totals = DerivedTotals { size: counted.size, tags: counted.tags, is_ordered, ..DerivedTotals::default() };
    }
    for blob in rows.linked(name)? {
        found.references.insert(blob, rows.link(blob, name)?.map_or(0, |link| link.references));
    }
    let from = (text, &[][..], &[][..]);
    found.listings.extend(rows.table(LISTINGS)?.collect(from.., usize::MAX, |(owner, child, index), ()| {
        let row = || Ok::<_, Error>((codec::digest(LISTINGS, child)?, codec::digest(LISTINGS, index)?));
        (owner == text).then(row).transpose()
    })?);
    let from = (text, &[][..], "", &[][..]);
    found.referrers.extend(rows.table(REFERRERS)?.collect(
        from..,
        usize::MAX,
        |(owner, subject, kind, of), value| {
            let key =
                || Ok::<_, Error>((codec::digest(REFERRERS, subject)?, kind.to_owned(), codec::digest(REFERRERS, of)?));
            (owner == text).then(|| Ok((key()?, value.to_vec()))).transpose()
        },
    )?);
    found.tags_of.extend(rows.table(TAGS_OF)?.collect((text, &[][..], "").., usize::MAX, |(owner, of, tag), ()| {
        (owner == text).then(|| Ok((codec::digest(TAGS_OF, of)?, tag.to_owned()))).transpose()
    })?);
    let from = (text, &[][..], "", 0, 0);
    found.past_of.extend(rows.table(PAST_OF)?.collect(
        from..,
        usize::MAX,
        |(owner, of, tag, started, number), ()| {
            (owner == text).then(|| Ok((codec::digest(PAST_OF, of)?, tag.to_owned(), started, number))).transpose()
        },
    )?);
    Ok(found)
}

impl WriteTx {
    /// Rebuilds the derived rows of a repository.
    pub(crate) fn rebuild_repository(&mut self, name: &RepositoryName, now: impl Into<Moment>) -> Result<(), Error> {
        let now = now.into();
        let expected = expected(self, name, &mut Findings::default())?;
        let found = found(self, name)?;
        let text = name.as_str();
        for (child, index) in found.listings.difference(&expected.listings) {
            self.remove(LISTINGS, (text, child.key(), index.key()))?;
        }
        for (child, index) in expected.listings.difference(&found.listings) {
            self.insert(LISTINGS, (text, child.key(), index.key()), ())?;
        }
        for (subject, kind, digest) in found.referrers.keys() {
            self.remove(REFERRERS, (text, subject.key(), kind.as_str(), digest.key()))?;
        }
        for ((subject, kind, digest), descriptor) in &expected.referrers {
            self.insert(REFERRERS, (text, subject.key(), kind.as_str(), digest.key()), descriptor.as_slice())?;
        }
        for (digest, tag) in found.tags_of.difference(&expected.tags_of) {
            self.remove(TAGS_OF, (text, digest.key(), tag.as_str()))?;
        }
        for (digest, tag) in expected.tags_of.difference(&found.tags_of) {
            self.insert(TAGS_OF, (text, digest.key(), tag.as_str()), ())?;
        }
        for (digest, tag, started, number) in found.past_of.difference(&expected.past_of) {
            self.remove(PAST_OF, (text, digest.key(), tag.as_str(), *started, *number))?;
        }
        for (digest, tag, started, number) in expected.past_of.difference(&found.past_of) {
            self.insert(PAST_OF, (text, digest.key(), tag.as_str(), *started, *number), ())?;
        }
        for (digest, references) in &expected.references {
            let created = self.link(*digest, name)?.map_or(now.wall, |link| link.created);
            self.set_link(name, *digest, &LinkRow { references: *references, created })?;
        }
        for (kind, digest) in expected.unreferenced.difference(&found.unreferenced) {
            let kind = Unreferenced::from_number(*kind).ok_or_else(|| Error::corrupt(UNREFERENCED, name))?;
            self.set_unreferenced(name, kind, *digest, now.steady)?;
        }
        let links = expected.references.len() as u64;
        let totals = expected.totals;
        self.change_repository(name, now.wall, |row, counted| {
            *row = RepositoryRow { created: row.created, manifests: expected.manifests, links };
            (counted.size, counted.tags) = (totals.size, totals.tags);
            counted.reached = counted.reached.clone().max(Reached::Manifests(Vec::new()));
        })?;
        self.put_in_orders(name)?;
        if totals.without_facts.is_empty() {
            return Ok(());
        }
        self.recount_facts(name)
    }

    /// Rebuilds the rows of a blob that are derived from its links.
    pub(crate) fn rebuild_blob(&mut self, digest: Digest) -> Result<(), Error> {
        let Some(row) = self.blob(digest)? else { return Ok(()) };
        let names = self.linking_repositories(digest)?;
        for name in &names {
            self.insert(LINKS_OF, (name.as_str(), digest.key()), ())?;
        }
        if names.is_empty() {
            return self.remove_blob(digest);
        }
        self.put_blob(digest, &BlobRow { links: names.len() as u64, ..row })
    }
}

#[cfg(test)]
mod tests;
