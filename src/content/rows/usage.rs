//! Rows of the use of namespaces, for quotas: the blobs and tags of their repositories, and the number of repositories.
//!
//! They are kept only while the operator limits anything; a setting says so. Each change of content then changes them in
//! its transaction, so they are never counted again. A blob counts once in a namespace, however many of its repositories
//! link it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::blob::BlobRow;
use super::schema::{BLOBS, LINKS, NAMESPACE_USE, REPOSITORIES, SETTING_USAGE, TAGS};
use super::{Error, Rows, WriteTx, codec};
use crate::oci::{Digest, RepositoryName};

/// In place of a namespace, for all of them. It has only the number of repositories.
const ALL: &str = "";

/// The use of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamespaceUse {
    /// The sum of the blobs in bytes, each once.
    pub(crate) size: u64,
    pub(crate) tags: u64,
    pub(crate) repositories: u64,
}

impl Rows {
    /// Whether the rows of this module are kept.
    pub(crate) fn keeps_usage(&self) -> Result<bool, Error> {
        Ok(self.setting(SETTING_USAGE)?.is_some())
    }

    /// The use of the namespace of a repository.
    pub(crate) fn namespace_use(&self, repository: &RepositoryName) -> Result<NamespaceUse, Error> {
        self.use_of(repository.namespace())
    }

    /// The number of repositories.
    pub(crate) fn repository_count(&self) -> Result<u64, Error> {
        Ok(self.use_of(ALL)?.repositories)
    }

    fn use_of(&self, namespace: &str) -> Result<NamespaceUse, Error> {
        Ok(self.row(NAMESPACE_USE, namespace, namespace)?.unwrap_or_default())
    }

    /// Whether no other repository of the namespace links a blob.
    pub(crate) fn is_only_in_namespace(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let (name, namespace, key) = (repository.as_str(), repository.namespace(), digest.key());
        if name != namespace && self.has(LINKS, (key, namespace))? {
            return Ok(false);
        }
        let (prefix, mut is_only) = (format!("{namespace}/"), true);
        self.table(LINKS)?.each((key, prefix.as_str()).., |(linked, other), _| {
            if linked != key || !other.starts_with(&prefix) {
                return Ok(ControlFlow::Break(()));
            }
            is_only = other == name;
            Ok(if is_only { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(is_only)
    }
}

impl WriteTx {
    /// Keeps the rows from now on: counts everything.
    pub(crate) fn begin_usage(&mut self) -> Result<(), Error> {
        let mut all: BTreeMap<String, NamespaceUse> = BTreeMap::new();
        let namespace = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
        self.table(REPOSITORIES)?.each(.., |name, _| {
            all.entry(namespace(name)).or_default().repositories += 1;
            all.entry(ALL.to_owned()).or_default().repositories += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        self.table(TAGS)?.each(.., |(name, _), _| {
            all.entry(namespace(name)).or_default().tags += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        let blobs = self.table(BLOBS)?;
        let (mut last, mut seen, mut size) = (Vec::new(), BTreeSet::new(), 0);
        self.table(LINKS)?.each(.., |(key, name), _| {
            if last != key {
                (last, size) = (key.to_vec(), 0);
                seen.clear();
                if let Some(row) = blobs.get(key)? {
                    size = codec::row::<BlobRow, _, _>(BLOBS, row.value(), name)?.size;
                }
            }
            if seen.insert(namespace(name)) {
                all.entry(namespace(name)).or_default().size += size;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        drop(blobs);
        let old = self.table(NAMESPACE_USE)?.collect(.., usize::MAX, |name, _| Ok(Some(name.to_owned())))?;
        for name in old.iter().filter(|name| !all.contains_key(*name)) {
            self.remove(NAMESPACE_USE, name.as_str())?;
        }
        for (name, used) in &all {
            self.insert_row(NAMESPACE_USE, name.as_str(), used)?;
        }
        self.usage = Some(true);
        self.set_setting(SETTING_USAGE, &[])
    }

    /// Keeps the rows no longer.
    pub(crate) fn end_usage(&mut self) -> Result<(), Error> {
        self.usage = Some(false);
        self.remove_setting(SETTING_USAGE)
    }

    pub(super) fn is_usage_kept(&mut self) -> Result<bool, Error> {
        let kept = match self.usage {
            Some(kept) => kept,
            None => self.keeps_usage()?,
        };
        self.usage = Some(kept);
        Ok(kept)
    }

    /// Changes the use of the namespace of a repository, if it is kept.
    pub(super) fn change_usage(
        &mut self,
        repository: &RepositoryName,
        change: impl FnOnce(&mut NamespaceUse),
    ) -> Result<(), Error> {
        if !self.is_usage_kept()? {
            return Ok(());
        }
        self.change_use_of(repository.namespace(), change)
    }

    /// Notes that a repository was added or removed.
    pub(super) fn count_repository(&mut self, repository: &RepositoryName, is_new: bool) -> Result<(), Error> {
        if !self.is_usage_kept()? {
            return Ok(());
        }
        for namespace in [repository.namespace(), ALL] {
            self.change_use_of(namespace, |used| {
                let count = used.repositories;
                used.repositories = if is_new { count + 1 } else { count.saturating_sub(1) };
            })?;
        }
        Ok(())
    }

    fn change_use_of(&mut self, namespace: &str, change: impl FnOnce(&mut NamespaceUse)) -> Result<(), Error> {
        let mut used = self.use_of(namespace)?;
        change(&mut used);
        if used == NamespaceUse::default() {
            self.remove(NAMESPACE_USE, namespace)
        } else {
            self.insert_row(NAMESPACE_USE, namespace, &used)
        }
    }
}
