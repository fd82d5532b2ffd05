//! What one repository can do: the narrow waist between those who serve and those who store.
//!
//! The only writer of both stores, and keeper of what must hold between them:
//!
//! * A link implies a durable blob. Bytes first, then the row; on deletion the row first, then the
//!   bytes; and a blob's file and row change together only under [`Blobs::lock`].
//! * One effect that a client can see is one transaction: a manifest, its tags, its place among the
//!   referrers and the counts of its blobs appear together or not at all.
//! * A blob is opened only through a repository that links it, so "is in the store" is never
//!   mistaken for "may be read here".
//!
//! Knows no HTTP, no identity and no configuration file. What is here blocks, on disk and on other
//! writers, except where it says `async`; reads take microseconds and never wait for a writer.

mod age;
mod backup;
mod blob;
mod cache;
mod catalog;
mod collect;
mod content;
mod damage;
mod deleted;
mod error;
mod history;
mod import;
mod journal;
mod lease;
mod manifest;
mod optional;
mod orphan;
mod recover;
mod referrer;
#[cfg(test)]
mod scene;
mod scrub;
mod tag;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

pub(crate) use crate::content::blobs::TransferMode;
pub(crate) use backup::{BackupError, Transferred, restore};
pub(crate) use catalog::{NamePage, SearchScope};
pub(crate) use collect::{Delays, Kept, Purge, Rehearsed, Retention};
pub(crate) use damage::Opened;
pub(crate) use error::Error;
pub(crate) use history::{Expiry, HistoryEntry, HistoryFilter, NameFilter, TagChange};
pub(crate) use import::ImportError;
pub(crate) use manifest::{Expected, ManifestInfo, ManifestTarget, PutManifest};
pub(crate) use recover::{Recovered, Recovery, recover};
pub(crate) use referrer::ReferrerCursor;
pub(crate) use scrub::{Scrubbed, Scrubbing};
pub(crate) use upload::Upload;
#[cfg(any(fuzzing, test))]
pub(crate) use upload::fuzzing::upload as fuzz_upload;

use crate::content::blobs::Blobs;
use crate::content::rows::Database;
use crate::kit::clock::Clock;
use crate::oci::RepositoryName;

/// What the operator decides about content.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Whether an index may list manifests that are not here.
    pub(crate) sparse_indexes: bool,
    /// How long an upload may rest before it is thrown away.
    pub(crate) upload_expiry: Duration,
    /// How long something is kept that nothing needs.
    pub(crate) delays: Delays,
    /// What is kept though nothing needs it.
    pub(crate) retention: Retention,
    /// How long it is remembered what a tag pointed at; not at all, if that is no time.
    pub(crate) tag_history: Duration,
}

/// What the stores can do at the moment, besides being read.
#[derive(Debug)]
pub(crate) struct Health {
    /// The database cannot be changed.
    pub(crate) read_only: bool,
    /// Whether there is room for pushes; if not, why.
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
    /// Held by the one collection that runs.
    collecting: Mutex<()>,
    /// Held by whoever sweeps.
    sweeping: Mutex<()>,
    /// Read by whoever counts on every file that is there, written to by whoever removes one.
    files: RwLock<()>,
}

impl Stores {
    pub(crate) fn new(blobs: Blobs, database: Arc<Database>, clock: Clock, rules: Rules) -> Result<Self, Error> {
        let uploads = upload::Sessions::open(&database, &clock)?;
        let ages = age::Ages::open(&database, clock.clone())?;
        Ok(Self {
            blobs,
            database,
            clock,
            ages,
            rules,
            uploads,
            leases: lease::Leases::default(),
            manifests: cache::ManifestCache::default(),
            collecting: Mutex::default(),
            sweeping: Mutex::default(),
            files: RwLock::default(),
        })
    }

    /// One repository, whether or not it has content yet.
    pub(crate) fn repository(self: &Arc<Self>, name: &RepositoryName) -> Repository {
        Repository { stores: Arc::clone(self), name: name.clone() }
    }

    /// Whether the database answers, and whether it can be changed.
    pub(crate) fn check(&self) -> Result<Health, Error> {
        self.database.read(|tx| tx.each_repository("", |_| std::ops::ControlFlow::Break(())))?;
        Ok(Health {
            read_only: self.database.is_read_only(),
            pushes: self.check_space().map_err(|error| error.to_string()),
        })
    }

    /// Whether the database can only be read at the moment.
    pub(crate) fn is_read_only(&self) -> bool {
        self.database.is_read_only()
    }

    /// Whether changes are to be made durable that are not yet.
    pub(crate) fn is_flush_due(&self) -> bool {
        self.database.is_flush_due()
    }

    /// Makes every change durable that is not yet.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        Ok(self.database.flush()?)
    }

    /// Refuses to take anything in when too little room is left.
    pub(crate) fn check_space(&self) -> Result<(), Error> {
        Ok(self.blobs.space().check()?)
    }

    /// How many bytes are free, and how many are to stay free.
    pub(crate) fn space(&self) -> std::io::Result<(u64, u64)> {
        let space = self.blobs.space();
        Ok((space.free()?, space.min_free()))
    }
}

/// A name bound to the stores.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    stores: Arc<Stores>,
    name: RepositoryName,
}
