//! All rows at once, for tests: what is in every table, and whether the rows agree with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use redb::{Key, TableHandle as _, Value};
use sha2::{Digest as _, Sha256};

use super::schema::{BLOBS, REPOSITORIES, UNREFERENCED, UNREFERENCED_SINCE, Visitor, each_table};
use super::transaction::Definition;
use super::verify::Findings;
use super::{Database, Error, Rows};
use crate::oci::{Digest, RepositoryName};

/// More than there are in a test.
const REPOSITORIES_MAX: usize = 1000;

/// The name of each table, with how many rows it has and a hash of them all.
pub(crate) type Dump = BTreeMap<String, (u64, [u8; 32])>;

impl Database {
    /// What is in every table.
    pub(crate) fn dump(&self) -> Result<Dump, Error> {
        self.read(|tx| {
            let mut dumping = Dumping(tx, Dump::new());
            each_table(&mut dumping)?;
            let dump = dumping.1;
            let there = tx.table_names()?.into_iter();
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
    pub(crate) fn inconsistencies(&self) -> Result<Vec<String>, Error> {
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

struct Dumping<'a>(&'a Rows, Dump);

impl Visitor for Dumping<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        let (mut hash, mut count) = (Sha256::new(), 0);
        self.0.table(definition)?.each(.., |key, value| {
            for part in [K::as_bytes(&key).as_ref(), V::as_bytes(&value).as_ref()] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        self.1.insert(definition.name().to_owned(), (count, hash.finalize().into()));
        Ok(())
    }
}

/// All rows of a table, as something else.
fn all<K: Key + 'static, V: Value + 'static, T>(
    tx: &Rows,
    table: Definition<K, V>,
    make: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> T,
) -> Result<Vec<T>, Error> {
    tx.table(table)?.collect(.., usize::MAX, |key, value| Ok(Some(make(key, value))))
}

/// What is known to be unreferenced stands in two tables that say the same; and an orphan has no row.
fn check_garbage(tx: &Rows, wrong: &mut Vec<String>) -> Result<(), Error> {
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
fn check_repositories(tx: &Rows, wrong: &mut Vec<String>) -> Result<(), Error> {
    for name in all(tx, REPOSITORIES, |name, _| name.parse::<RepositoryName>().expect("a name"))? {
        let row = tx.repository(&name)?.expect("the row that was found");
        if row.manifests + row.links == 0 && tx.settings(&name)?.is_none() {
            wrong.push(format!("{name} has nothing, and is there"));
        }
    }
    Ok(())
}
