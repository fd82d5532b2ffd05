//! Recovery: rebuilds a lost database from the journal and the blobs.
//!
//! The journal holds manifests and tags. A blob with the right bytes is linked where a manifest needs it. Users, keys,
//! permissions, tag history and blobs without a manifest are not in the journal and are lost. Recovery deletes nothing: the
//! damaged database and the journal get other names, and blobs without a manifest stay unless the caller prunes them.
//! Damaged records of the journal are skipped.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::facts::{NewFacts, Push};
use super::manifest::attach;
use crate::content::blobs::{self, Blobs, Disk, Entry, SystemDisk, Tree};
use crate::content::rows::{
    self, Condition, Database, FileRow, JournaledManifest, ManifestRow, ReplayedJournal, WriteTx,
};
use crate::kit::clock::{Clock, Moment, Timestamp};
use crate::oci::{Algorithm, Digest, Manifest, MediaType, RepositoryName, Tag};

/// Manifests in one transaction.
const STEP: usize = 64;
/// Lost items that are named.
const NAMED_MAX: usize = 1000;

/// The options of a recovery.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    /// Report the result without writing anything.
    pub(crate) dry_run: bool,
    /// Remove blobs that no manifest names.
    pub(crate) prune: bool,
    /// Replace the database even if it is whole.
    pub(crate) force: bool,
}

/// The result of a recovery.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Recovered {
    /// The fault of the database.
    pub(crate) damage: String,
    pub(crate) repositories: usize,
    pub(crate) manifests: usize,
    pub(crate) tags: usize,
    /// Blobs that are linked again.
    pub(crate) blobs: usize,
    /// Lost manifests: a blob is missing, or the manifest cannot be read.
    pub(crate) lost_manifests: usize,
    /// Tags of lost manifests.
    pub(crate) lost_tags: usize,
    /// The first lost items, each with its reason.
    pub(crate) lost: Vec<String>,
    /// Files whose digest differs from their name.
    pub(crate) damaged: usize,
    /// Blobs without a manifest, and their bytes.
    pub(crate) unnamed: usize,
    pub(crate) unnamed_bytes: u64,
    /// Whether the end of the journal is missing, with the last changes.
    #[serde(rename = "torn")]
    pub(crate) is_torn: bool,
    /// Damaged places of the journal before its end. Changes that were recorded there are lost. A tag may have an earlier
    /// target, and deleted content may be back.
    pub(crate) journal_damage: usize,
    /// Where the damaged database is now.
    pub(crate) set_aside: Option<String>,
}

/// Why a recovery was refused or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("the database is intact, and nothing was changed: --force rebuilds it anyway")]
    Whole,
    #[error("manifests.log is missing, so nothing can be recovered: restore a backup")]
    NoJournal,
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    #[error(transparent)]
    Database(#[from] rows::Error),
}

/// Rebuilds the database of a data directory.
pub(crate) fn recover(root: &Path, recovery: Recovery) -> Result<Recovered, RecoverError> {
    let (tree, disk): (_, Arc<dyn Disk>) = (Tree::new(root), Arc::new(SystemDisk));
    let damage = match rows::examine(&tree, &disk)? {
        Condition::Missing => "missing".to_owned(),
        Condition::Damaged(what) => what,
        Condition::Whole if recovery.force => "intact".to_owned(),
        Condition::Whole => return Err(RecoverError::Whole),
    };
    let replayed = ReplayedJournal::read(&tree)?.ok_or(RecoverError::NoJournal)?;
    let ReplayedJournal { is_torn, damaged_places: journal_damage, .. } = replayed;
    let mut recovered = Recovered { damage, is_torn, journal_damage, ..Recovered::default() };
    let blobs = Blobs::open(root, Arc::clone(&disk), true)?;
    let found = find_blobs(&blobs, &mut recovered)?;
    let plan = Plan::new(&replayed, &found, &mut recovered)?;
    let unnamed: Vec<_> = found.keys().filter(|digest| !plan.named.contains(digest)).copied().collect();
    recovered.unnamed = unnamed.len();
    recovered.unnamed_bytes = unnamed.iter().filter_map(|digest| found.get(digest)).map(|file| file.size).sum();
    if recovery.dry_run {
        return Ok(recovered);
    }
    let now = Moment::beginning(Clock::default().now());
    let database = Database::create_new(&tree, Arc::clone(&disk))?;
    plan.write(&database, &blobs, &replayed, &Arc::new(found), now)?;
    drop(database);
    recovered.set_aside = rows::set_aside(&tree, &*disk)?.map(|path| path.display().to_string());
    rows::install(&tree, &*disk)?;
    if recovery.prune {
        for digest in unnamed {
            blobs.remove(digest)?;
        }
        blobs.sync_directories()?;
    }
    Ok(recovered)
}

/// An intact blob.
#[derive(Clone, Copy, Debug)]
struct Found {
    size: u64,
    modified: u64,
}

/// Hashes every blob.
fn find_blobs(blobs: &Blobs, recovered: &mut Recovered) -> Result<HashMap<Digest, Found>, RecoverError> {
    let mut found = HashMap::new();
    for algorithm in Algorithm::ALL {
        let mut digests = Vec::new();
        blobs.each_entry(algorithm, |entry| {
            if let Entry::Blob(digest) = entry {
                digests.push(digest);
            }
            ControlFlow::Continue(())
        })?;
        for digest in digests {
            let Some(blob) = blobs.get(digest)? else { continue };
            // An unreadable blob counts as missing. The others are recovered.
            match blobs.rehash(&blob, digest, |_| ControlFlow::Continue(())) {
                Ok(Some(actual)) if actual == digest => {
                    found.insert(digest, Found { size: blob.size, modified: blob.modified });
                }
                _ => recovered.damaged += 1,
            }
        }
    }
    Ok(found)
}

/// The content that is recovered.
struct Plan {
    manifests: Vec<JournaledManifest>,
    tags: Vec<(RepositoryName, Tag, Digest, Timestamp)>,
    /// Blobs with a manifest.
    named: HashSet<Digest>,
}

impl Plan {
    fn new(
        replayed: &ReplayedJournal,
        found: &HashMap<Digest, Found>,
        recovered: &mut Recovered,
    ) -> Result<Self, RecoverError> {
        let mut plan = Self { manifests: Vec::new(), tags: Vec::new(), named: HashSet::new() };
        let (mut kept, mut linked, mut repositories) = (HashSet::new(), BTreeSet::new(), BTreeSet::new());
        let lost = |recovered: &mut Recovered, line: String| {
            if recovered.lost.len() < NAMED_MAX {
                recovered.lost.push(line);
            }
        };
        for listed in &replayed.manifests {
            let JournaledManifest { repository, digest, .. } = listed;
            let manifest = read(replayed, listed)?;
            let needed = manifest.as_ref().map(needs).unwrap_or_default();
            plan.named.extend(&needed);
            let missing = needed.iter().find(|blob| !found.contains_key(blob));
            match (manifest, missing) {
                (Some(manifest), None) => {
                    linked.extend(needed.iter().copied());
                    linked.extend(listed_blobs(&manifest).filter(|blob| found.contains_key(blob)));
                    plan.named.extend(listed_blobs(&manifest));
                    repositories.insert(repository.clone());
                    kept.insert((repository.clone(), *digest));
                    plan.manifests.push(listed.clone());
                }
                (None, _) => {
                    recovered.lost_manifests += 1;
                    lost(recovered, format!("{repository}@{digest}: it cannot be read"));
                }
                (_, Some(blob)) => {
                    recovered.lost_manifests += 1;
                    lost(recovered, format!("{repository}@{digest}: the blob {blob} is missing or damaged"));
                }
            }
        }
        for (repository, tag, digest, moved) in &replayed.tags {
            if kept.contains(&(repository.clone(), *digest)) {
                plan.tags.push((repository.clone(), tag.clone(), *digest, *moved));
            } else {
                recovered.lost_tags += 1;
                lost(recovered, format!("{repository}:{tag}: its manifest {digest} is lost"));
            }
        }
        recovered.repositories = repositories.len();
        recovered.manifests = plan.manifests.len();
        recovered.tags = plan.tags.len();
        recovered.blobs = linked.len();
        Ok(plan)
    }

    /// Writes the rows.
    fn write(
        &self,
        database: &Database,
        blobs: &Blobs,
        replayed: &ReplayedJournal,
        found: &Arc<HashMap<Digest, Found>>,
        now: Moment,
    ) -> Result<(), RecoverError> {
        for step in self.manifests.chunks(STEP) {
            let mut rows = Vec::new();
            for listed in step {
                if let Some(manifest) = read(replayed, listed)? {
                    let bytes = replayed.bytes(listed)?.unwrap_or_default();
                    let facts = NewFacts::read(&manifest, &bytes, blobs, |config| found.contains_key(&config));
                    rows.push((listed.clone(), manifest, bytes, facts));
                }
            }
            let found = Arc::clone(found);
            database.write(move |tx| {
                for (listed, manifest, bytes, facts) in rows {
                    put(tx, &listed, &manifest, &bytes, facts, &found, now)?;
                }
                Ok::<_, rows::Error>(())
            })?;
        }
        for step in self.tags.chunks(STEP) {
            let tags = step.to_vec();
            database.write(move |tx| {
                for (repository, tag, digest, moved) in tags {
                    tx.put_tag(&repository, &tag, digest, Moment { wall: moved, ..now }, false)?;
                }
                Ok::<_, rows::Error>(())
            })?;
        }
        Ok(())
    }
}

/// Writes the rows of a manifest and its blobs.
fn put(
    tx: &mut WriteTx,
    listed: &JournaledManifest,
    manifest: &Manifest,
    bytes: &[u8],
    facts: NewFacts,
    found: &HashMap<Digest, Found>,
    now: Moment,
) -> Result<(), rows::Error> {
    let JournaledManifest { repository, digest, media_type, created, .. } = listed;
    for blob in needs(manifest).into_iter().chain(listed_blobs(manifest)) {
        let Some(file) = found.get(&blob) else { continue };
        tx.put_link(repository, blob, file.size, now)?;
        tx.set_file(blob, &FileRow { modified: file.modified, checked: now.wall })?;
    }
    let size = bytes.len() as u64;
    let row = ManifestRow { media_type: media_type.clone(), size, created: *created };
    tx.put_manifest(repository, *digest, &row, bytes)?;
    attach(tx, repository, *digest, manifest, size)?;
    let push = Push { size, pushed: *created, pushed_by: None };
    facts.put(tx, repository, *digest, manifest, push)?;
    tx.recheck_manifest(repository, *digest, now)
}

/// A manifest of the journal, if it can be read.
fn read(replayed: &ReplayedJournal, listed: &JournaledManifest) -> Result<Option<Manifest>, RecoverError> {
    let media_type: Option<MediaType> = listed.media_type.parse().ok();
    let bytes = replayed.bytes(listed)?;
    Ok(bytes.and_then(|bytes| Manifest::read(&bytes, media_type.as_ref()).ok()))
}

/// The blobs that a manifest requires.
fn needs(manifest: &Manifest) -> Vec<Digest> {
    manifest.blobs().to_vec()
}

/// Blobs that may be missing: layers of foreign types, and blobs that an index lists.
fn listed_blobs(manifest: &Manifest) -> impl Iterator<Item = Digest> {
    let children = manifest.manifests().iter().filter(|child| !child.is_manifest).map(|child| child.digest);
    children.chain(manifest.optional_blobs().iter().copied())
}
