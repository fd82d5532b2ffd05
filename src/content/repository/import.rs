//! An OCI image layout becomes content of a repository.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Error, ManifestTarget, PutManifest, Repository};
use crate::kit::file::{FileParts, PathError};
use crate::oci::layout::{self, InvalidLayout};
use crate::oci::{Digest, InvalidManifest, Manifest, Tag};

/// Indexes may list indexes, but not without end.
const DEPTH_MAX: usize = 8;

/// Why a layout cannot be imported.
#[derive(Debug)]
pub(crate) enum ImportError {
    /// A file of the layout cannot be read.
    Io(PathError),
    /// The files are not a layout.
    Layout(InvalidLayout),
    /// A manifest of the layout is not one.
    Manifest { digest: Digest, invalid: InvalidManifest },
    /// Indexes within indexes, deeper than anybody needs.
    TooDeep,
    /// The repository did not take the content.
    Repository(Error),
}

impl From<Error> for ImportError {
    fn from(error: Error) -> Self {
        Self::Repository(error)
    }
}

impl std::fmt::Display for ImportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Layout(invalid) => invalid.fmt(f),
            Self::Manifest { digest, invalid } => write!(f, "{digest}: {invalid}"),
            Self::TooDeep => write!(f, "indexes are nested more than {DEPTH_MAX} deep"),
            Self::Repository(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {}

impl Repository {
    /// Brings in every manifest that the layout in `directory` names, with all it consists of.
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
