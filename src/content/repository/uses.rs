//! The last uses of mirrored content, by which [`super::evict`] chooses what goes.
//!
//! They are collected in memory, because a pull must not wait for a write. Maintenance writes them with the counts of
//! pulls. A crash loses those since the last time.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{Error, Repository, Stores};
use crate::content::rows::WriteTx;
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, RepositoryName};

/// The most uses that are collected. Further ones are not noted until the others are written.
const USES_MAX: usize = 10_000;
/// The most uses in one transaction.
const STEP: usize = 256;

/// The uses that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<(RepositoryName, Digest), Timestamp>>);

impl Uses {
    fn note(&self, name: &RepositoryName, digest: Digest, now: Timestamp) {
        let mut uses = self.0.lock();
        let key = (name.clone(), digest);
        if uses.len() < USES_MAX || uses.contains_key(&key) {
            let last = uses.entry(key).or_insert(now);
            *last = now.max(*last);
        }
    }

    /// Whether content was used since the uses were last written.
    pub(super) fn has(&self, name: &RepositoryName, digest: Digest) -> bool {
        self.0.lock().contains_key(&(name.clone(), digest))
    }
}

impl Repository {
    /// Notes that a mirrored manifest or blob is used.
    pub(crate) fn note_use(&self, digest: Digest) {
        self.stores.uses.note(&self.name, digest, self.stores.clock.now());
    }
}

impl Stores {
    /// Whether there are uses to write.
    pub(crate) fn has_uses(&self) -> bool {
        !self.uses.0.lock().is_empty()
    }

    /// Writes the uses that were collected. If that fails, they are written later.
    pub(crate) fn write_uses(&self) -> Result<(), Error> {
        if self.database.is_read_only() {
            return Ok(());
        }
        let collected: Vec<_> = std::mem::take(&mut *self.uses.0.lock()).into_iter().collect();
        for (done, step) in collected.chunks(STEP).enumerate() {
            let uses = step.to_vec();
            let written = self.database.write(move |tx| {
                uses.into_iter().try_for_each(|((name, digest), used)| write(tx, &name, digest, used))
            });
            if let Err(error) = written {
                for ((name, digest), used) in &collected[done * STEP..] {
                    self.uses.note(name, *digest, *used);
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Writes the use of content that has a row of uses: it is mirrored, and still exists.
fn write(tx: &mut WriteTx, name: &RepositoryName, digest: Digest, used: Timestamp) -> Result<(), Error> {
    match tx.mirror_use(name, digest)? {
        Some(last) if last < used => Ok(tx.put_mirror_use(name, digest, used)?),
        _ => Ok(()),
    }
}
