//! Import of an OCI image layout into a repository.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Error, ManifestTarget, PutManifest, Repository};
use crate::kit::file::{FileParts, PathError};
use crate::oci::layout::{self, InvalidLayout};
use crate::oci::{Digest, InvalidManifest, Manifest, Tag};

/// How deep indexes may be nested.
const DEPTH_MAX: usize = 8;

/// Why a layout cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// A file of the layout cannot be read.
    #[error(transparent)]
    Io(PathError),
    /// The files are not a layout.
    #[error(transparent)]
    Layout(InvalidLayout),
    #[error("{digest}: {invalid}")]
    Manifest { digest: Digest, invalid: InvalidManifest },
    #[error("indexes are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// The repository rejected the content.
    #[error(transparent)]
    Repository(#[from] Error),
}

impl Repository {
    /// Imports every manifest of the layout in `directory`, with its blobs.
    pub(crate) fn import(&self, directory: &Path) -> Result<(), ImportError> {
        let index = read(&directory.join("index.json"))?;
        for entry in layout::read_index(&index).map_err(ImportError::Layout)? {
            self.import_manifest(directory, entry.digest, entry.tag, DEPTH_MAX)?;
        }
        Ok(())
    }

    fn import_manifest(
        &self,
        directory: &Path,
        digest: Digest,
        tag: Option<Tag>,
        depth: usize,
    ) -> Result<(), ImportError> {
        let depth = depth.checked_sub(1).ok_or(ImportError::TooDeep)?;
        let bytes = read(&blob_path(directory, digest))?;
        let manifest = Manifest::read(&bytes, None).map_err(|invalid| ImportError::Manifest { digest, invalid })?;
        for blob in manifest.blobs() {
            self.import_blob(directory, *blob)?;
        }
        for layer in manifest.optional_blobs() {
            if blob_path(directory, *layer).exists() {
                self.import_blob(directory, *layer)?;
            }
        }
        for child in manifest.manifests() {
            if child.is_manifest {
                self.import_manifest(directory, child.digest, None, depth)?;
            } else {
                self.import_blob(directory, child.digest)?;
            }
        }
        let target = ManifestTarget::Digest { digest, tags: tag.into_iter().collect() };
        let bytes = bytes.into();
        let put = PutManifest { target, content_type: None, bytes, expected: None, may_create: true, may_move: true };
        self.put_manifest(put)?;
        Ok(())
    }

    fn import_blob(&self, directory: &Path, digest: Digest) -> Result<(), ImportError> {
        if self.stores.database.read(|tx| tx.link(digest, &self.name)).map_err(Error::from)?.is_some() {
            return Ok(());
        }
        let path = blob_path(directory, digest);
        let io = |source| ImportError::Io(PathError::at("read", &path)(source));
        let file = fs::File::open(&path).map_err(io)?;
        let mut upload = self.open_upload(digest.algorithm())?;
        let mut parts = FileParts::all(&file);
        while let Some((_, part)) = parts.next().map_err(io)? {
            upload.append(&[Bytes::copy_from_slice(part)])?;
        }
        let verified = upload.verify(digest);
        if let Err(error) = verified {
            upload.cancel()?;
            return Err(error.into());
        }
        Ok(upload.finish(digest)?)
    }
}

fn blob_path(directory: &Path, digest: Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    fs::read(path).map_err(|source| ImportError::Io(PathError::at("read", path)(source)))
}
