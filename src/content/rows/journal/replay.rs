//! What a journal says that was there at its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;

use super::format::{self, HEADER_BYTES, Reader, Record};
use crate::content::blobs::Tree;
use crate::content::rows::Error;
use crate::kit::clock::Timestamp;
use crate::kit::file::if_exists;
use crate::oci::{Digest, RepositoryName, Tag};

/// The content by a journal. Manifests themselves are read when they are wanted.
#[derive(Debug)]
pub(crate) struct ReplayedJournal {
    file: File,
    path: PathBuf,
    pub(crate) manifests: Vec<JournaledManifest>,
    pub(crate) tags: Vec<(RepositoryName, Tag, Digest, Timestamp)>,
    /// Whether the last records are missing, or not whole.
    pub(crate) is_torn: bool,
}

/// A manifest that was there.
#[derive(Clone, Debug)]
pub(crate) struct JournaledManifest {
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) created: Timestamp,
    offset: u64,
}

/// Of each thing the last number that anything is known by, and what it was by that; nothing if it was gone.
type Known<K, V> = BTreeMap<K, (u64, Option<V>)>;

impl ReplayedJournal {
    /// Reads the journal of a data directory; nothing if there is none.
    pub(crate) fn read(tree: &Tree) -> Result<Option<Self>, Error> {
        let path = tree.journal();
        let Some(file) = if_exists(File::open(&path)).map_err(Error::at(&path))? else { return Ok(None) };
        if format::read_header(&file).is_none() {
            return Ok(None);
        }
        let mut reader =
            Reader::new(file.try_clone().map_err(Error::at(&path))?, HEADER_BYTES).map_err(Error::at(&path))?;
        let (mut manifests, mut tags) = (Known::new(), Known::new());
        let mut has_end = false;
        while let Some(frame) = reader.next().map_err(Error::at(&path))? {
            has_end = matches!(frame.record, Record::End);
            match frame.record {
                Record::Manifest { repository, digest, media_type, created, .. } => {
                    let known = Some((media_type, created, frame.offset));
                    put(&mut manifests, (repository, digest), frame.number, known);
                }
                Record::ManifestGone { repository, digest } => {
                    put(&mut manifests, (repository, digest), frame.number, None);
                }
                Record::Tag { repository, tag, digest, moved } => {
                    put(&mut tags, (repository, tag), frame.number, Some((digest, moved)));
                }
                Record::TagGone { repository, tag } => put(&mut tags, (repository, tag), frame.number, None),
                Record::End => {}
            }
        }
        let is_torn = !has_end || !reader.is_at_end();
        let manifests = manifests.into_iter().filter_map(|((repository, digest), (_, known))| {
            let (media_type, created, offset) = known?;
            let (repository, digest) = (repository.parse().ok()?, Digest::from_key(&digest)?);
            Some(JournaledManifest { repository, digest, media_type, created, offset })
        });
        let mut manifests: Vec<_> = manifests.collect();
        manifests.sort_by_key(|manifest| manifest.created);
        let tags = tags.into_iter().filter_map(|((repository, tag), (_, known))| {
            let (digest, moved) = known?;
            Some((repository.parse().ok()?, tag.parse().ok()?, Digest::from_key(&digest)?, moved))
        });
        Ok(Some(Self { tags: tags.collect(), file, path, manifests, is_torn }))
    }

    /// The bytes of a manifest, if they are those of its digest.
    pub(crate) fn bytes(&self, manifest: &JournaledManifest) -> Result<Option<Bytes>, Error> {
        let file = self.file.try_clone().map_err(Error::at(&self.path))?;
        let mut reader = Reader::new(file, manifest.offset).map_err(Error::at(&self.path))?;
        Ok(match reader.next().map_err(Error::at(&self.path))?.map(|frame| frame.record) {
            Some(Record::Manifest { bytes, .. }) => {
                let is_whole = Digest::of(manifest.digest.algorithm(), &bytes) == manifest.digest;
                is_whole.then(|| Bytes::from(bytes))
            }
            _ => None,
        })
    }
}

/// The later of two records about the same thing counts, wherever they stand.
fn put<K: Ord, V>(known: &mut Known<K, V>, key: K, number: u64, value: Option<V>) {
    match known.get(&key) {
        Some((before, _)) if *before > number => {}
        _ => drop(known.insert(key, (number, value))),
    }
}
