//! [`ManifestCache`]: manifests that are asked for again and again, without looking into the database.
//!
//! Knows nothing of what changes them. What must hold: what is found is what the database says. So all of it belongs
//! to one [`Version`] of the database, which every change ends; and that something is missing is not remembered.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::manifest::ManifestBytes;
use crate::content::rows::Version;
use crate::oci::{Reference, RepositoryName};

/// What all manifests together may have, in bytes.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// A larger manifest is looked up each time, which is little beside sending it; in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
/// What one costs beside its own bytes.
const ENTRY_BYTES: usize = 512;

/// As many are told apart of those that were looked up lately and not kept.
const SEEN: usize = 1024;

/// Manifests by the names under which they were asked for.
pub(super) struct ManifestCache {
    kept: RwLock<Kept>,
    /// Marks of what was looked up: it is kept the second time. Whoever walks through a whole registry asks for each
    /// manifest once, and neither pays for keeping it nor puts away what others ask for.
    seen: [AtomicU64; SEEN],
    marks: RandomState,
}

/// None of the manifests: they are megabytes.
impl fmt::Debug for ManifestCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ManifestCache")
    }
}

impl Default for ManifestCache {
    fn default() -> Self {
        let seen = [const { AtomicU64::new(0) }; SEEN];
        Self { kept: RwLock::default(), seen, marks: RandomState::new() }
    }
}

#[derive(Default)]
struct Kept {
    /// Of this version of the database.
    version: Option<Version>,
    manifests: HashMap<(RepositoryName, Reference), ManifestBytes>,
    bytes: usize,
}

impl ManifestCache {
    /// Whether a manifest of so many bytes is kept.
    pub(super) const fn takes(size: u64) -> bool {
        size <= MANIFEST_BYTES_MAX
    }

    /// The manifest, if it was asked for in this version.
    pub(super) fn get(&self, version: Version, name: &RepositoryName, reference: &Reference) -> Option<ManifestBytes> {
        let kept = self.kept.read();
        let found = if kept.version == Some(version) { &kept.manifests } else { return None };
        found.get(&(name.clone(), reference.clone())).cloned()
    }

    /// Whether something was looked up lately. It was, from now on.
    fn is_seen(&self, name: &RepositoryName, reference: &Reference) -> bool {
        let mark = self.marks.hash_one((name, reference));
        let slot = &self.seen[usize::try_from(mark % SEEN as u64).unwrap_or_default()];
        slot.swap(mark, Ordering::Relaxed) == mark
    }

    /// Keeps a manifest that was looked up after the database had come to this version, if it is worth that.
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
        let mut kept = self.kept.write();
        if kept.version.is_some_and(|of| of > version) {
            return;
        }
        // Which of them are asked for again shows at once, so that nobody has to keep account of it.
        if kept.version != Some(version) || kept.bytes + bytes > BYTES_MAX {
            *kept = Kept { version: Some(version), ..Kept::default() };
        }
        if kept.manifests.insert((name.clone(), reference.clone()), manifest.clone()).is_none() {
            kept.bytes += bytes;
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
        assert!(cache.get(first, &name, &tag).is_none(), "it was asked for once");
        cache.keep(first, &name, &tag, &manifest(b"{}".to_vec()));
        assert_eq!(cache.get(first, &name, &tag).unwrap().bytes, "{}");
        assert!(cache.get(first, &"b".parse().unwrap(), &tag).is_none());
        drop(changes.begin());
        let second = changes.version().unwrap();
        assert!(cache.get(second, &name, &tag).is_none());
        cache.keep(second, &name, &tag, &manifest(b"{ }".to_vec()));
        // Whoever has looked it up before the change comes too late.
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
            let kept = cache.kept.read();
            assert!(kept.bytes <= BYTES_MAX && kept.manifests.len() <= BYTES_MAX / (32 * 1024), "{}", kept.bytes);
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
