//! A view of all rows for tests: the content of every table, and whether the rows agree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use redb::{Key, TableHandle as _, Value};
use sha2::{Digest as _, Sha256};

use super::order::Order;
use super::schema::{
    BLOBS, FACTS, PULLS, REPOSITORIES, REPOSITORY_ORDER, SETTING_FACTS, SETTING_FACTS_NUMBER, SETTING_WAL, SETTINGS,
    UNREFERENCED, UNREFERENCED_SINCE, Visitor, each_table,
};
use super::totals::RepositoryRow;
use super::transaction::Definition;
use super::verify::Findings;
use super::{Database, Error, Rows, codec};
use crate::oci::{Digest, RepositoryName};

/// More than any test has.
const REPOSITORIES_MAX: usize = 1000;

/// The number of rows of each table, and a hash of all of them.
pub(crate) type Dump = BTreeMap<String, (u64, [u8; 32])>;

struct Dumping<'a>(&'a Rows, Dump);

impl Visitor for Dumping<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        let (mut hash, mut count) = (Sha256::new(), 0);
        self.0.table(definition)?.each(.., |key, value| {
            // It changes with each checkpoint, which changes nothing else.
            if definition.name() == SETTINGS.name() && K::as_bytes(&key).as_ref() == SETTING_WAL.as_bytes() {
                return Ok(ControlFlow::Continue(()));
            }
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

impl Database {
    pub(crate) fn dump(&self) -> Result<Dump, Error> {
        self.read(|rows| {
            let mut dumping = Dumping(rows, Dump::new());
            each_table(&mut dumping)?;
            let names: BTreeSet<String> = rows.table_names()?.into_iter().collect();
            assert_eq!(names, dumping.1.keys().cloned().collect(), "a table is not in the list");
            Ok(dumping.1)
        })
    }

    /// Every blob that has a row, with its size.
    pub(crate) fn blob_rows(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let rows = self.read(|rows| rows.blobs(None, usize::MAX))?;
        Ok(rows.into_iter().map(|(digest, row)| (digest, row.size)).collect())
    }

    /// Every blob without a row whose file is not removed yet.
    pub(crate) fn orphan_rows(&self) -> Result<Vec<Digest>, Error> {
        self.read(|rows| rows.orphans(usize::MAX))
    }

    /// The contradictions between rows.
    pub(crate) fn inconsistencies(&self) -> Result<Vec<String>, Error> {
        self.read(|rows| {
            let mut findings = Findings::default();
            for name in rows.named_repositories("", REPOSITORIES_MAX)? {
                rows.verify_repository(&name.parse().expect("a name"), &mut findings)?;
            }
            let digests = rows.table(BLOBS)?.collect(.., usize::MAX, |key, _| codec::digest(BLOBS, key).map(Some))?;
            for digest in digests {
                rows.verify_blob(digest, &mut findings)?;
            }
            let mut wrong = [findings.derived, findings.lost].concat();
            check_unreferenced(rows, &mut wrong)?;
            check_repositories(rows, &mut wrong)?;
            check_facts(rows, &mut wrong)?;
            Ok(wrong)
        })
    }
}

/// The two tables of unreferenced objects have the same objects, and an orphan has no row.
fn check_unreferenced(rows: &Rows, wrong: &mut Vec<String>) -> Result<(), Error> {
    let by_name = rows.table(UNREFERENCED)?.collect(.., usize::MAX, |(name, kind, digest), since| {
        Ok(Some((since, name.to_owned(), kind, digest.to_vec())))
    })?;
    let by_time = rows.table(UNREFERENCED_SINCE)?.collect(.., usize::MAX, |(since, name, kind, digest), ()| {
        Ok(Some((since, name.to_owned(), kind, digest.to_vec())))
    })?;
    if by_name.iter().collect::<BTreeSet<_>>() != by_time.iter().collect::<BTreeSet<_>>() {
        wrong.push("the tables of unreferenced objects differ".to_owned());
    }
    for digest in rows.orphans(usize::MAX)? {
        if rows.blob(digest)?.is_some() {
            wrong.push(format!("{digest} is an orphan, and has a row"));
        }
    }
    Ok(())
}

/// No row of facts, pulls or an order is of something that is gone, and each order has a repository once.
fn check_facts(rows: &Rows, wrong: &mut Vec<String>) -> Result<(), Error> {
    rows.table(FACTS)?.each(.., |(digest, name), _| {
        let (digest, name) = (codec::digest(FACTS, digest)?, codec::parse(FACTS, name)?);
        if rows.stored_manifest(&name, digest)?.is_none() {
            wrong.push(format!("{name}@{digest} has facts and is gone"));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    rows.table(PULLS)?.each(.., |(name, digest), _| {
        let name = codec::parse(PULLS, name)?;
        let exists = match Digest::from_key(digest) {
            Some(digest) => rows.stored_manifest(&name, digest)?.is_some(),
            None => rows.repository(&name)?.is_some(),
        };
        if !exists {
            wrong.push(format!("{name} has pulls of something that is gone"));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    // The background work removes the rows that an earlier program has left.
    let is_complete = rows.facts_complete()?;
    for order in Order::ALL {
        let mut found = BTreeSet::new();
        rows.each_in_order(order, None, false, |name, value| {
            let name: RepositoryName = codec::parse(REPOSITORY_ORDER, name)?;
            let is_right = rows.ordered_repository(order, &name, value)?.is_some();
            if (is_right && !found.insert(name.to_string())) || (!is_right && is_complete) {
                wrong.push(format!("{name} is wrong in the order {order:?}"));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if rows.totals_complete()? && rows.table(REPOSITORIES)?.len()? != found.len() as u64 {
            wrong.push(format!("the order {order:?} lacks repositories"));
        }
    }
    Ok(())
}

impl Database {
    /// Changes rows to those that an earlier program would have written: without totals, facts and orders. `is_first` is
    /// whether there were none of them at all. Otherwise the program wrote only the rows of repositories.
    pub(crate) fn forget_facts(&self, is_first: bool) -> Result<(), Error> {
        self.write(move |tx| {
            for (name, row) in tx.named_rows::<RepositoryRow>(REPOSITORIES)? {
                tx.insert_row(REPOSITORIES, name.as_str(), &row)?;
            }
            if is_first {
                let transaction = tx.unlogged();
                transaction.open_table(*FACTS)?.retain(|_, _| false)?;
                transaction.open_table(*PULLS)?.retain(|_, _| false)?;
                transaction.open_table(*REPOSITORY_ORDER)?.retain(|_, ()| false)?;
                tx.remove_setting(SETTING_FACTS)?;
                tx.remove_setting(SETTING_FACTS_NUMBER)?;
            }
            Ok(())
        })
    }
}

/// A repository has a row only while it has content or settings.
fn check_repositories(rows: &Rows, wrong: &mut Vec<String>) -> Result<(), Error> {
    let names = rows.table(REPOSITORIES)?.collect(.., usize::MAX, |name, _| Ok(Some(name.to_owned())))?;
    for name in names {
        let name: RepositoryName = name.parse().expect("a name");
        let row = rows.repository(&name)?.expect("the row that was found");
        if row.manifests + row.links == 0 && rows.settings(&name)?.is_none() {
            wrong.push(format!("{name} has neither content nor settings, but a row"));
        }
    }
    Ok(())
}
