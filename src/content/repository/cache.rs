//! [`ManifestCache`]: manifests that are often requested, so that they need no look into the database.
//!
//! Invariant: the cache returns what the database holds. So all entries belong to one [`Version`] of the database,
//! which every change ends. Missing manifests are not cached.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::manifest::ManifestBytes;
use crate::content::rows::Version;
use crate::oci::{Reference, RepositoryName};

/// The size of all entries together, in bytes.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// A larger manifest is read each time, which costs little compared with sending it; in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
/// The overhead of an entry, in bytes.
const ENTRY_BYTES: usize = 512;

/// Slots for lookups that are not cached yet.
const SEEN: usize = 1024;

/// Manifests by the repository and reference under which they were requested.
pub(super) struct ManifestCache {
    entries: RwLock<Entries>,
    /// Hashes of recent lookups: a manifest is cached at its second request. A client that walks through the whole
    /// registry requests each manifest once, and does not displace what others request.
    seen: [AtomicU64; SEEN],
    hasher: RandomState,
}

/// Shows none of the manifests.
impl fmt::Debug for ManifestCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ManifestCache")
    }
}

impl Default for ManifestCache {
    fn default() -> Self {
        let seen = [const { AtomicU64::new(0) }; SEEN];
        Self { entries: RwLock::default(), seen, hasher: RandomState::new() }
    }
}

#[derive(Default)]
struct Entries {
    /// The version of the database that the entries belong to.
    version: Option<Version>,
    manifests: HashMap<(RepositoryName, Reference), ManifestBytes>,
    bytes: usize,
}

impl ManifestCache {
    /// Whether a manifest of this size is cached.
    pub(super) const fn takes(size: u64) -> bool {
        size <= MANIFEST_BYTES_MAX
    }

    /// The manifest, if it is cached for this version.
    pub(super) fn get(&self, version: Version, name: &RepositoryName, reference: &Reference) -> Option<ManifestBytes> {
        let entries = self.entries.read();
        let found = if entries.version == Some(version) { &entries.manifests } else { return None };
        found.get(&(name.clone(), reference.clone())).cloned()
    }

    /// Returns whether this was recently looked up, and notes the lookup.
    fn is_seen(&self, name: &RepositoryName, reference: &Reference) -> bool {
        let hash = self.hasher.hash_one((name, reference));
        let slot = &self.seen[usize::try_from(hash % SEEN as u64).unwrap_or_default()];
        slot.swap(hash, Ordering::Relaxed) == hash
    }

    /// Caches a manifest that was read in this version or later, at its second request.
    pub(super) fn keep(
        &self,
        version: Version,
        name: &RepositoryName,
        reference: &Reference,
        manifest: &ManifestBytes,
    ) {
        if !Self::takes(manifest.info.size) || !self.is_seen(name, reference) {
            return;
        }
        let bytes = manifest.bytes.len() + ENTRY_BYTES;
        let mut entries = self.entries.write();
        if entries.version.is_some_and(|of| of > version) {
            return;
        }
        // A full cache starts again. The popular manifests are back at once, without any bookkeeping.
        if entries.version != Some(version) || entries.bytes + bytes > BYTES_MAX {
            *entries = Entries { version: Some(version), ..Entries::default() };
        }
        if entries.manifests.insert((name.clone(), reference.clone()), manifest.clone()).is_none() {
            entries.bytes += bytes;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use bytes::Bytes;

    use super::*;
    use crate::content::repository::ManifestInfo;
    use crate::content::repository::scene::{Scene, image, rules};
    use crate::content::rows::Changes;
    use crate::oci::{Algorithm, Digest};

    fn manifest(bytes: Vec<u8>) -> ManifestBytes {
        let info = ManifestInfo {
            digest: Digest::of(Algorithm::Sha256, &bytes),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            size: bytes.len() as u64,
            subject: None,
        };
        ManifestBytes { info, bytes: Bytes::from(bytes) }
    }

    #[test]
    fn what_was_kept_goes_with_its_version() {
        let (cache, changes) = (ManifestCache::default(), Changes::default());
        let (name, tag) = ("a".parse().unwrap(), Reference::Tag("latest".parse().unwrap()));
        let first = changes.version().unwrap();
        cache.keep(first, &name, &tag, &manifest(b"{}".to_vec()));
        assert!(cache.get(first, &name, &tag).is_none(), "it was requested once");
        cache.keep(first, &name, &tag, &manifest(b"{}".to_vec()));
        assert_eq!(cache.get(first, &name, &tag).unwrap().bytes, "{}");
        assert!(cache.get(first, &"b".parse().unwrap(), &tag).is_none());
        drop(changes.begin());
        let second = changes.version().unwrap();
        assert!(cache.get(second, &name, &tag).is_none());
        cache.keep(second, &name, &tag, &manifest(b"{ }".to_vec()));
        // A lookup from before the change comes too late.
        cache.keep(first, &name, &tag, &manifest(b"{}".to_vec()));
        assert!(cache.get(first, &name, &tag).is_none());
        assert_eq!(cache.get(second, &name, &tag).unwrap().bytes, "{ }");
    }

    #[test]
    fn it_has_a_limit() {
        let (cache, changes) = (ManifestCache::default(), Changes::default());
        let version = changes.version().unwrap();
        let name = "a".parse().unwrap();
        let digest = |number: u32| Reference::Digest(Digest::of(Algorithm::Sha256, &number.to_le_bytes()));
        for number in 0..1000 {
            cache.keep(version, &name, &digest(number), &manifest(vec![b' '; 32 * 1024]));
            cache.keep(version, &name, &digest(number), &manifest(vec![b' '; 32 * 1024]));
            let entries = cache.entries.read();
            assert!(
                entries.bytes <= BYTES_MAX && entries.manifests.len() <= BYTES_MAX / (32 * 1024),
                "{}",
                entries.bytes
            );
        }
        assert!(cache.get(version, &name, &digest(999)).is_some());
        let large = manifest(vec![b' '; usize::try_from(MANIFEST_BYTES_MAX).unwrap() + 1]);
        cache.keep(version, &name, &digest(0), &large);
        cache.keep(version, &name, &digest(0), &large);
        assert!(cache.get(version, &name, &digest(0)).is_none());
    }

    #[test]
    fn nobody_reads_what_a_tag_named_before_an_acknowledged_push() {
        const PUSHES: usize = 400;
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let push =
            |number: usize| repository.push_manifest(&image(&[config], None, &number.to_string()), &["t"]).unwrap();
        // In the order in which the tag names them; and how many of these pushes were acknowledged.
        let pushed: Vec<_> = (0..PUSHES).map(push).collect();
        let acknowledged = AtomicUsize::new(0);
        push(0);
        std::thread::scope(|scope| {
            for reader in 0..3 {
                let (repository, pushed, acknowledged) = (&repository, &pushed, &acknowledged);
                scope.spawn(move || {
                    let tag = Reference::Tag("t".parse().unwrap());
                    let mut seen = 0;
                    while seen + 1 < PUSHES {
                        let least = acknowledged.load(Ordering::SeqCst).max(seen);
                        let digest = match reader {
                            0 => repository.manifest_info(&tag).unwrap().digest,
                            _ => repository.manifest(&tag).unwrap().info.digest,
                        };
                        seen = pushed.iter().position(|pushed| *pushed == digest).unwrap();
                        assert!(seen >= least, "the tag names manifest {seen} after it named {least}");
                    }
                });
            }
            for number in 1..PUSHES {
                push(number);
                acknowledged.store(number, Ordering::SeqCst);
            }
        });
    }
}
