//! [`ReplayedJournal`]: the content at the end of a journal.

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

/// The content at the end of a journal. The bytes of a manifest are read on demand.
#[derive(Debug)]
pub(crate) struct ReplayedJournal {
    file: File,
    path: PathBuf,
    pub(crate) manifests: Vec<JournaledManifest>,
    pub(crate) tags: Vec<(RepositoryName, Tag, Digest, Timestamp)>,
    /// Whether the last records are missing or incomplete.
    pub(crate) is_torn: bool,
    /// Damaged places before intact records. They may have had records of any kind.
    pub(crate) damaged_places: usize,
}

/// A manifest in the journal.
#[derive(Clone, Debug)]
pub(crate) struct JournaledManifest {
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) created: Timestamp,
    offset: u64,
}

/// The newest record of each object: its number and its content, or `None` if the object was removed.
type Known<K, V> = BTreeMap<K, (u64, Option<V>)>;

impl ReplayedJournal {
    /// Reads the journal of a data directory. Returns `None` if it has none.
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
        while let Some(frame) = reader.next_intact().map_err(Error::at(&path))? {
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
        let (is_torn, damaged_places) = (!has_end || !reader.is_at_end(), reader.damaged_places());
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
        Ok(Some(Self { tags: tags.collect(), file, path, manifests, is_torn, damaged_places }))
    }

    /// Reads the bytes of a manifest. Returns `None` if they do not match its digest.
    pub(crate) fn bytes(&self, manifest: &JournaledManifest) -> Result<Option<Bytes>, Error> {
        let file = self.file.try_clone().map_err(Error::at(&self.path))?;
        let mut reader = Reader::new(file, manifest.offset).map_err(Error::at(&self.path))?;
        Ok(match reader.next().map_err(Error::at(&self.path))?.map(|frame| frame.record) {
            Some(Record::Manifest { bytes, .. }) => {
                let is_intact = Digest::of(manifest.digest.algorithm(), &bytes) == manifest.digest;
                is_intact.then(|| Bytes::from(bytes))
            }
            _ => None,
        })
    }
}

/// Keeps the record with the higher number, because a rewrite mixes older records with newer ones.
fn put<K: Ord, V>(known: &mut Known<K, V>, key: K, number: u64, value: Option<V>) {
    match known.get(&key) {
        Some((before, _)) if *before > number => {}
        _ => drop(known.insert(key, (number, value))),
    }
}
