//! All rows at once, for tests: what is in every table, and whether the rows agree with each other.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Key, ReadableTable as _, TableDefinition, TableHandle as _, Value};
use sha2::{Digest as _, Sha256};

use super::content::RepositoryRow;
use super::link::{BlobRow, LinkRead as _, LinkRow};
use super::schema::*;
use super::{ContentRead as _, Error, ManifestRow, Meta, PermissionRead as _, ReadTx, Unneeded, codec};
use crate::oci::{Digest, Manifest, RepositoryName, Tag};

/// The name of each table, with how many rows it has and a hash of them all.
pub(crate) type Dump = BTreeMap<String, (u64, [u8; 32])>;

type Pair = (String, Vec<u8>);

impl Meta {
    /// What is in every table.
    pub(crate) fn dump(&self) -> Result<Dump, Error> {
        self.read(|tx| {
            let mut dump = Dump::new();
            macro_rules! tables {
                ($($table:ident)*) => { $(add(tx, $table, &mut dump)?;)* };
            }
            tables!(SETTINGS REPOSITORIES BLOBS LINKS MANIFESTS MANIFEST_BYTES TAGS TAGS_OF REFERRERS LISTINGS);
            tables!(USERS KEYS KEYS_OF SESSIONS SESSIONS_OF AUDIT SETTINGS_OF PERMISSIONS PERMISSIONS_OF GROUPS);
            tables!(PAST_TAGS ENDED_TAGS TAG_STARTS TAG_MARKS EXPIRING_TAGS);
            tables!(SIGNING_KEYS REFRESH_TOKENS REFRESH_TOKENS_OF);
            tables!(LINKS_OF PAST_OF UNNEEDED UNNEEDED_SINCE ORPHANS);
            let there = tx.0.list_tables()?.map(|table| table.name().to_owned());
            assert_eq!(there.collect::<BTreeSet<_>>(), dump.keys().cloned().collect(), "every table is looked at");
            Ok(dump)
        })
    }

    /// Every blob that there is a row for, with its size.
    pub(crate) fn blob_rows(&self) -> Result<Vec<(Digest, u64)>, Error> {
        self.read(|tx| {
            let rows = all(tx, BLOBS, |key, row| (Digest::from_key(key), read::<BlobRow>(row).size))?;
            Ok(rows.into_iter().filter_map(|(digest, size)| digest.zip(Some(size))).collect())
        })
    }

    /// Every blob whose file is still to be removed.
    pub(crate) fn orphan_rows(&self) -> Result<Vec<Digest>, Error> {
        self.read(|tx| tx.orphans(usize::MAX))
    }

    /// What rows say of each other and is not so.
    pub(crate) fn disagreements(&self) -> Result<Vec<String>, Error> {
        self.read(disagreements)
    }
}

fn add<K: Key + 'static, V: Value + 'static>(
    tx: &ReadTx,
    table: TableDefinition<'_, K, V>,
    dump: &mut Dump,
) -> Result<(), Error> {
    let (mut hash, mut count) = (Sha256::new(), 0);
    for row in tx.table(table)?.iter()? {
        let (key, value) = row?;
        for part in [K::as_bytes(&key.value()).as_ref(), V::as_bytes(&value.value()).as_ref()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        count += 1;
    }
    dump.insert(table.name().to_owned(), (count, hash.finalize().into()));
    Ok(())
}

/// All rows of a table, as something else.
fn all<K: Key + 'static, V: Value + 'static, T>(
    tx: &ReadTx,
    table: TableDefinition<'_, K, V>,
    make: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> T,
) -> Result<Vec<T>, Error> {
    tx.table(table)?
        .iter()?
        .map(|row| {
            let (key, value) = row?;
            Ok(make(key.value(), value.value()))
        })
        .collect()
}

fn read<R: serde::de::DeserializeOwned>(row: &[u8]) -> R {
    codec::decode(row).expect("a row that can be read")
}

fn disagreements(tx: &ReadTx) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    let pair = |name: &str, digest: &[u8]| (name.to_owned(), digest.to_vec());
    let manifests: BTreeMap<Pair, ManifestRow> =
        all(tx, MANIFESTS, |(name, digest), row| (pair(name, digest), read(row)))?.into_iter().collect();
    let bytes: BTreeMap<Pair, Vec<u8>> =
        all(tx, MANIFEST_BYTES, |(name, digest), bytes| (pair(name, digest), bytes.to_vec()))?.into_iter().collect();
    let links: BTreeMap<Pair, LinkRow> =
        all(tx, LINKS, |(digest, name), row| (pair(name, digest), read(row)))?.into_iter().collect();
    let mut needed: BTreeMap<Pair, u64> = links.keys().map(|link| (link.clone(), 0)).collect();
    let (mut listings, mut referrers) = (BTreeSet::new(), BTreeSet::new());
    if !manifests.keys().eq(bytes.keys()) {
        wrong.push("manifests and their bytes are not the same".to_owned());
    }
    for (key, content) in &bytes {
        let (name, digest) = (key.0.clone(), Digest::from_key(&key.1).expect("a digest"));
        let Some(row) = manifests.get(key) else { continue };
        if Digest::of(digest.algorithm(), content) != digest || row.size != content.len() as u64 {
            wrong.push(format!("{name}: the manifest {digest} is damaged"));
            continue;
        }
        let manifest = Manifest::read(content, row.media_type().as_ref()).expect("a manifest that was accepted");
        for blob in manifest.blobs() {
            match needed.get_mut(&pair(&name, blob.key())) {
                Some(count) => *count += 1,
                None => wrong.push(format!("{name}: the manifest {digest} needs {blob}, which is not linked")),
            }
        }
        for child in manifest.manifests() {
            listings.insert((name.clone(), child.digest.key().to_vec(), key.1.clone()));
            let there = pair(&name, child.digest.key());
            if !manifests.contains_key(&there) && !links.contains_key(&there) {
                wrong.push(format!("{name}: the index {digest} lists {}, which is not there", child.digest));
            }
        }
        if let Some(subject) = manifest.subject() {
            let kind = manifest.artifact_type().unwrap_or_default().to_owned();
            let descriptor = manifest.referrer_descriptor(digest, row.size);
            referrers.insert((name.clone(), subject.key().to_vec(), kind, key.1.clone(), descriptor));
        }
    }
    for (link, row) in &links {
        if row.references != needed[link] {
            wrong.push(format!("{link:?} counts {} references, and has {}", row.references, needed[link]));
        }
    }
    let own = |name: &str, digest: &[u8], by: &[u8]| (name.to_owned(), digest.to_vec(), by.to_vec());
    let listed = all(tx, LISTINGS, |(name, child, index), ()| own(name, child, index))?;
    if listed.into_iter().collect::<BTreeSet<_>>() != listings {
        wrong.push("the listings are not those of the indexes".to_owned());
    }
    let referring = all(tx, REFERRERS, |(name, subject, kind, digest), descriptor| {
        (name.to_owned(), subject.to_vec(), kind.to_owned(), digest.to_vec(), descriptor.to_vec())
    })?;
    if referring.into_iter().collect::<BTreeSet<_>>() != referrers {
        wrong.push("the referrers are not those of the manifests".to_owned());
    }
    let unneeded = check_unneeded(tx, &mut wrong)?;
    for ((name, digest), row) in &links {
        let is_listed = listings.iter().any(|(owner, child, _)| (owner, child) == (name, digest));
        if row.references == 0
            && !is_listed
            && !unneeded.contains(&(name.clone(), Unneeded::Link as u8, digest.clone()))
        {
            wrong.push(format!("{name}: nothing needs {}, and nobody knows", hex::encode(digest)));
        }
    }
    let sides = all(tx, LINKS_OF, |(name, digest), ()| pair(name, digest))?;
    if !sides.iter().collect::<BTreeSet<_>>().into_iter().eq(links.keys()) {
        wrong.push("the links of repositories are not the links".to_owned());
    }
    check_tags(tx, &manifests, &mut wrong)?;
    check_counts(tx, &manifests, &links, &mut wrong)?;
    Ok(wrong)
}

/// What is known to be unneeded; the two tables of it say the same.
fn check_unneeded(tx: &ReadTx, wrong: &mut Vec<String>) -> Result<BTreeSet<(String, u8, Vec<u8>)>, Error> {
    let by_name = all(tx, UNNEEDED, |(name, kind, digest), since| (since, name.to_owned(), kind, digest.to_vec()))?;
    let by_time =
        all(tx, UNNEEDED_SINCE, |(since, name, kind, digest), ()| (since, name.to_owned(), kind, digest.to_vec()))?;
    if by_name.iter().collect::<BTreeSet<_>>() != by_time.iter().collect::<BTreeSet<_>>() {
        wrong.push("what is unneeded is not what is unneeded by time".to_owned());
    }
    for digest in all(tx, ORPHANS, |digest, ()| Digest::from_key(digest).expect("a digest"))? {
        if tx.blob(digest)?.is_some() {
            wrong.push(format!("{digest} is an orphan, and has a row"));
        }
    }
    Ok(by_name.into_iter().map(|(_, name, kind, digest)| (name, kind, digest)).collect())
}

fn check_tags(tx: &ReadTx, manifests: &BTreeMap<Pair, ManifestRow>, wrong: &mut Vec<String>) -> Result<(), Error> {
    let mut of = BTreeSet::new();
    for (name, tag) in all(tx, TAGS, |(name, tag), _| (name.to_owned(), tag.to_owned()))? {
        let repository: RepositoryName = name.parse().expect("a name");
        let row = tx.tag(&repository, &tag.parse::<Tag>().expect("a tag"))?.expect("the row that was found");
        if !manifests.contains_key(&(name.clone(), row.digest.key().to_vec())) {
            wrong.push(format!("{name}: the tag {tag} points at {}, which is not there", row.digest));
        }
        of.insert((name, row.digest.key().to_vec(), tag));
    }
    let found = all(tx, TAGS_OF, |(name, digest, tag), ()| (name.to_owned(), digest.to_vec(), tag.to_owned()))?;
    if found.into_iter().collect::<BTreeSet<_>>() != of {
        wrong.push("the tags of manifests are not the tags".to_owned());
    }
    Ok(())
}

fn check_counts(
    tx: &ReadTx,
    manifests: &BTreeMap<Pair, ManifestRow>,
    links: &BTreeMap<Pair, LinkRow>,
    wrong: &mut Vec<String>,
) -> Result<(), Error> {
    let count = |keys: &mut dyn Iterator<Item = &str>| {
        keys.fold(BTreeMap::<String, u64>::new(), |mut counts, name| {
            *counts.entry(name.to_owned()).or_default() += 1;
            counts
        })
    };
    let (manifests, linked) =
        (count(&mut manifests.keys().map(|key| &*key.0)), count(&mut links.keys().map(|key| &*key.0)));
    let mut unseen: BTreeSet<&String> = manifests.keys().chain(linked.keys()).collect();
    for (name, row) in all(tx, REPOSITORIES, |name, row| (name.to_owned(), read::<RepositoryRow>(row)))? {
        unseen.remove(&name);
        let counted = (manifests.get(&name).copied().unwrap_or(0), linked.get(&name).copied().unwrap_or(0));
        if (row.manifests, row.links) != counted {
            wrong.push(format!("{name} counts {row:?}, and has {counted:?}"));
        }
        if counted == (0, 0) && tx.settings(&name.parse().expect("a name"))?.is_none() {
            wrong.push(format!("{name} has nothing, and is there"));
        }
    }
    wrong.extend(unseen.into_iter().map(|name| format!("{name} has content, and is not there")));
    let mut holders = BTreeMap::<&[u8], u64>::new();
    for (_, digest) in links.keys() {
        *holders.entry(digest).or_default() += 1;
    }
    for (digest, row) in all(tx, BLOBS, |digest, row| (digest.to_vec(), read::<BlobRow>(row)))? {
        let counted = holders.remove(&*digest).unwrap_or(0);
        if row.links != counted {
            wrong.push(format!("the blob {} counts {} links, and has {counted}", hex::encode(digest), row.links));
        }
    }
    wrong.extend(holders.keys().map(|digest| format!("{} is linked, and has no row", hex::encode(digest))));
    Ok(())
}
