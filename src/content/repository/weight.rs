//! [`Weights`]: the sizes of images, within a limit of work for one request.
//!
//! Many tags may list the same manifests. Each manifest is read once, however many tags are weighed, and all tags of a
//! request share one budget. Otherwise a few large indexes behind many tags would make one request take minutes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::Error;
use crate::content::rows::Rows;
use crate::oci::{Digest, Manifest, MediaType, RepositoryName};

/// The blobs of larger manifests are not looked up for a list.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
/// The most manifests and blobs that are counted for one image.
const IMAGE_PARTS_MAX: usize = 4096;
/// The most manifests and blobs that are counted for one request.
const PARTS_MAX: usize = 64 * 1024;
/// The most bytes of manifests that are read for one request.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The kind and the size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) is_index: bool,
    /// The bytes of the manifest and of the blobs that it needs, for an index also those of its manifests. Each is counted
    /// once. Beyond the limits of this module only the manifests themselves are counted.
    pub(crate) size: u64,
}

/// The weights that one request has computed so far.
#[derive(Debug)]
pub(super) struct Weights {
    known: HashMap<Digest, Option<Weight>>,
    /// `None` if the repository has no such manifest.
    manifests: HashMap<Digest, Option<Rc<Listed>>>,
    blobs: HashMap<Digest, u64>,
    parts_left: usize,
    bytes_left: u64,
}

/// The parts of a manifest.
#[derive(Debug, Default)]
struct Listed {
    is_index: bool,
    size: u64,
    blobs: Vec<Digest>,
    manifests: Vec<Digest>,
}

impl Default for Weights {
    fn default() -> Self {
        let (known, manifests, blobs) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { known, manifests, blobs, parts_left: PARTS_MAX, bytes_left: BYTES_MAX }
    }
}

impl Weights {
    /// Returns the weight of a manifest, or `None` if the manifest is gone.
    pub(super) fn of(&mut self, tx: &Rows, name: &RepositoryName, digest: Digest) -> Result<Option<Weight>, Error> {
        if let Some(known) = self.known.get(&digest) {
            return Ok(*known);
        }
        let weight = self.weigh(tx, name, digest)?;
        self.known.insert(digest, weight);
        Ok(weight)
    }

    fn weigh(&mut self, tx: &Rows, name: &RepositoryName, digest: Digest) -> Result<Option<Weight>, Error> {
        let Some(image) = self.manifest(tx, name, digest)? else { return Ok(None) };
        let mut weight = Weight { is_index: image.is_index, size: 0 };
        let (mut waiting, mut counted) = (vec![digest], HashSet::from([digest]));
        while let Some(digest) = waiting.pop() {
            // An entry of an index may be a plain blob, or missing here.
            let Some(manifest) = self.manifest(tx, name, digest)? else {
                weight.size += self.blob(tx, name, digest)?;
                continue;
            };
            weight.size += manifest.size;
            let parts = manifest.blobs.len() + manifest.manifests.len();
            if counted.len() > IMAGE_PARTS_MAX || parts > self.parts_left {
                continue;
            }
            self.parts_left -= parts;
            for blob in manifest.blobs.iter().filter(|blob| counted.insert(**blob)) {
                weight.size += self.blob(tx, name, *blob)?;
            }
            waiting.extend(manifest.manifests.iter().filter(|child| counted.insert(**child)));
        }
        Ok(Some(weight))
    }

    /// Reads a manifest, if no image before has needed it. A manifest beyond a limit is listed without its parts.
    fn manifest(&mut self, tx: &Rows, name: &RepositoryName, digest: Digest) -> Result<Option<Rc<Listed>>, Error> {
        if let Some(known) = self.manifests.get(&digest) {
            return Ok(known.clone());
        }
        let mut found = None;
        if let Some(row) = tx.stored_manifest(name, digest)? {
            let media_type = row.media_type();
            let is_index = media_type.as_ref().is_some_and(MediaType::is_index);
            let mut listed = Listed { is_index, size: row.size, ..Listed::default() };
            if row.size <= MANIFEST_BYTES_MAX && row.size <= self.bytes_left {
                self.bytes_left -= row.size;
                let bytes = tx.manifest_bytes(name, digest)?.unwrap_or_default();
                let manifest = Manifest::read(&bytes, media_type.as_ref());
                let manifest =
                    manifest.map_err(|_| Error::Corrupt { what: "the manifest cannot be read any more", digest })?;
                listed.blobs = manifest.blobs().iter().chain(manifest.optional_blobs()).copied().collect();
                listed.manifests = manifest.manifests().iter().map(|child| child.digest).collect();
            }
            found = Some(Rc::new(listed));
        }
        self.manifests.insert(digest, found.clone());
        Ok(found)
    }

    /// Returns the size of a blob, or 0 if the repository has no such blob. Its size would tell that another repository
    /// has it.
    fn blob(&mut self, tx: &Rows, name: &RepositoryName, digest: Digest) -> Result<u64, Error> {
        if let Some(known) = self.blobs.get(&digest) {
            return Ok(*known);
        }
        let is_linked = tx.link(digest, name)?.is_some();
        let size = if is_linked { tx.blob(digest)?.map_or(0, |blob| blob.size) } else { 0 };
        self.blobs.insert(digest, size);
        Ok(size)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::Repository;
    use crate::content::repository::scene::{Scene, image, index, rules};

    /// Pushes images with large annotations, and indexes that each list all of them. Returns the indexes, and the bytes of
    /// all manifests.
    fn indexes(repository: &Repository, images: usize, count: usize) -> (Vec<Digest>, u64) {
        let config = repository.push_blob(b"{}");
        let mut bytes = 0;
        let mut push = |manifest: String| {
            bytes += manifest.len() as u64;
            repository.push_manifest(&manifest, &[]).unwrap()
        };
        let images: Vec<_> = (0..images).map(|n| push(image(&[config], None, &n.to_string().repeat(10_000)))).collect();
        let indexes = (0..count).map(|n| push(index(&images, &n.to_string()))).collect();
        (indexes, bytes)
    }

    #[test]
    fn a_manifest_that_many_tags_list_is_read_once() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let (indexes, bytes) = indexes(&repository, 8, 10);
        let mut weights = Weights::default();
        let sizes: Vec<_> = repository
            .stores
            .database
            .read(|tx| {
                let size = |digest| weights.of(tx, &repository.name, digest).unwrap().unwrap().size;
                Ok::<_, Error>(indexes.iter().copied().map(size).collect())
            })
            .unwrap();
        assert_eq!(BYTES_MAX - weights.bytes_left, bytes);
        // The configuration has two bytes.
        let own = index(&[indexes[0]; 8], "0").len() as u64;
        assert_eq!(sizes, vec![bytes - 9 * own + 2; 10]);
    }

    #[test]
    fn all_images_of_a_request_share_one_budget() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let (indexes, bytes) = indexes(&repository, 8, 10);
        let own = index(&[indexes[0]; 8], "0").len() as u64;
        for (parts_left, bytes_left) in [(20, BYTES_MAX), (PARTS_MAX, bytes / 2)] {
            let mut weights = Weights { parts_left, bytes_left, ..Weights::default() };
            repository
                .stores
                .database
                .read(|tx| {
                    for digest in &indexes {
                        let weight = weights.of(tx, &repository.name, *digest).unwrap().unwrap();
                        assert!(weight.is_index && weight.size >= own, "{weight:?}");
                    }
                    Ok::<_, Error>(())
                })
                .unwrap();
        }
        let mut weights = Weights { bytes_left: 0, ..Weights::default() };
        let size = repository.stores.database.read(|tx| weights.of(tx, &repository.name, indexes[0])).unwrap();
        assert_eq!(size.unwrap().size, own, "only the index itself is counted");
    }
}
