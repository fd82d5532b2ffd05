//! A database made anew, of what lies beside one that is lost: the journal, and the blobs.
//!
//! The journal says which manifests and tags there were; a blob that is there with the right bytes is linked where
//! a manifest needs it. What is not in the journal does not come back: users, keys, permissions, the history of
//! tags, and blobs that no manifest needed. Nothing is deleted: the damaged database and the journal keep other
//! names, and blobs that no manifest names stay where they are unless it is asked that they go.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::manifest::attach;
use crate::content::blobs::{self, Blobs, Disk, Entry, SystemDisk, Tree};
use crate::content::rows::{
    self, Condition, Database, FileRow, JournaledManifest, ManifestRow, ReplayedJournal, WriteTx,
};
use crate::kit::clock::{Clock, Moment, Timestamp};
use crate::oci::{Algorithm, Digest, Manifest, MediaType, RepositoryName, Tag};

/// As many manifests are put into one transaction.
const STEP: usize = 64;
/// As many of what does not come back are named.
const NAMED_MAX: usize = 1000;

/// What is to be done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    /// Only say what would come of it.
    pub(crate) dry_run: bool,
    /// Remove blobs that no manifest names.
    pub(crate) prune: bool,
    /// Even if the database is whole.
    pub(crate) force: bool,
}

/// What has come back, and what has not.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// What was wrong with the database.
    pub(crate) damage: String,
    pub(crate) repositories: usize,
    pub(crate) manifests: usize,
    pub(crate) tags: usize,
    /// Blobs that repositories have again.
    pub(crate) blobs: usize,
    /// Manifests without all of their blobs, and those that cannot be read: they do not come back.
    pub(crate) lost_manifests: usize,
    /// Tags of such manifests.
    pub(crate) lost_tags: usize,
    /// The first of these, each with its reason.
    pub(crate) lost: Vec<String>,
    /// Files that are not what their name says.
    pub(crate) damaged: usize,
    /// Blobs that no manifest names, and their bytes.
    pub(crate) unnamed: usize,
    pub(crate) unnamed_bytes: u64,
    /// Whether the end of the journal is missing, and with it the last changes.
    pub(crate) is_torn: bool,
    /// Where the damaged database is now.
    pub(crate) set_aside: Option<String>,
}

/// Why nothing was done.
#[derive(Debug)]
pub(crate) enum RecoverError {
    /// There is nothing to be mended.
    Whole,
    /// There is no journal.
    NoJournal,
    Blobs(blobs::Error),
    Database(rows::Error),
}

impl From<blobs::Error> for RecoverError {
    fn from(error: blobs::Error) -> Self {
        Self::Blobs(error)
    }
}

impl From<rows::Error> for RecoverError {
    fn from(error: rows::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => {
                f.write_str("the database is whole, and nothing was done: --force makes another one all the same")
            }
            Self::NoJournal => f.write_str(
                "there is no manifests.log to recover from: manifests are nowhere else, and blobs without them are \
                 nobody's. Restore a backup",
            ),
            Self::Blobs(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecoverError {}

/// Makes the database of a data directory anew.
pub(crate) fn recover(root: &Path, recovery: Recovery) -> Result<Recovered, RecoverError> {
    let (tree, disk): (_, Arc<dyn Disk>) = (Tree::new(root), Arc::new(SystemDisk));
    let damage = match rows::examine(&tree, &disk)? {
        Condition::Missing => "it is missing".to_owned(),
        Condition::Damaged(what) => what,
        Condition::Whole if recovery.force => "it is whole".to_owned(),
        Condition::Whole => return Err(RecoverError::Whole),
    };
    let replayed = ReplayedJournal::read(&tree)?.ok_or(RecoverError::NoJournal)?;
    let mut recovered = Recovered { damage, is_torn: replayed.is_torn, ..Recovered::default() };
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
    plan.write(&database, &replayed, &Arc::new(found), now)?;
    drop(database);
    recovered.set_aside = rows::set_aside(&tree, &*disk)?.map(|path| path.display().to_string());
    rows::install(&tree, &*disk)?;
    if recovery.prune {
        for digest in unnamed {
            blobs.remove(digest)?;
        }
        blobs.sync_removals()?;
    }
    Ok(recovered)
}

/// A blob whose bytes are right.
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
            // One that cannot be read is as good as none; the others come back all the same.
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

/// What comes back.
struct Plan {
    manifests: Vec<JournaledManifest>,
    tags: Vec<(RepositoryName, Tag, Digest, Timestamp)>,
    /// Blobs that manifests name.
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
                lost(recovered, format!("{repository}:{tag}: its manifest {digest} does not come back"));
            }
        }
        recovered.repositories = repositories.len();
        recovered.manifests = plan.manifests.len();
        recovered.tags = plan.tags.len();
        recovered.blobs = linked.len();
        Ok(plan)
    }

    /// Writes the rows of all this.
    fn write(
        &self,
        database: &Database,
        replayed: &ReplayedJournal,
        found: &Arc<HashMap<Digest, Found>>,
        now: Moment,
    ) -> Result<(), RecoverError> {
        for step in self.manifests.chunks(STEP) {
            let mut rows = Vec::new();
            for listed in step {
                if let Some(manifest) = read(replayed, listed)? {
                    let bytes = replayed.bytes(listed)?.unwrap_or_default();
                    rows.push((listed.clone(), manifest, bytes));
                }
            }
            let found = Arc::clone(found);
            database.write(move |tx| {
                for (listed, manifest, bytes) in rows {
                    put(tx, &listed, &manifest, &bytes, &found, now)?;
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

/// Writes the rows of a manifest and of the blobs that come back with it.
fn put(
    tx: &mut WriteTx,
    listed: &JournaledManifest,
    manifest: &Manifest,
    bytes: &[u8],
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
    tx.recheck_manifest(repository, *digest, now)
}

/// A manifest of the journal, if it can be read.
fn read(replayed: &ReplayedJournal, listed: &JournaledManifest) -> Result<Option<Manifest>, RecoverError> {
    let media_type: Option<MediaType> = listed.media_type.parse().ok();
    let bytes = replayed.bytes(listed)?;
    Ok(bytes.and_then(|bytes| Manifest::read(&bytes, media_type.as_ref()).ok()))
}

/// The blobs without which a manifest is nothing.
fn needs(manifest: &Manifest) -> Vec<Digest> {
    manifest.blobs().to_vec()
}

/// Blobs that a manifest names and comes back without: layers of foreign types, and what an index lists that is no
/// manifest, as it could be pushed without them where sparse indexes are allowed.
fn listed_blobs(manifest: &Manifest) -> impl Iterator<Item = Digest> {
    let children = manifest.manifests().iter().filter(|child| !child.is_manifest).map(|child| child.digest);
    children.chain(manifest.optional_blobs().iter().copied())
}
