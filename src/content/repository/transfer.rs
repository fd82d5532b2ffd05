//! Content that goes in and out as files, for imports and exports.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::lease::Purpose;
use super::{Error, Repository, Stores};
use crate::content::blobs::{Arrival, FilePart, TransferMode, TransferOutcome};
use crate::content::rows::{self, FileRow, Unreferenced};
use crate::oci::{Algorithm, Digest, Tag};

/// Blobs of an inventory that are read at once.
const INVENTORY_STEP: usize = 1000;

/// The result of [`Repository::import_blobs`].
#[derive(Debug, Default)]
pub(crate) struct ImportedBlobs {
    /// Blobs that are new in the registry, with their size, and how their bytes came.
    pub(crate) new: Vec<(TransferOutcome, u64)>,
    /// Blobs that neither the registry nor the source has.
    pub(crate) missing: Vec<Digest>,
    /// Blobs whose bytes have another digest.
    pub(crate) damaged: Vec<Digest>,
}

impl Repository {
    /// Makes the repository have these blobs, in one transaction, or changes nothing if one is missing or damaged. A blob
    /// that another repository has is linked. The bytes of any other are taken from its file, and hashed. Calls `read`
    /// with the number of bytes of each part. A manifest that needs the blobs must follow within the delay of garbage
    /// collection.
    pub(crate) fn import_blobs(
        &self,
        wanted: &BTreeMap<Digest, Option<FilePart>>,
        mode: TransferMode,
        read: &dyn Fn(u64),
    ) -> Result<ImportedBlobs, Error> {
        loop {
            if let Some(imported) = self.try_import_blobs(wanted, mode, read)? {
                return Ok(imported);
            }
        }
    }

    /// Returns `None` if a blob of another repository was removed meanwhile.
    fn try_import_blobs(
        &self,
        wanted: &BTreeMap<Digest, Option<FilePart>>,
        mode: TransferMode,
        read: &dyn Fn(u64),
    ) -> Result<Option<ImportedBlobs>, Error> {
        let blobs = &self.stores.blobs;
        let lacking = self.lacking(wanted.keys())?;
        let mut absent = Vec::new();
        for digest in &lacking {
            if self.stores.whole_size(*digest)?.is_none() {
                absent.push(*digest);
            }
        }
        // In the order of the map, so that two imports never wait for each other. Clients wait for none of them. Blobs that
        // are only linked are not locked, so that images with the same layers share a transaction.
        let _alone: Vec<_> = absent.iter().map(|digest| blobs.lock_arrival(*digest)).collect();
        let (mut imported, mut parts, mut arrived) = (ImportedBlobs::default(), Vec::new(), BTreeMap::new());
        for digest in absent {
            // Another import may have stored it meanwhile.
            if self.stores.whole_size(digest)?.is_none() {
                match wanted.get(&digest).and_then(Option::as_ref) {
                    Some(part) => parts.push((digest, part)),
                    None => imported.missing.push(digest),
                }
            }
        }
        if !imported.missing.is_empty() {
            return Ok(Some(imported));
        }
        for (digest, part) in parts {
            self.stores.check_space()?;
            match blobs.receive(part, digest, mode, read)? {
                Some(arrival) => drop(arrived.insert(digest, arrival)),
                None => imported.damaged.push(digest),
            }
        }
        if !imported.damaged.is_empty() {
            return Ok(Some(imported));
        }
        self.publish(&lacking, arrived)
    }

    /// Links blobs, some of which have arrived as temporary files. Returns `None` if one of the others was removed.
    fn publish(
        &self,
        lacking: &[Digest],
        mut arrived: BTreeMap<Digest, Arrival<'_>>,
    ) -> Result<Option<ImportedBlobs>, Error> {
        let (blobs, database) = (&self.stores.blobs, &self.stores.database);
        let (mut imported, mut links, mut named) = (ImportedBlobs::default(), Vec::new(), Vec::new());
        if lacking.is_empty() {
            return Ok(Some(imported));
        }
        let now = self.stores.ages.now();
        // Sorted, as everywhere where several are locked. The transaction checks the others.
        let _busy: Vec<_> = arrived.keys().map(|digest| blobs.lock(*digest)).collect();
        for digest in lacking {
            let arrival = arrived.remove(digest);
            // A client may have pushed it meanwhile.
            match (self.stores.whole_size(*digest)?, arrival) {
                (Some(size), _) => links.push((*digest, size, None)),
                (None, Some(arrival)) => {
                    let file = FileRow { modified: arrival.modified, checked: now.wall };
                    links.push((*digest, arrival.size, Some(file)));
                    imported.new.push((arrival.outcome, arrival.size));
                    named.push((*digest, arrival));
                }
                (None, None) => return Ok(None),
            }
        }
        let added: Vec<Digest> = named.iter().map(|(digest, _)| *digest).collect();
        let algorithms: BTreeSet<Algorithm> = added.iter().map(Digest::algorithm).collect();
        for digest in lacking {
            let _ = self.take_lease(Unreferenced::Link, *digest, Purpose::Push);
        }
        let name = self.name.clone();
        let linked = named
            .into_iter()
            .try_for_each(|(_, arrival)| arrival.name())
            .and_then(|()| blobs.sync_directories_of(algorithms))
            .map_err(Error::from)
            .and_then(|()| {
                database.write(move |tx| {
                    for (digest, _, file) in &links {
                        let is_gone = || Ok::<_, Error>(tx.damage(*digest)?.is_some() || tx.blob(*digest)?.is_none());
                        if file.is_none() && is_gone()? {
                            return Ok(false);
                        }
                    }
                    for (digest, size, file) in &links {
                        tx.remove_mirror_use(&name, *digest)?;
                        tx.put_link(&name, *digest, *size, now)?;
                        if let Some(file) = file {
                            tx.set_file(*digest, file)?;
                        }
                    }
                    Ok::<_, Error>(true)
                })
            });
        if !matches!(linked, Ok(true)) {
            // After a failure the row decides. This thread has the locks.
            for digest in added {
                if matches!(database.read(|tx| tx.blob(digest)), Ok::<_, rows::Error>(None)) {
                    let _ = blobs.remove(digest);
                }
            }
        }
        Ok(linked?.then_some(imported))
    }

    /// The blobs among these that the repository does not have, or that are damaged. In the same order.
    pub(crate) fn lacking<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<Vec<Digest>, Error> {
        self.stores.database.read(|tx| {
            let mut lacking = Vec::new();
            for digest in digests {
                if tx.link(*digest, &self.name)?.is_none() || tx.damage(*digest)?.is_some() {
                    lacking.push(*digest);
                }
            }
            Ok(lacking)
        })
    }

    /// Whether the repository has a manifest that was pushed or imported, and not mirrored.
    pub(crate) fn has_imported(&self, digest: Digest) -> Result<bool, Error> {
        self.stores
            .database
            .read(|tx| Ok(tx.manifest(&self.name, digest)?.is_some() && tx.mirrored(&self.name, digest)?.is_none()))
    }

    /// The manifest that a tag points at.
    pub(crate) fn tag_target(&self, tag: &Tag) -> Result<Option<Digest>, Error> {
        Ok(self.stores.database.read(|tx| tx.tag(&self.name, tag))?.map(|row| row.digest))
    }

    /// The bytes of a manifest. `None` if the repository does not have it.
    pub(crate) fn manifest_bytes(&self, digest: Digest) -> Result<Option<Bytes>, Error> {
        self.stores.database.read(|tx| {
            let is_here = tx.manifest(&self.name, digest)?.is_some();
            Ok(if is_here { tx.manifest_bytes(&self.name, digest)? } else { None })
        })
    }

    /// The digests of all manifests, except deleted ones.
    pub(crate) fn manifest_digests(&self) -> Result<Vec<Digest>, Error> {
        let mut found = Vec::new();
        self.stores.database.read(|tx| {
            tx.each_manifest(&self.name, None, |digest| {
                found.push(digest);
                ControlFlow::Continue(())
            })
        })?;
        Ok(found)
    }

    /// The size of a blob of the repository. `None` if it is missing or damaged.
    pub(crate) fn linked_size(&self, digest: Digest) -> Result<Option<u64>, Error> {
        let is_linked = self.stores.database.read(|tx| tx.link(digest, &self.name))?.is_some();
        if is_linked { self.stores.blob_size(digest) } else { Ok(None) }
    }
}

impl Stores {
    /// A directory for temporary files, on the disk of the blobs.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.blobs.tree().uploads()
    }

    /// Keeps the files of removed blobs until the guard is dropped.
    pub(crate) fn keep_files(&self) -> impl Drop + '_ {
        self.files.read()
    }

    /// The size of a blob that a row names, that is not damaged, and whose file has that size.
    fn whole_size(&self, digest: Digest) -> Result<Option<u64>, Error> {
        let Some(size) = self.blob_size(digest)? else { return Ok(None) };
        Ok(self.blobs.get(digest)?.filter(|blob| blob.size == size).map(|blob| blob.size))
    }

    /// Whether a path is in the data directory.
    pub(crate) fn is_inside(&self, path: &Path) -> std::io::Result<bool> {
        self.blobs.contains(path)
    }

    /// The file of a blob.
    pub(crate) fn blob_part(&self, digest: Digest) -> Result<Option<FilePart>, Error> {
        Ok(self.blobs.part(digest)?)
    }

    /// The digests of all blobs, for an export elsewhere that leaves them out.
    pub(crate) fn inventory(&self) -> Result<Vec<Digest>, Error> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.database.read(|tx| tx.blobs(after, INVENTORY_STEP))?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after = Some(*last);
            found.extend(page.iter().map(|(digest, _)| *digest));
        }
    }

    /// The size of a blob that any repository has, and that is not damaged.
    pub(crate) fn blob_size(&self, digest: Digest) -> Result<Option<u64>, Error> {
        self.database.read(|tx| {
            if tx.damage(digest)?.is_some() {
                return Ok(None);
            }
            Ok(tx.blob(digest)?.map(|row| row.size))
        })
    }
}
