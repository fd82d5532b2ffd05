//! [`LargeManifests`]: the bytes of large manifests that responses are sending, shared by all of them.
//!
//! Many clients may request one large manifest and read it slowly. They share one copy of its bytes.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Error, Repository};
use crate::kit::byte_budget::ReservedBytes;
use crate::oci::{Digest, Reference, RepositoryName};

/// Large manifests that are in memory. An entry whose last response has ended is removed when the next one is added.
#[derive(Debug, Default)]
pub(super) struct LargeManifests(Mutex<HashMap<(RepositoryName, Digest), Weak<Bytes>>>);

/// One copy of the bytes.
struct Copy(Arc<Bytes>);

impl AsRef<[u8]> for Copy {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl LargeManifests {
    pub(super) fn get(&self, name: &RepositoryName, digest: Digest) -> Option<Bytes> {
        let found = self.0.lock().get(&(name.clone(), digest))?.upgrade()?;
        Some(Bytes::from_owner(Copy(found)))
    }

    /// Adds a manifest. Returns the copy to send, which is an older one if there is one.
    fn add(&self, name: &RepositoryName, digest: Digest, bytes: Bytes) -> Bytes {
        let mut all = self.0.lock();
        all.retain(|_, bytes| bytes.strong_count() > 0);
        let entry = all.entry((name.clone(), digest)).or_default();
        let shared = entry.upgrade().unwrap_or_else(|| Arc::new(bytes));
        *entry = Arc::downgrade(&shared);
        Bytes::from_owner(Copy(shared))
    }
}

impl Repository {
    /// Reads the bytes of a manifest into memory that is reserved for them.
    pub(crate) fn large_manifest(&self, digest: Digest, reserved: ReservedBytes) -> Result<Bytes, Error> {
        let large = &self.stores.large_manifests;
        if let Some(bytes) = large.get(&self.name, digest) {
            return Ok(bytes);
        }
        let read = self.stores.database.read(|tx| {
            let is_known = tx.manifest(&self.name, digest)?.is_some();
            if is_known { tx.manifest_bytes(&self.name, digest) } else { Ok(None) }
        });
        let bytes = read?.ok_or(Error::ManifestUnknown { reference: Reference::Digest(digest) })?;
        Ok(large.add(&self.name, digest, reserved.hold(bytes)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::scene::{Scene, image, rules};
    use crate::kit::byte_budget::ByteBudget;

    #[test]
    fn responses_share_the_bytes_of_a_large_manifest() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let manifest = image(&[config], None, &"x".repeat(100_000));
        let digest = repository.push_manifest(&manifest, &["t"]).unwrap();
        let reference = Reference::Tag("t".parse().unwrap());
        assert!(repository.manifest_at_hand(&reference).unwrap().1.is_none());

        let size = manifest.len() as u64;
        let budget = ByteBudget::new(200_000);
        let read = || repository.large_manifest(digest, budget.try_reserve(size)?).ok();
        let first = read().unwrap();
        let second = repository.manifest_at_hand(&reference).unwrap().1.unwrap();
        assert_eq!((&first[..], first.as_ptr()), (manifest.as_bytes(), second.as_ptr()));
        // Two copies would need more than the budget.
        drop((first, read()));
        assert!(budget.try_reserve(size).is_none(), "the bytes that the second response sends are not counted");
        drop(second);
        assert!(budget.try_reserve(200_000).is_some());
        assert!(repository.manifest_at_hand(&reference).unwrap().1.is_none());
    }
}
