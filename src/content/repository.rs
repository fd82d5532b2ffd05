//! The operations of one repository. This module is the only writer of blobs and rows, and joins them.
//!
//! Invariants:
//!
//! * A link implies a durable blob: the bytes are written before the row, and on deletion the row goes before the bytes.
//!   The file and the row of a blob change together only under [`Blobs::lock`].
//! * Each client operation is one transaction: a manifest, its tags, its referrer entry and the reference counts of its
//!   blobs appear together or not at all.
//! * A blob is opened only through a repository that links it. A blob in the store is not readable in every repository.
//!
//! Knows no HTTP, no identity and no configuration file. Functions block on the disk and on other writers unless they are
//! `async`. Reads take microseconds and never wait for a writer.

mod age;
mod author;
mod backup;
mod blob;
pub(crate) mod browse;
mod cache;
mod catalog;
mod collect;
mod content;
mod damage;
mod deleted;
mod error;
mod event;
mod evict;
mod facts;
mod history;
mod immutable;
mod journal;
mod large;
mod lease;
mod lint;
mod manifest;
mod mirrored;
mod optional;
mod orphan;
mod progress;
mod pulls;
mod quota;
mod recover;
mod referrer;
mod retention;
mod rights;
#[cfg(test)]
mod scene;
mod scrub;
mod tag;
mod transfer;
mod upload;
mod uses;
mod weight;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

pub(crate) use crate::content::blobs::TransferMode;
pub(crate) use crate::content::rows::Version;
pub(crate) use backup::{BackupError, Transferred, restore};
pub(crate) use catalog::{NamePage, SearchScope};
pub(crate) use collect::{Collected, Delays, DryRun, Purge};
pub(crate) use damage::Opened;
pub(crate) use deleted::DeletedManifest;
pub(crate) use error::Error;
pub(crate) use evict::{Evicted, Goal, Pause};
pub(crate) use history::{Expiry, HistoryEntry, HistoryFilter, NameFilter, TagChange, TagRights};
pub(crate) use immutable::{Immutable, ImmutableRule, ImmutableTags};
pub(crate) use lint::MandatoryAnnotations;
pub(crate) use manifest::{Expected, ManifestInfo, ManifestTarget, PutManifest};
pub(crate) use mirrored::{Held, MirrorHolding, PutMirrored};
pub(crate) use progress::WorkProgress;
pub(crate) use quota::{Amount, Quota, QuotaExceeded, QuotaFigures, QuotaOf, QuotaUse, Quotas};
pub(crate) use recover::{RecoverError, Recovered, Recovery, recover};
pub(crate) use referrer::ReferrerCursor;
#[cfg(test)]
pub(crate) use retention::decisions as retention_decisions;
pub(crate) use retention::{Conditions, KeepTags, PlannedTag, Retain, Retained, Retention, RetentionPolicy};
pub(crate) use rights::MissingRight;
pub(crate) use scrub::{Scrubbed, Scrubbing};
pub(crate) use tag::TagPage;
pub(crate) use upload::Upload;
#[cfg(any(fuzzing, test))]
pub(crate) use upload::fuzzing::{upload as fuzz_upload, with_stores as fuzz_stores};

use crate::content::blobs::Blobs;
use crate::content::rows::{Author, Database, EventOrigin};
use crate::kit::clock::Clock;
use crate::oci::RepositoryName;

/// The operator's rules for content.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Whether an index may list manifests that the repository does not have.
    pub(crate) sparse_indexes: bool,
    /// An upload that is not continued for this long is removed.
    pub(crate) upload_expiry: Duration,
    /// How long unreferenced content is kept.
    pub(crate) delays: Delays,
    /// The tags and the unreferenced manifests that stay.
    pub(crate) retention: Retention,
    /// The tags that cannot be moved or removed.
    pub(crate) immutable: ImmutableTags,
    /// The annotations that images must have.
    pub(crate) mandatory_annotations: MandatoryAnnotations,
    /// How much repositories and namespaces may have.
    pub(crate) quotas: Quotas,
    /// How long the previous targets of a tag are kept. Zero keeps none.
    pub(crate) tag_history: Duration,
}

/// The state of the stores, which can always be read.
#[derive(Debug)]
pub(crate) struct Health {
    /// Whether the database cannot be written.
    pub(crate) read_only: bool,
    /// Whether there is space for pushes, or the reason why not.
    pub(crate) pushes: Result<(), String>,
}

/// Both stores, and the uploads between them.
#[derive(Debug)]
pub(crate) struct Stores {
    blobs: Blobs,
    database: Arc<Database>,
    clock: Clock,
    ages: age::Ages,
    rules: Rules,
    uploads: upload::Sessions,
    leases: lease::Leases,
    manifests: cache::ManifestCache,
    large_manifests: large::LargeManifests,
    pulls: pulls::PullCounts,
    uses: uses::Uses,
    /// Held while totals and facts are counted, by one thread at a time.
    counting: Mutex<()>,
    /// Held while garbage is collected, by one thread at a time.
    collecting: Mutex<()>,
    /// Held while mirrored content is evicted, by one thread at a time.
    evicting: Mutex<()>,
    /// Held while retention removes tags, by one thread at a time.
    retaining: Mutex<()>,
    /// Surveys of tags for pages.
    surveys: retention::Surveys,
    /// Held while unlinked files are removed.
    removing_files: Mutex<()>,
    /// Read-locked while a task relies on every file, write-locked to remove a file.
    files: RwLock<()>,
}

impl Stores {
    pub(crate) fn new(blobs: Blobs, database: Arc<Database>, clock: Clock, rules: Rules) -> Result<Self, Error> {
        let uploads = upload::Sessions::open(&database, &clock)?;
        rules.quotas.prepare(&database)?;
        let ages = age::Ages::open(&database, clock.clone())?;
        // The lock of the database is held, so no other process imports.
        if let Err(error) = blobs.discard_arriving() {
            tracing::warn!(%error, "cannot remove what an interrupted import has left");
        }
        Ok(Self {
            blobs,
            database,
            clock,
            ages,
            rules,
            uploads,
            leases: lease::Leases::default(),
            manifests: cache::ManifestCache::default(),
            large_manifests: large::LargeManifests::default(),
            pulls: pulls::PullCounts::default(),
            uses: uses::Uses::default(),
            counting: Mutex::default(),
            collecting: Mutex::default(),
            evicting: Mutex::default(),
            retaining: Mutex::default(),
            surveys: retention::Surveys::default(),
            removing_files: Mutex::default(),
            files: RwLock::default(),
        })
    }

    /// A repository, which may have no content yet.
    pub(crate) fn repository(self: &Arc<Self>, name: &RepositoryName) -> Repository {
        Repository { stores: Arc::clone(self), name: name.clone(), author: None, request: None }
    }

    /// Checks that the database and the directories of blobs can be read, and whether the database can be written.
    pub(crate) fn check(&self) -> Result<Health, Error> {
        self.database.read(|tx| tx.each_repository("", |_| std::ops::ControlFlow::Break(())))?;
        self.blobs.check()?;
        Ok(Health {
            read_only: self.database.is_read_only(),
            pushes: self.check_space().map_err(|error| error.to_string()),
        })
    }

    /// Whether the database can only be read now.
    pub(crate) fn is_read_only(&self) -> bool {
        self.database.is_read_only()
    }

    /// Whether there are changes to flush.
    pub(crate) fn is_flush_due(&self) -> bool {
        self.database.is_flush_due()
    }

    /// Makes every change durable.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        Ok(self.database.flush()?)
    }

    /// Fails if less space is free than `storage.minFreeSpace`.
    pub(crate) fn check_space(&self) -> Result<(), Error> {
        Ok(self.blobs.space().check()?)
    }

    /// Free bytes, and the bytes that must stay free.
    pub(crate) fn space(&self) -> std::io::Result<(u64, u64)> {
        let space = self.blobs.space();
        Ok((space.free()?, space.min_free()))
    }
}

/// One repository of the stores.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    stores: Arc<Stores>,
    name: RepositoryName,
    author: Option<Arc<dyn Author>>,
    /// The request behind changes without an author.
    request: Option<EventOrigin>,
}

impl Repository {
    pub(crate) const fn name(&self) -> &RepositoryName {
        &self.name
    }
}
