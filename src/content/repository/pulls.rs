//! Counts of pulls. They are collected in memory, because a pull must not wait for a write.
//!
//! Maintenance writes them every few seconds and at an orderly stop. A crash loses those since the last time.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{Error, Repository, Stores};
use crate::content::rows::Pulls;
use crate::oci::{Digest, RepositoryName};

/// The most manifests whose pulls are collected. Pulls of further ones are not counted until the others are written.
const MANIFESTS_MAX: usize = 10_000;
/// The most manifests in one transaction.
const STEP: usize = 256;

type Counts = HashMap<(RepositoryName, Digest), Pulls>;

/// The pulls that are not written yet.
#[derive(Debug, Default)]
pub(super) struct PullCounts(Mutex<Counts>);

impl PullCounts {
    fn add(&self, name: &RepositoryName, digest: Digest, more: Pulls) {
        let mut counts = self.0.lock();
        let has_room = counts.len() < MANIFESTS_MAX;
        let key = (name.clone(), digest);
        if has_room || counts.contains_key(&key) {
            counts.entry(key).or_default().add(more);
        }
    }

    /// The number of manifests whose pulls are not written yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().len()
    }
}

impl Repository {
    /// Counts a pull of a manifest.
    pub(crate) fn count_pull(&self, digest: Digest) {
        let pull = Pulls { count: 1, last: Some(self.stores.clock.now()) };
        self.stores.pulls.add(&self.name, digest, pull);
    }
}

impl Stores {
    /// Whether there are pulls to write.
    pub(crate) fn has_pulls(&self) -> bool {
        !self.pulls.0.lock().is_empty()
    }

    /// Writes the pulls that were collected. If that fails, they are written later.
    pub(crate) fn write_pulls(&self) -> Result<(), Error> {
        if self.database.is_read_only() {
            return Ok(());
        }
        let collected: Vec<_> = std::mem::take(&mut *self.pulls.0.lock()).into_iter().collect();
        for (done, step) in collected.chunks(STEP).enumerate() {
            let pulls = step.to_vec();
            let written = self.database.write(move |tx| {
                for ((name, digest), pulls) in pulls {
                    tx.add_pulls(&name, digest, pulls)?;
                }
                Ok::<_, Error>(())
            });
            if let Err(error) = written {
                for ((name, digest), pulls) in &collected[done * STEP..] {
                    self.pulls.add(name, *digest, *pulls);
                }
                return Err(error);
            }
        }
        Ok(())
    }
}
