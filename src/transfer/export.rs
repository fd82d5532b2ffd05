//! [`Export`]: writes images to a layout or an archive.
//!
//! The same content gives the same bytes: entries are sorted, and nothing depends on the time. Blobs that the other side has
//! can be left out. Manifests are never left out.

mod plan;
mod selection;
mod writer;

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Ongoing, Scratch, Source, SourceError};
use crate::content::repository::{Error, Stores};
use crate::kit::file::PathError;
use crate::oci::{Digest, RepositoryName};
use plan::Plan;
pub(crate) use selection::Selection;
use writer::Writer;

/// The most bytes of a list of digests. Fourteen million fit.
const LIST_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A choice of images, and of the blobs to leave out.
#[derive(Debug)]
pub(crate) struct Export<'a> {
    pub(crate) stores: &'a Arc<Stores>,
    /// Empty for everything.
    pub(crate) selections: &'a [Selection],
    /// The blobs that are left out.
    pub(crate) have: Have,
    /// Whether signatures and other referrers are included.
    pub(crate) referrers: bool,
    /// Shows other threads how far it is.
    pub(crate) ongoing: &'a Ongoing,
}

/// Digests of blobs that the other side has.
#[derive(Debug, Default)]
pub(crate) struct Have(HashSet<Digest>);

/// The result of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exported {
    pub(crate) repositories: u64,
    pub(crate) tags: u64,
    pub(crate) manifests: u64,
    pub(crate) blobs: u64,
    /// The bytes of manifests and blobs that were written.
    pub(crate) bytes: u64,
    /// The blobs that were left out, because the other side has them.
    pub(crate) omitted: u64,
    pub(crate) omitted_bytes: u64,
    /// The number of indexes that list manifests which are not here.
    pub(crate) sparse: u64,
}

/// Why an export failed. There is no output then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("there is nothing to export that matches {selection}")]
    Nothing { selection: String },
    #[error("the registry is empty: there is nothing to export")]
    Empty,
    #[error("{name}@{manifest} is not complete here: the blob {blob} is missing. Pull or push the image first")]
    Incomplete { name: RepositoryName, manifest: Box<Digest>, blob: Box<Digest> },
    #[error("the blob {digest} is damaged on the registry's disk: push it again")]
    Damaged { digest: Digest },
    #[error("{digest} was deleted during the export: run the command again")]
    Changed { digest: Digest },
    #[error("{} exists already: remove it first, or choose another name", path.display())]
    Exists { path: PathBuf },
    #[error("another export writes to {}", path.display())]
    Busy { path: PathBuf },
    #[error("{} is in the data directory of the registry: choose a path outside of it", path.display())]
    Inside { path: PathBuf },
    #[error("the export was cancelled")]
    Cancelled,
    #[error(transparent)]
    Io(#[from] PathError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Content(#[from] Error),
}

impl Have {
    /// Adds the digests of a list, one a line.
    pub(crate) fn add_list(&mut self, list: impl io::Read) -> io::Result<()> {
        for line in BufReader::new(list.take(LIST_BYTES_MAX)).lines() {
            let line = line?;
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                self.0.insert(line.parse().map_err(|error| io::Error::other(format!("{error}")))?);
            }
        }
        Ok(())
    }

    /// Adds the blobs of an earlier export.
    pub(crate) fn add_export(&mut self, path: &Path) -> Result<(), SourceError> {
        self.0.extend(Source::open(path, &Scratch::of_system())?.digests()?);
        Ok(())
    }

    /// Writes a list that [`Have::add_list`] reads.
    pub(crate) fn write_list(&self, mut to: impl Write) -> io::Result<()> {
        self.0.iter().try_for_each(|digest| writeln!(to, "{digest}"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, digest: Digest) -> bool {
        self.0.contains(&digest)
    }
}

impl Export<'_> {
    /// Writes an archive, if the name of `target` ends with `.tar`, otherwise a layout in a new directory. `pause` is called
    /// between two blobs, and may cancel the export. Blocks.
    pub(crate) fn run(
        &self,
        target: &Path,
        pause: &dyn Fn(Duration) -> ControlFlow<()>,
    ) -> Result<Exported, ExportError> {
        let directory = target.parent().unwrap_or(target);
        let is_inside = self.stores.is_inside(directory).map_err(PathError::at("examine", directory))?;
        if is_inside {
            return Err(ExportError::Inside { path: target.to_owned() });
        }
        // From here on no file of a blob is removed.
        let _kept = self.stores.keep_files();
        let plan = Plan::make(self)?;
        let mut exported = plan.summary.clone();
        let mut writer = Writer::create(target)?;
        writer.add_bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        writer.add_bytes("index.json", &plan.index())?;
        for (digest, piece) in &plan.pieces {
            let began = Instant::now();
            let name = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
            match piece {
                plan::Piece::Manifest { name: repository, size } => {
                    let bytes = self.stores.repository(repository).manifest_bytes(*digest)?;
                    let bytes = bytes.ok_or(ExportError::Changed { digest: *digest })?;
                    writer.add_bytes(&name, &bytes)?;
                    exported.bytes += size;
                }
                plan::Piece::Blob { size } if self.have.contains(*digest) => {
                    exported.omitted += 1;
                    exported.omitted_bytes += size;
                }
                plan::Piece::Blob { size } => {
                    let part = self.stores.blob_part(*digest)?.filter(|part| part.size() == *size);
                    writer.add_part(&name, &part.ok_or(ExportError::Damaged { digest: *digest })?, *digest)?;
                    exported.blobs += 1;
                    exported.bytes += size;
                    self.ongoing.note_read(*size);
                }
            }
            self.ongoing.note_export(&exported);
            if pause(began.elapsed()).is_break() {
                return Err(ExportError::Cancelled);
            }
        }
        writer.finish()?;
        Ok(exported)
    }
}
