//! Quotas: how much repositories and namespaces may have, and how many repositories there may be.
//!
//! The transaction that adds a blob, a tag or a repository decides, from totals that every change keeps. So quotas are
//! exact however many clients push. A push whose length is known is refused before its first byte. Deleting always
//! works, and so does everything that adds nothing. So bytes whose digest the client has not said yet may be those of a
//! blob that is there already: they are received up to the size of all that is there, and the end of the upload decides.
//! Content that the mirror fetches counts and is never refused: the mirror has limits of its own. The operator's imports
//! are not refused either.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Error, Repository, Stores, Upload};
use crate::content::rows::{Database, Rows, WriteTx};
use crate::kit::text;
use crate::oci::{Digest, RepositoryName, RepositoryPattern};

/// A quota of each repository or of each namespace that a pattern matches.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    /// The key of the rule, for messages.
    pub(crate) rule: String,
    pub(crate) of: QuotaOf,
    /// The most bytes of blobs.
    pub(crate) size: Option<u64>,
    pub(crate) tags: Option<u64>,
}

/// The subjects of a quota.
#[derive(Clone, Debug)]
pub(crate) enum QuotaOf {
    Repositories(Vec<RepositoryPattern>),
    /// Patterns of the first parts of names.
    Namespaces(Vec<RepositoryPattern>),
}

/// The operator's quotas.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quotas {
    rules: Arc<[Quota]>,
    max_repositories: Option<u64>,
    refused: Arc<Refused>,
}

/// Refused requests, by the kind of the limit.
#[derive(Debug, Default)]
struct Refused {
    size: AtomicU64,
    tags: AtomicU64,
    repositories: AtomicU64,
}

/// The use of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaUse {
    /// Whether it is the quota of the namespace.
    pub(crate) is_of_namespace: bool,
    /// The repository or the namespace.
    pub(crate) subject: String,
    pub(crate) rule: String,
    pub(crate) amount: Amount,
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

/// The kind of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// Bytes of blobs.
    Size,
    Tags,
}

impl QuotaUse {
    fn shown(&self, amount: u64) -> String {
        match self.amount {
            Amount::Size => text::size(amount),
            Amount::Tags => text::counted(amount, "tag", "tags"),
        }
    }
}

impl fmt::Display for QuotaUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.shown(self.used), self.shown(self.limit))
    }
}

/// Why something is refused: the quota, and how much more was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaExceeded {
    pub(crate) quota: QuotaUse,
    pub(crate) more: u64,
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quota, more } = self;
        let of = if quota.is_of_namespace { "namespace" } else { "repository" };
        let (subject, rule, more) = (&quota.subject, &quota.rule, quota.shown(*more));
        write!(f, "the {of} {subject} uses {quota}, and {more} more would exceed the quota ({rule})")
    }
}

/// The figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QuotaFigures {
    pub(crate) repositories: u64,
    pub(crate) max_repositories: u64,
    pub(crate) refused_size: u64,
    pub(crate) refused_tags: u64,
    pub(crate) refused_repositories: u64,
}

impl Quotas {
    pub(crate) fn new(rules: Vec<Quota>, max_repositories: Option<u64>) -> Self {
        Self { rules: rules.into(), max_repositories, refused: Arc::default() }
    }

    fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.max_repositories.is_none()
    }

    /// Keeps the totals that quotas need, or keeps them no longer.
    pub(super) fn prepare(&self, database: &Database) -> Result<(), Error> {
        if database.is_read_only() {
            return Ok(());
        }
        let is_kept = database.read(Rows::keeps_usage)?;
        match self.is_empty() {
            false if !is_kept => {
                database.write(WriteTx::begin_usage)?;
                tracing::info!("counted the use of all namespaces for quotas");
            }
            true if is_kept => database.write(WriteTx::end_usage)?,
            _ => {}
        }
        Ok(())
    }

    /// The quota of a repository and that of its namespace: for each the first rule that matches.
    fn rules(&self, name: &RepositoryName) -> impl Iterator<Item = (&Quota, bool)> {
        let namespace: Option<RepositoryName> = name.namespace().parse().ok();
        let of_repository = self.rules.iter().find(|quota| match &quota.of {
            QuotaOf::Repositories(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
            QuotaOf::Namespaces(_) => false,
        });
        let of_namespace = self.rules.iter().find(|quota| match (&quota.of, &namespace) {
            (QuotaOf::Namespaces(patterns), Some(name)) => patterns.iter().any(|pattern| pattern.matches(name)),
            _ => false,
        });
        of_repository.map(|quota| (quota, false)).into_iter().chain(of_namespace.map(|quota| (quota, true)))
    }

    /// The use of every quota that applies to a repository.
    fn uses(&self, tx: &Rows, name: &RepositoryName) -> Result<Vec<QuotaUse>, Error> {
        let mut uses = Vec::new();
        for (quota, is_of_namespace) in self.rules(name) {
            let (size, tags) = if is_of_namespace {
                let of_namespace = tx.namespace_use(name)?;
                (of_namespace.size, of_namespace.tags)
            } else {
                tx.totals(name)?.map_or((0, 0), |totals| (totals.size, totals.tags))
            };
            let subject = if is_of_namespace { name.namespace() } else { name.as_str() };
            for (amount, used, limit) in [(Amount::Size, size, quota.size), (Amount::Tags, tags, quota.tags)] {
                let (subject, rule) = (subject.to_owned(), quota.rule.clone());
                uses.extend(limit.map(|limit| QuotaUse { is_of_namespace, subject, rule, amount, used, limit }));
            }
        }
        Ok(uses)
    }

    /// Fails if this much more of an amount exceeds a quota. `counts` says whether it counts for a quota.
    fn check(
        &self,
        tx: &Rows,
        name: &RepositoryName,
        (amount, more): (Amount, u64),
        counts: impl Fn(&QuotaUse) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if more == 0 || self.rules.is_empty() {
            return Ok(());
        }
        for quota in self.uses(tx, name)? {
            if quota.amount == amount && quota.used.saturating_add(more) > quota.limit && counts(&quota)? {
                let refused = if amount == Amount::Size { &self.refused.size } else { &self.refused.tags };
                refused.fetch_add(1, Ordering::Relaxed);
                return Err(Error::QuotaExceeded(Box::new(QuotaExceeded { quota, more })));
            }
        }
        Ok(())
    }

    /// Fails if a blob of this size exceeds a quota. A blob that the repository has adds nothing.
    pub(super) fn check_blob(&self, tx: &Rows, name: &RepositoryName, digest: Digest, size: u64) -> Result<(), Error> {
        if self.is_empty() || tx.link(digest, name)?.is_some() {
            return Ok(());
        }
        self.check_repository(tx, name)?;
        self.check(tx, name, (Amount::Size, size), |quota| {
            Ok(!quota.is_of_namespace || tx.is_only_in_namespace(name, digest)?)
        })
    }

    /// Fails if a blob of this size, whose digest is not known yet, exceeds a quota with any digest. A blob that
    /// is there already is not larger than all blobs that are there.
    fn check_unknown(&self, tx: &Rows, name: &RepositoryName, size: u64) -> Result<(), Error> {
        self.check(tx, name, (Amount::Size, size), |quota| Ok(size > quota.used))
    }

    /// Fails if this many more tags exceed a quota.
    pub(super) fn check_tags(&self, tx: &Rows, name: &RepositoryName, more: u64) -> Result<(), Error> {
        self.check(tx, name, (Amount::Tags, more), |_| Ok(true))
    }

    /// Fails if a repository does not exist and there may be no more of them.
    pub(super) fn check_repository(&self, tx: &Rows, name: &RepositoryName) -> Result<(), Error> {
        let Some(limit) = self.max_repositories else { return Ok(()) };
        if tx.repository_count()? < limit || tx.repository(name)?.is_some() {
            return Ok(());
        }
        self.refused.repositories.fetch_add(1, Ordering::Relaxed);
        Err(Error::TooManyRepositories { limit })
    }
}

impl Stores {
    /// The figures for metrics. `None` without quotas.
    pub(crate) fn quota_figures(&self) -> Result<Option<QuotaFigures>, Error> {
        let quotas = &self.rules.quotas;
        if quotas.is_empty() {
            return Ok(None);
        }
        let refused = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Some(QuotaFigures {
            repositories: self.database.read(Rows::repository_count)?,
            max_repositories: quotas.max_repositories.unwrap_or_default(),
            refused_size: refused(&quotas.refused.size),
            refused_tags: refused(&quotas.refused.tags),
            refused_repositories: refused(&quotas.refused.repositories),
        }))
    }
}

impl Repository {
    /// The use of every quota that applies to the repository.
    pub(crate) fn quotas(&self) -> Result<Vec<QuotaUse>, Error> {
        self.stores.database.read(|tx| self.stores.rules.quotas.uses(tx, &self.name))
    }

    /// Fails if the repository does not exist and there may be no more of them.
    pub(crate) fn check_may_exist(&self) -> Result<(), Error> {
        self.stores.database.read(|tx| self.stores.rules.quotas.check_repository(tx, &self.name))
    }
}

impl Upload {
    /// Fails if this many bytes at the end of the upload exceed a quota. The digest is that of the whole blob, if the
    /// client said it. [`Upload::append`] checks the bytes of a client that did not say their number.
    pub(crate) fn check_quota(&mut self, more: u64, digest: Option<Digest>) -> Result<(), Error> {
        self.has_quota = !self.stores.rules.quotas.is_empty();
        self.expected = digest;
        self.check_size(more)
    }

    pub(super) fn check_size(&self, more: u64) -> Result<(), Error> {
        if !self.has_quota {
            return Ok(());
        }
        let size = self.offset().saturating_add(more);
        let quotas = &self.stores.rules.quotas;
        self.stores.database.read(|tx| match self.expected {
            // More bytes than the known blob has cannot be that blob.
            Some(digest) if tx.blob(digest)?.is_none_or(|blob| size <= blob.size) => {
                quotas.check_blob(tx, &self.name, digest, size)
            }
            _ => quotas.check_unknown(tx, &self.name, size),
        })
    }
}

#[cfg(test)]
mod tests;
