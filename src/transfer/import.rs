//! [`Import`]: stores the content of a source.
//!
//! Several threads work on manifests, so that they share transactions and syncs. An import that was interrupted is
//! repeated: what is stored already costs a few reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::source::{Item, Root};
use super::{DEPTH_MAX, MANIFEST_BYTES_MAX, Ongoing, Problem, Source, SourceError};
use crate::content::blobs::{FilePart, TransferMode, TransferOutcome};
use crate::content::repository::{Error, Expected, ManifestTarget, PutManifest, Repository, Stores};
use crate::oci::{Digest, Manifest, RepositoryName, Tag};

/// The threads that store manifests. Most of their time they wait for the disk.
const WORKERS: usize = 16;
/// Manifests that wait for a thread.
const WAITING_MAX: usize = 64;
/// Problems and kept tags that are named.
const NAMED_MAX: usize = 1000;

/// The local names of the content of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naming {
    /// Precedes the names in the source.
    pub(crate) prefix: Option<RepositoryName>,
    /// Replaces the names in the source.
    pub(crate) repository: Option<RepositoryName>,
}

impl Naming {
    fn local(&self, root: &Root) -> Result<RepositoryName, String> {
        if let Some(repository) = &self.repository {
            return Ok(repository.clone());
        }
        let Some(name) = &root.repository else {
            return Err("the source does not name its repository: choose one with --as".to_owned());
        };
        let full = self.prefix.as_ref().map_or_else(|| name.clone(), |prefix| format!("{prefix}/{name}"));
        full.parse().map_err(|error| format!("{error}"))
    }
}

/// How a source is imported.
#[derive(Debug)]
pub(crate) struct Import<'a> {
    pub(crate) stores: &'a Arc<Stores>,
    pub(crate) naming: Naming,
    pub(crate) mode: TransferMode,
    /// Whether tags that point at other manifests here are moved.
    pub(crate) overwrite: bool,
    /// Whether an index may list manifests that neither the source nor the repository has. In the store of a registry it
    /// always may: clients can delete them.
    pub(crate) sparse: bool,
    /// Whether nothing is stored.
    pub(crate) dry_run: bool,
    /// Shows other threads how far it is.
    pub(crate) ongoing: &'a Ongoing,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Imported {
    pub(crate) dry_run: bool,
    pub(crate) repositories: u64,
    /// Manifests that are new here, and those that were here already.
    pub(crate) manifests: u64,
    pub(crate) known_manifests: u64,
    /// Tags that were set, and those that pointed at the same manifest already.
    pub(crate) tags: u64,
    pub(crate) known_tags: u64,
    /// Blobs that are new here.
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    /// The bytes among them that share the disk with the source.
    pub(crate) linked_bytes: u64,
    /// API keys that are new here, those that were here already, and those that had expired.
    pub(crate) keys: u64,
    pub(crate) known_keys: u64,
    pub(crate) expired_keys: u64,
    /// Stars and bookmarks that are new here.
    pub(crate) preferences: u64,
    /// The number of tags that point at another manifest here and were not moved, and the first of them.
    pub(crate) kept: u64,
    pub(crate) kept_tags: Vec<String>,
    /// The number of problems, and the first of them.
    pub(crate) skipped: u64,
    pub(crate) problems: Vec<Problem>,
    /// Why it was stopped before the end.
    pub(crate) stopped: Option<String>,
    /// Content that may be missing although nothing failed, and the next steps after failures.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    pub(crate) seconds: f64,
}

/// The state that the threads share.
#[derive(Default)]
struct Progress {
    imported: Imported,
    names: HashSet<RepositoryName>,
    /// The manifests that were refused.
    refused: HashMap<(RepositoryName, Digest), Refused>,
    /// The problems of manifests without a tag. They are reported last, if no tag needs the manifest, so that the report
    /// does not depend on the order of the threads.
    untagged: Vec<((RepositoryName, Digest), Problem)>,
    /// The blobs that a dry run has counted.
    counted: HashSet<Digest>,
    /// The manifests that were counted: hashes of repository and digest, since there may be millions.
    counted_manifests: HashSet<u64>,
    hashing: RandomState,
}

/// A manifest that was refused.
struct Refused {
    why: String,
    /// Whether a tag needs it. The tag is reported in its place.
    is_tagged: bool,
}

/// Why a manifest is not stored.
struct Refusal {
    why: String,
    /// Whether everything else would be refused, too.
    is_final: bool,
}

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_final: false }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { is_final: error.is_no_space(), ..Self::new(error.to_string()) }
    }
}

impl Import<'_> {
    /// Imports a source. `pause` is called between two manifests, and may stop the import. Blocks.
    pub(crate) fn run(
        &self,
        source: &Source,
        pause: &dyn Fn(Duration) -> ControlFlow<()>,
    ) -> Result<Imported, SourceError> {
        let began = Instant::now();
        let progress = Mutex::new(Progress::default());
        let stopped = AtomicBool::new(false);
        let (roots, waiting) = sync_channel::<Root>(WAITING_MAX);
        // Only the threads hold it, so that sending fails if all of them have panicked.
        let waiting = Arc::new(Mutex::new(waiting));
        let (shared_progress, shared_stop) = (&progress, &stopped);
        let sparse = self.sparse || source.is_store();
        let listed = std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                let waiting = Arc::clone(&waiting);
                scope.spawn(move || self.work(&waiting, shared_progress, shared_stop, sparse));
            }
            drop(waiting);
            let mut step = Instant::now();
            let listed = source.each(&mut |item| {
                match item {
                    // It fails only after panics, which the end of the scope passes on.
                    Item::Root(root) => drop(roots.send(root)),
                    Item::Problem(problem) => progress.lock().report(problem),
                }
                let next = pause(step.elapsed());
                step = Instant::now();
                if next.is_break() && !stopped.swap(true, Ordering::Relaxed) {
                    progress.lock().stop("the registry was stopped");
                }
                if stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { next }
            });
            drop(roots);
            listed
        });
        listed?;
        let Progress { mut imported, names, refused, untagged, .. } = progress.into_inner();
        for (manifest, problem) in untagged {
            if refused.get(&manifest).is_none_or(|refused| !refused.is_tagged) {
                imported.report(problem);
            }
        }
        imported.problems.sort_unstable();
        imported.kept_tags.sort_unstable();
        Ok(Imported {
            dry_run: self.dry_run,
            repositories: names.len() as u64,
            seconds: began.elapsed().as_secs_f64(),
            ..imported
        })
    }

    fn work(&self, waiting: &Mutex<Receiver<Root>>, progress: &Mutex<Progress>, stopped: &AtomicBool, sparse: bool) {
        loop {
            let next = waiting.lock().recv();
            let Ok(root) = next else { break };
            if stopped.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(why) = self.root(&root, progress, sparse) {
                stopped.store(true, Ordering::Relaxed);
                progress.lock().stop(&why);
            }
            self.ongoing.note(&progress.lock().imported, &root);
        }
    }

    /// Stores a manifest and its tag, or reports why not. Fails if the import must end.
    fn root(&self, root: &Root, progress: &Mutex<Progress>, sparse: bool) -> Result<(), String> {
        let refuse = |why: String| progress.lock().report(Problem::new(root, why));
        let name = match self.naming.local(root) {
            Ok(name) => name,
            Err(why) => {
                refuse(why);
                return Ok(());
            }
        };
        let tag = match root.tag.as_deref().map(str::parse::<Tag>).transpose() {
            Ok(tag) => tag,
            // The manifest can be pulled by its digest.
            Err(error) => {
                refuse(error.to_string());
                None
            }
        };
        let repository = self.stores.repository(&name);
        let images = Images { import: self, root, repository: &repository, name: &name, progress, sparse };
        match images.store(root.digest, DEPTH_MAX, tag.as_ref()) {
            Ok(()) => drop(progress.lock().names.insert(name.clone())),
            Err(Refusal { is_final: true, why, .. }) => return Err(why),
            Err(Refusal { why, .. }) if root.tag.is_none() => {
                progress.lock().untagged.push(((name, root.digest), Problem::new(root, why)));
            }
            Err(Refusal { why, .. }) => refuse(why),
        }
        Ok(())
    }
}

/// The manifests of one repository of a source.
struct Images<'a> {
    import: &'a Import<'a>,
    root: &'a Root,
    repository: &'a Repository,
    name: &'a RepositoryName,
    progress: &'a Mutex<Progress>,
    /// Whether manifests that an index lists may be missing.
    sparse: bool,
}

impl Images<'_> {
    /// Stores a manifest with everything that it needs, and sets its tag. Reports why it cannot.
    fn store(&self, digest: Digest, depth: usize, tag: Option<&Tag>) -> Result<(), Refusal> {
        let key = (self.name.clone(), digest);
        let refused = self.progress.lock().refused.get(&key).map(|refused| refused.why.clone());
        let stored = match refused {
            Some(why) => Err(Refusal::new(why)),
            None => self.complete(digest, depth).and_then(|bytes| self.put(digest, &bytes, tag)),
        };
        stored.inspect_err(|refusal| {
            let mut progress = self.progress.lock();
            let first = || Refused { why: refusal.why.clone(), is_tagged: false };
            progress.refused.entry(key).or_insert_with(first).is_tagged |= self.root.tag.is_some();
        })
    }

    /// Stores everything that a manifest needs. Returns the bytes of the manifest.
    fn complete(&self, digest: Digest, depth: usize) -> Result<Vec<u8>, Refusal> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Refusal::new(format!("indexes are nested more than {DEPTH_MAX} deep")));
        };
        let bytes = self.read(digest)?;
        let manifest =
            Manifest::read_pushed(&bytes, None).map_err(|error| Refusal::new(format!("{digest}: {error}")))?;
        let mut blobs = BTreeMap::new();
        for blob in self.repository.lacking(manifest.blobs())? {
            blobs.insert(blob, self.part(blob)?);
        }
        for layer in self.repository.lacking(manifest.optional_blobs())? {
            if let Some(part) = self.part(layer)? {
                blobs.insert(layer, Some(part));
            }
        }
        for child in manifest.manifests() {
            let part = self.part(child.digest)?;
            if part.is_none() && (self.sparse || self.repository.has_imported(child.digest)?) {
                continue;
            }
            if child.is_manifest {
                self.store(child.digest, depth, None)?;
            } else {
                blobs.insert(child.digest, part);
            }
        }
        if self.import.dry_run {
            self.count(&blobs)?;
            return Ok(bytes);
        }
        let read = |count| self.import.ongoing.note_read(count);
        let imported = self.repository.import_blobs(&blobs, self.import.mode, &read)?;
        self.progress.lock().imported.add(&imported.new);
        if let Some(blob) = imported.damaged.first() {
            return Err(Refusal::new(format!("the blob {blob} is damaged")));
        }
        if let Some(blob) = imported.missing.first() {
            return Err(Refusal::new(format!("the blob {blob} is missing")));
        }
        Ok(bytes)
    }

    /// Counts the blobs that would be stored. Fails before it counts any if one is missing.
    fn count(&self, blobs: &BTreeMap<Digest, Option<FilePart>>) -> Result<(), Refusal> {
        let mut new = Vec::new();
        for (blob, part) in blobs {
            match (part, self.import.stores.blob_size(*blob)?) {
                (None, None) => return Err(Refusal::new(format!("the blob {blob} is missing"))),
                (Some(part), None) => new.push((*blob, part.size())),
                (_, Some(_)) => {}
            }
        }
        let mut progress = self.progress.lock();
        for (blob, size) in new {
            if progress.counted.insert(blob) {
                progress.imported.add(&[(TransferOutcome::Copied, size)]);
            }
        }
        Ok(())
    }

    /// Stores a manifest whose parts are here. Sets its tag in the same transaction, unless the tag points at another
    /// manifest here.
    fn put(&self, digest: Digest, bytes: &[u8], tag: Option<&Tag>) -> Result<(), Refusal> {
        let is_known = self.repository.has_imported(digest)?;
        let tag = match tag {
            Some(tag) => self.wanted(tag, digest)?,
            None => None,
        };
        // It is counted before it is stored, so that another thread never finds it stored and not counted.
        let is_counted = self.progress.lock().note_manifest(self.name, digest, is_known);
        let mut is_set = tag.is_some();
        if !self.import.dry_run && (!is_known || is_set) {
            let mut stored = self.put_once(digest, bytes, tag);
            if let (Err(Error::TagMoved { .. }), Some(tag)) = (&stored, tag) {
                // A client or another entry of the source has set it meanwhile.
                self.progress.lock().keep(format!("{}:{tag}", self.name));
                is_set = false;
                stored = if is_known { Ok(()) } else { self.put_once(digest, bytes, None) };
            }
            stored.inspect_err(|_| {
                if is_counted && !is_known {
                    self.progress.lock().imported.manifests -= 1;
                }
            })?;
        }
        self.progress.lock().imported.tags += u64::from(is_set);
        Ok(())
    }

    /// The tag, if it must be set. Counts it otherwise.
    fn wanted<'t>(&self, tag: &'t Tag, digest: Digest) -> Result<Option<&'t Tag>, Error> {
        let held = self.repository.tag_target(tag)?;
        if held == Some(digest) {
            self.progress.lock().imported.known_tags += 1;
            return Ok(None);
        }
        if held.is_some() && !self.import.overwrite {
            self.progress.lock().keep(format!("{}:{tag}", self.name));
            return Ok(None);
        }
        Ok(Some(tag))
    }

    fn put_once(&self, digest: Digest, bytes: &[u8], tag: Option<&Tag>) -> Result<(), Error> {
        let expected = (tag.is_some() && !self.import.overwrite).then_some(Expected::Absent);
        let target = ManifestTarget::Digest { digest, tags: tag.cloned().into_iter().collect() };
        let put = PutManifest { sparse: self.sparse, expected, ..PutManifest::new(target, bytes.to_vec().into()) };
        self.repository.put_manifest(put).map(drop)
    }

    /// Reads a manifest, from the source or from here, and verifies it.
    fn read(&self, digest: Digest) -> Result<Vec<u8>, Refusal> {
        let refuse = |why: &str| Refusal::new(format!("the manifest {digest} {why}"));
        let Some(part) = self.part(digest)? else {
            let held = self.repository.manifest_bytes(digest)?;
            return held.map(Vec::from).ok_or_else(|| refuse("is missing"));
        };
        let bytes = part.read(MANIFEST_BYTES_MAX).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
        let bytes = bytes.ok_or_else(|| refuse("has more than 4 MiB"))?;
        if Digest::of(digest.algorithm(), &bytes) != digest {
            return Err(refuse(if bytes.is_empty() { "is empty" } else { "is damaged" }));
        }
        Ok(bytes)
    }

    fn part(&self, digest: Digest) -> Result<Option<FilePart>, Refusal> {
        let part = self.root.content.part(digest);
        part.map_err(|error| Refusal::new(format!("{digest} cannot be read: {error}")))
    }
}

impl Progress {
    /// Notes why the import ends. The first reason is reported.
    fn stop(&mut self, why: &str) {
        self.imported.stopped.get_or_insert_with(|| why.to_owned());
    }

    /// Counts a tag that was not moved.
    fn keep(&mut self, tag: String) {
        self.imported.kept += 1;
        if self.imported.kept_tags.len() < NAMED_MAX {
            self.imported.kept_tags.push(tag);
        }
    }

    fn report(&mut self, problem: Problem) {
        self.imported.report(problem);
    }

    /// Counts a manifest once, although several indexes and tags may name it. Returns whether it was counted now.
    fn note_manifest(&mut self, name: &RepositoryName, digest: Digest, is_known: bool) -> bool {
        let is_first = self.counted_manifests.insert(self.hashing.hash_one((name, digest)));
        if is_first {
            let imported = &mut self.imported;
            *(if is_known { &mut imported.known_manifests } else { &mut imported.manifests }) += 1;
        }
        is_first
    }
}

impl Imported {
    /// Whether everything in the source is here now.
    pub(crate) const fn is_complete(&self) -> bool {
        self.skipped == 0 && self.kept == 0 && self.stopped.is_none()
    }

    /// Whether anything of the source is here.
    pub(crate) const fn has_any(&self) -> bool {
        self.tags + self.manifests + self.blobs + self.known_tags + self.known_manifests + self.keys > 0
    }

    /// Counts something that was skipped.
    pub(crate) fn report(&mut self, problem: Problem) {
        self.skipped += 1;
        if self.problems.len() < NAMED_MAX {
            self.problems.push(problem);
        }
    }

    fn add(&mut self, new: &[(TransferOutcome, u64)]) {
        for (outcome, size) in new {
            self.blobs += 1;
            self.bytes += size;
            if matches!(outcome, TransferOutcome::Linked | TransferOutcome::Shared) {
                self.linked_bytes += size;
            }
        }
    }
}
