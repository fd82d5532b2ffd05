//! All rows at once, for tests: what is in every table, and whether the rows agree with each other.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Key, ReadableTable as _, TableDefinition, TableHandle as _, Value};
use sha2::{Digest as _, Sha256};

use super::schema::*;
use super::verify::{Findings, Verify as _};
use super::{ContentRead as _, Database, Error, LinkRead as _, PermissionRead as _, ReadTx};
use crate::oci::{Digest, RepositoryName};

/// More than there are in a test.
const REPOSITORIES_MAX: usize = 1000;

/// The name of each table, with how many rows it has and a hash of them all.
pub(crate) type Dump = BTreeMap<String, (u64, [u8; 32])>;

impl Database {
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
            tables!(IDENTITIES FEDERATED_USERS FEDERATED_TOKENS NAMESPACES NAMESPACES_OF ADDRESSES FILE_USERS);
            tables!(LINKS_OF PAST_OF UNREFERENCED UNREFERENCED_SINCE ORPHANS FILES DAMAGED DELETED_MANIFESTS);
            let there = tx.0.list_tables()?.map(|table| table.name().to_owned());
            assert_eq!(there.collect::<BTreeSet<_>>(), dump.keys().cloned().collect(), "every table is looked at");
            Ok(dump)
        })
    }

    /// Every blob that there is a row for, with its size.
    pub(crate) fn blob_rows(&self) -> Result<Vec<(Digest, u64)>, Error> {
        self.read(|tx| {
            let digests = all(tx, BLOBS, |key, _| Digest::from_key(key).expect("a digest"))?;
            let size = |digest| Ok((digest, tx.blob(digest)?.map_or(0, |row| row.size)));
            digests.into_iter().map(size).collect()
        })
    }

    /// Every blob whose file is still to be removed.
    pub(crate) fn orphan_rows(&self) -> Result<Vec<Digest>, Error> {
        self.read(|tx| tx.orphans(usize::MAX))
    }

    /// What rows say of each other and is not so.
    pub(crate) fn disagreements(&self) -> Result<Vec<String>, Error> {
        self.read(|tx| {
            let mut findings = Findings::default();
            for name in tx.named_repositories("", REPOSITORIES_MAX)? {
                tx.verify_repository(&name.parse().expect("a name"), &mut findings)?;
            }
            for digest in all(tx, BLOBS, |key, _| Digest::from_key(key).expect("a digest"))? {
                tx.verify_blob(digest, &mut findings)?;
            }
            let mut wrong = [findings.derived, findings.lost].concat();
            check_garbage(tx, &mut wrong)?;
            check_repositories(tx, &mut wrong)?;
            Ok(wrong)
        })
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

/// What is known to be unreferenced stands in two tables that say the same; and an orphan has no row.
fn check_garbage(tx: &ReadTx, wrong: &mut Vec<String>) -> Result<(), Error> {
    let by_name = all(tx, UNREFERENCED, |(name, kind, digest), since| (since, name.to_owned(), kind, digest.to_vec()))?;
    let by_time =
        all(tx, UNREFERENCED_SINCE, |(since, name, kind, digest), ()| (since, name.to_owned(), kind, digest.to_vec()))?;
    if by_name.iter().collect::<BTreeSet<_>>() != by_time.iter().collect::<BTreeSet<_>>() {
        wrong.push("what is unreferenced is not what is unreferenced by time".to_owned());
    }
    for digest in tx.orphans(usize::MAX)? {
        if tx.blob(digest)?.is_some() {
            wrong.push(format!("{digest} is an orphan, and has a row"));
        }
    }
    Ok(())
}

/// A repository is there while it has content, or somebody has said something about it.
fn check_repositories(tx: &ReadTx, wrong: &mut Vec<String>) -> Result<(), Error> {
    for name in all(tx, REPOSITORIES, |name, _| name.parse::<RepositoryName>().expect("a name"))? {
        let row = tx.repository(&name)?.expect("the row that was found");
        if row.manifests + row.links == 0 && tx.settings(&name)?.is_none() {
            wrong.push(format!("{name} has nothing, and is there"));
        }
    }
    Ok(())
}
