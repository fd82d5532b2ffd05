//! Migration: references to layers of foreign types, which earlier versions did not store.
//!
//! Such a layer may be missing in the repository. If it exists, a row in `listings` references it, which a push of the
//! manifest writes. Earlier versions wrote no such row, and their garbage collection removed these layers.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::manifest::stored_manifest;
use super::{Error, Stores};
use crate::content::rows::SETTING_OPTIONAL_LISTED;
use crate::oci::{Digest, RepositoryName};

/// The number of manifests that one transaction reads.
const STEP: usize = 64;

impl Stores {
    /// Whether [`Stores::list_optional_layers`] has work to do.
    pub(crate) fn has_unlisted_layers(&self) -> Result<bool, Error> {
        Ok(self.database.read(|tx| tx.setting(SETTING_OPTIONAL_LISTED))?.as_deref() != Some(&[1]))
    }

    /// Writes the missing rows of foreign layers, once for each database. Returns false if `pause` cancelled it. The next
    /// call starts again.
    pub(super) fn list_optional_layers_once(
        &self,
        pause: &mut dyn FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        if !self.has_unlisted_layers()? {
            return Ok(true);
        }
        let mut after = String::new();
        while let Some(names) = self.next_names(&mut after)? {
            for name in names {
                let manifests = self.database.read(|tx| tx.contents(&name))?.manifests;
                for step in manifests.chunks(STEP) {
                    let began = Instant::now();
                    self.list_optional_layers_of(&name, step)?;
                    if pause(began.elapsed()).is_break() {
                        return Ok(false);
                    }
                }
            }
        }
        self.database.write(|tx| tx.set_setting(SETTING_OPTIONAL_LISTED, &[1]))?;
        Ok(true)
    }

    fn list_optional_layers_of(&self, name: &RepositoryName, manifests: &[Digest]) -> Result<(), Error> {
        let mut found = Vec::new();
        self.database.read(|tx| {
            for digest in manifests {
                // A damaged manifest is skipped.
                let Ok(Some(manifest)) = stored_manifest(tx, name, *digest) else { continue };
                found.extend(manifest.optional_blobs().iter().map(|layer| (*digest, *layer)));
            }
            Ok::<_, Error>(())
        })?;
        if found.is_empty() {
            return Ok(());
        }
        let name = name.clone();
        self.database.write(move |tx| {
            for (manifest, layer) in found {
                if tx.manifest(&name, manifest)?.is_some() {
                    tx.put_listing(&name, layer, manifest)?;
                }
            }
            Ok(())
        })
    }

    /// As [`Stores::list_optional_layers_once`], for maintenance.
    pub(crate) fn list_optional_layers(
        &self,
        mut pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        let _alone = self.collecting.lock();
        self.list_optional_layers_once(&mut pause)
    }
}
